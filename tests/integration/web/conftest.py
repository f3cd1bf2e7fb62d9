"""The real application over a real database, with people to call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from web_people import PASSWORD, People

from models.config import Settings, load_settings
from models.services import accounts
from web import create_app

SECRET = "a-key-for-tests-only-that-is-long-enough"
# Nothing listens there: REST needs no broker.
NO_BROKER = "amqp://guest:guest@127.0.0.1:9/"


@pytest.fixture
def environment(sqlite_url: str) -> dict[str, str]:
    """What the application is started with."""
    return {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": sqlite_url,
        "AMQP_URL": NO_BROKER,
        "PUBLIC_URL": "http://localhost:8080",
        "CORS_ORIGINS": "https://partner.example",
        "TESTING": "1",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The same, read."""
    return load_settings(environment)


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application."""
    made = create_app(settings)
    yield made
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


Page = Callable[[FlaskClient], dict[str, str]]


@pytest.fixture
def csrf() -> Page:
    """``csrf(client)``: the headers with which that browser's scripts call."""

    def read(client: FlaskClient) -> dict[str, str]:
        page = client.get("/login", follow_redirects=True).get_data(as_text=True)
        token = page.split('name="csrf-token" content="', 1)[1].split('"', 1)[0]
        return {"X-CSRFToken": token}

    return read
