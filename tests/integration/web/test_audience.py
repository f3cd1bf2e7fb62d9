"""The web process's count of spectators: who is heard, for how long, how often it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from on_air import OnAir, watch
from sqlalchemy import select
from web_people import People

from models.broadcasts import AudienceRow
from models.config import Settings
from models.db import Database
from web.audience import AGAIN_SECONDS, KEEP_SECONDS, Audience
from web.context import EXTENSION


class Time:
    """A clock that stands still until it is moved."""

    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


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


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def audience(database: Database, clock: Time) -> Iterator[Audience]:
    made = Audience(database, most=5, clock=clock)
    yield made
    made.close()


def written(database: Database) -> list[int]:
    with database.reading() as tx:
        return list(tx.scalars(select(AudienceRow.viewers).order_by(AudienceRow.viewers)))


def test_each_viewer_counts_once_and_until_nothing_is_heard_any_more(
    audience: Audience, clock: Time, database: Database, on_air: OnAir
) -> None:
    audience.report()
    assert written(database) == []
    for viewer in ("ann", "bob", "ann"):
        audience.heard(on_air.broadcast_id, viewer)
    audience.report()
    assert written(database) == [2]
    # when only one goes on
    clock.seconds += KEEP_SECONDS - 1
    audience.heard(on_air.broadcast_id, "ann")
    clock.seconds += 2
    audience.report()
    assert written(database) == [1]
    # and then nobody
    clock.seconds += KEEP_SECONDS
    audience.report()
    assert written(database) == []


def test_what_has_not_changed_is_written_only_before_it_is_too_old(
    audience: Audience, clock: Time, database: Database, on_air: OnAir
) -> None:
    audience.heard(on_air.broadcast_id, "ann")
    audience.report()

    def last() -> object:
        with database.reading() as tx:
            return tx.scalars(select(AudienceRow.at)).one()

    first = last()
    clock.seconds += AGAIN_SECONDS - 1
    audience.report()
    assert last() == first
    clock.seconds += 1
    audience.report()
    assert last() != first


def test_a_flood_of_viewers_fills_no_memory(
    audience: Audience, clock: Time, database: Database, on_air: OnAir
) -> None:
    for number in range(50):
        audience.heard(on_air.broadcast_id, f"viewer_{number}")
    audience.report()
    assert written(database) == [5]
    # and there is room again when they are gone
    clock.seconds += KEEP_SECONDS + 1
    audience.report()
    audience.heard(on_air.broadcast_id, "ann")
    audience.report()
    assert written(database) == [1]


def test_whoever_asks_for_the_address_or_a_playlist_is_heard(
    app: Flask, client: FlaskClient, on_air: OnAir, people: People, database: Database
) -> None:
    audience: Audience = app.extensions[EXTENSION].audience
    fan, other = people.make("fan"), people.make("fan")
    wish = {"roomId": on_air.stream.room_id}
    for _ in range(2):
        assert client.post("/api/streaming/spectate", json=wish, headers=fan.headers()).status_code == 200
    prefix = watch(client, on_air, other)
    audience.report()
    assert written(database) == [2]
    listed = client.get("/api/streaming/streams").get_json()["streams"]
    assert [(stream["viewers"], stream["spectators"]) for stream in listed] == [(2, 2)]
    # by playlists of an address that was given elsewhere, but not by a poster
    audience.close()
    later: Audience = Audience(database)
    object.__setattr__(app.extensions[EXTENSION], "audience", later)
    for name, count in (("poster.jpg", [2]), ("480p/s00001_1.m4s", [2]), ("480p/index.m3u8", [1, 2])):
        with client.get(f"{prefix}/{name}") as answer:
            assert answer.status_code == 200
        later.report()
        assert written(database) == count, name
