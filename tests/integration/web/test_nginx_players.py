"""nginx says who plays, a transcode worker counts: a shared address ends where nginx serves, too."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from nginx_front import Nginx, ask
from on_air import OnAir, watch
from sqlalchemy import select
from web_people import People

from models import sharing, spectator_addresses
from models.broadcasts import SpectatorBarRow
from models.config import Settings
from models.db import Database
from workers.transcode.players import PlayerLog


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {"HLS_DIR": str(tmp_path / "hls"), "PLAYERS_SOCKET": str(tmp_path / "players.sock")}


@pytest.fixture
def database(app: Flask) -> Database:
    found: Database = app.extensions["database"]
    return found


@pytest.fixture
def on_air(people: People, database: Database, settings: Settings) -> OnAir:
    creator = people.make("creator")
    return OnAir(creator, people.live(creator), database, settings.hls_dir)


@pytest.fixture
def nginx(settings: Settings, tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", settings) as made:
        yield made


@pytest.fixture
def player_log(settings: Settings, database: Database) -> Iterator[PlayerLog]:
    assert settings.players_socket is not None
    made = PlayerLog(database, settings.players_socket)
    made.step()  # listens
    yield made
    made.close()


def bars(database: Database) -> list[tuple[str, str, str]]:
    with database.reading() as tx:
        rows = tx.scalars(select(SpectatorBarRow))
        return [(row.broadcast_id, row.viewer_id, row.reason) for row in rows]


def play(nginx: Nginx, path: str, agent: str, player_log: PlayerLog) -> int:
    """One request, and whatever the worker heard of it."""
    status = ask(nginx.port, path, headers={"User-Agent": agent}).status
    player_log.step()
    return status


def test_the_fourth_device_bars_the_viewer(
    client: FlaskClient,
    on_air: OnAir,
    nginx: Nginx,
    player_log: PlayerLog,
    database: Database,
    settings: Settings,
) -> None:
    prefix = watch(client, on_air)
    viewer = prefix.rpartition("/")[2].split(".")[2]
    for agent in ("laptop", "telephone", "", "laptop"):
        assert play(nginx, f"{prefix}/480p/index.m3u8", agent, player_log) == 200
    # nor does the worker stumble over what is no line of nginx's
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for said in (b"", b"\xff" * 2_000, f"<190>x: {on_air.broadcast_id} {viewer} x".encode()):
            stranger.sendto(said, str(settings.players_socket))
            player_log.step()
    # neither segments nor what was refused count
    assert play(nginx, f"{prefix}/480p/s00001_1.m4s", "fourth", player_log) == 200
    assert play(nginx, f"{prefix[:-1]}/480p/index.m3u8", "fourth", player_log) == 403
    assert bars(database) == []
    assert play(nginx, f"{prefix}/master.m3u8", "fourth", player_log) == 200
    assert bars(database) == [(on_air.broadcast_id, viewer, sharing.REASON)]


def test_a_worker_that_comes_back_hears_again(
    client: FlaskClient, on_air: OnAir, nginx: Nginx, player_log: PlayerLog, database: Database
) -> None:
    path = f"{watch(client, on_air)}/480p/index.m3u8"
    assert play(nginx, path, "first", player_log) == 200
    # when nobody listens for a while, then viewers notice nothing
    player_log.close()
    assert [ask(nginx.port, path).status for _ in range(3)] == [200] * 3
    player_log.step()
    # nginx may lose one datagram on finding its old socket closed
    ask(nginx.port, path, headers={"User-Agent": "a"})
    player_log.step()
    for agent in "abcd":
        assert play(nginx, path, agent, player_log) == 200
    assert len(bars(database)) == 1


def test_the_socket_is_told_no_address_and_the_same_device_as_the_app_counts(
    client: FlaskClient,
    on_air: OnAir,
    nginx: Nginx,
    player_log: PlayerLog,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(player_log._players, "too_many", lambda *said: heard.extend(said[:3]) or False)
    prefix = watch(client, on_air)
    assert play(nginx, f"{prefix}/480p/index.m3u8", "player/1.0", player_log) == 200
    key = settings.key(spectator_addresses.KEY_PURPOSE)
    device = sharing.device("127.0.0.1", "player/1.0", key)
    assert heard == [on_air.broadcast_id, prefix.rpartition("/")[2].split(".")[2], device]
