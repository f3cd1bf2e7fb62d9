"""The real application over a real database, with people to call it."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from live_web import LiveWeb, environment_for
from web_people import PASSWORD, People, Someone

# The stage of the services' tests, for what only media can say.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
from stage import Call, Stage

from models.clock import utc_now
from models.config import Settings, load_settings
from models.db import Database
from models.services import accounts
from ops.rabbitmq import RabbitNode
from web import assets, create_app, limits

_digest_of = functools.cache(assets.digest_of)
"""The files under web/static do not change during the tests: read for the first application alone."""


@pytest.fixture
def environment(sqlite_url: str) -> dict[str, str]:
    """What the application is started with."""
    return environment_for(sqlite_url)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The same, read."""
    return load_settings(environment)


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application."""
    monkeypatch.setattr(assets, "digest_of", _digest_of)
    made = create_app(settings)
    yield made
    made.extensions["greenroom"].audience.close()
    made.extensions["greenroom"].rpc.close()
    made.extensions["database"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A program without cookies' worth of history."""
    return app.test_client()


@pytest.fixture(scope="session")
def password_hash() -> str:
    """One hash for everybody: making one takes a while."""
    return accounts.hash_password(PASSWORD)


@pytest.fixture
def people(app: Flask, password_hash: str) -> People:
    """Fans, creators and admins on demand."""
    return People(app.extensions["database"], password_hash)


@pytest.fixture
def creator(people: People) -> Someone:
    """A creator with a bearer token."""
    return people.creator()


@pytest.fixture
def fan(people: People) -> Someone:
    """A fan with 5,000 tokens and a bearer token."""
    return people.fan()


@pytest.fixture
def admin(people: People) -> Someone:
    """An admin with a bearer token."""
    return people.make("admin")


@pytest.fixture
def stage(people: People) -> Stage:
    """A stage on the application's database, now."""
    stage = Stage(people.database)
    stage.now = utc_now()
    stage.node_ready()
    return stage


@pytest.fixture
def ended(stage: Stage) -> Call:
    """A session of ten minutes, all of them delivered and paid: 1,000 tokens."""
    call = stage.running()
    stage.delivered(call.session_id, 2, 600_000)
    stage.call_ended(call.session_id, "time_expired", 600_000)
    return call


@pytest.fixture(scope="session")
def live_environment(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitNode
) -> dict[str, str]:
    """What the deployed app is started with. One proxy is trusted, so that each test has an address of its own."""
    path = tmp_path_factory.mktemp("live") / "greenroom.db"
    shutil.copy(sqlite_template, path)
    return environment_for(f"sqlite:///{path}", rabbit.virtual_host("live-web")) | {"TRUSTED_PROXIES": "1"}


@pytest.fixture(scope="session")
def live_server(live_environment: dict[str, str]) -> Iterator[LiveWeb]:
    """One deployed app for all tests that do not kill it."""
    with LiveWeb(live_environment) as web:
        yield web


@pytest.fixture
def live(live_server: LiveWeb) -> LiveWeb:
    """The same, seen from an address that no test before came from."""
    live_server.move()
    return live_server


@pytest.fixture
def live_people(live_environment: dict[str, str], password_hash: str) -> Iterator[People]:
    """People of the deployed app."""
    database = Database(live_environment["DATABASE_URL"])
    yield People(database, password_hash)
    database.close()


@pytest.fixture
def still_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No window of a limit ends while a slow machine is still counting up to it."""
    moment = utc_now()
    monkeypatch.setattr(limits, "utc_now", lambda: moment)


Page = Callable[[FlaskClient], dict[str, str]]


@pytest.fixture
def csrf() -> Page:
    """``csrf(client)``: the headers with which that browser's scripts call."""

    def read(client: FlaskClient) -> dict[str, str]:
        page = client.get("/login", follow_redirects=True).get_data(as_text=True)
        token = page.split('name="csrf-token" content="', 1)[1].split('"', 1)[0]
        return {"X-CSRFToken": token}

    return read
