"""An address that plays on more devices at once than a person has is good for nobody any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from on_air import OnAir, watch
from sqlalchemy import select
from web_people import People

from models import sharing, spectator_addresses
from models.broadcasts import SpectatorBarRow
from models.config import Settings
from models.db import Database
from models.services import spectating


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {"HLS_DIR": str(tmp_path / "hls")}


@pytest.fixture
def database(app: Flask) -> Database:
    found: Database = app.extensions["database"]
    return found


@pytest.fixture
def on_air(people: People, database: Database, settings: Settings) -> OnAir:
    creator = people.make("creator")
    return OnAir(creator, people.live(creator), database, settings.hls_dir)


def play(client: FlaskClient, path: str, *, address: str, agent: str = "player") -> tuple[int, str]:
    """One request by a device: the status, and the code of a refusal."""
    with client.get(path, headers={"User-Agent": agent}, environ_overrides={"REMOTE_ADDR": address}) as answer:
        return answer.status_code, (answer.get_json(silent=True) or {}).get("code", "")


def bars(database: Database) -> list[tuple[str, str, str]]:
    with database.reading() as tx:
        rows = tx.scalars(select(SpectatorBarRow))
        return [(row.broadcast_id, row.viewer_id, row.reason) for row in rows]


def test_the_fourth_device_bars_the_viewer_for_this_broadcast(
    client: FlaskClient,
    on_air: OnAir,
    people: People,
    database: Database,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fan, other = people.make("fan"), people.make("fan")
    prefix, theirs = watch(client, on_air, fan), watch(client, on_air, other)
    viewer = prefix.rpartition("/")[2].split(".")[2]
    # given three devices of one fan, over and over
    for _ in range(3):
        for name in ("master.m3u8", "480p/index.m3u8", "audio/index.m3u8"):
            assert play(client, f"{prefix}/{name}", address="203.0.113.1", agent="laptop")[0] == 200
            assert play(client, f"{prefix}/{name}", address="203.0.113.1", agent="telephone")[0] == 200
            assert play(client, f"{prefix}/{name}", address="2001:db8::1", agent="telephone")[0] == 200
    # segments count for nobody: they are what caches and prefetching ask for
    assert play(client, f"{prefix}/480p/s00001_1.m4s", address="198.51.100.7")[0] == 200
    assert bars(database) == []
    # when a fourth one plays it
    with caplog.at_level("INFO"):
        assert play(client, f"{prefix}/480p/index.m3u8", address="198.51.100.7") == (403, "BARRED")
    # then the viewer is barred, the log says why and not where from, and there is no new address
    assert bars(database) == [(on_air.broadcast_id, viewer, sharing.REASON)]
    said = [record.getMessage() for record in caplog.records if "spectator_barred" in record.getMessage()]
    assert said == [f"spectator_barred broadcast_id={on_air.broadcast_id} reason=shared"]
    assert "198.51" not in caplog.text
    assert play(client, f"{prefix}/480p/index.m3u8", address="198.51.100.7") == (403, "BARRED")
    again = client.get(f"/live/{on_air.stream.room_id}/master.m3u8", headers=fan.headers())
    assert again.status_code == 403
    with database.reading() as tx:
        key = settings.key(spectator_addresses.KEY_PURPOSE)
        assert spectating.barred(tx, key) == {(on_air.broadcast_id, viewer)}
    # and others watch on
    assert play(client, f"{theirs}/480p/index.m3u8", address="198.51.100.7")[0] == 200


class TestBehindACdn:
    """The CDN asks for everybody, from wherever it is."""

    @pytest.fixture
    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        return environment | {"CDN_BASE_URL": "https://cdn.example"}

    def test_nobody_is_taken_for_sharing(self, client: FlaskClient, on_air: OnAir, database: Database) -> None:
        path = watch(client, on_air).removeprefix("https://cdn.example")
        for number in range(6):
            assert play(client, f"{path}/480p/index.m3u8", address=f"203.0.{number}.1")[0] == 200
        assert bars(database) == []
