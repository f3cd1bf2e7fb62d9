"""People and tokens for tests of what is true."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from models import ledger
from models.db import Database
from models.services import accounts

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
MakePerson = Callable[..., str]
_numbers = itertools.count()


@pytest.fixture
def now() -> datetime:
    """The moment at which the test takes place."""
    return NOW


@pytest.fixture
def make_person(database: Database) -> MakePerson:
    """``make_person("fan", tokens=500)``: a person's id; the tokens are bought, one lot."""

    def make(*roles: str, tokens: int = 0) -> str:
        name = f"{roles[0]}_{next(_numbers)}"
        person = database.run(
            lambda tx: accounts.create_person(
                tx,
                email=f"{name}@people.test",
                handle=name,
                display_name=name,
                password_hash="no password fits this",
                roles=roles,
                now=NOW,
            )
        )
        if tokens:
            buy(database, person.user_id, tokens, f"first-of-{name}")
        return person.user_id

    return make


@pytest.fixture
def fan(make_person: MakePerson) -> str:
    """A fan with 1,000 bought tokens."""
    return make_person("fan", tokens=1_000)


@pytest.fixture
def creator(make_person: MakePerson) -> str:
    """A creator."""
    return make_person("creator")


def buy(database: Database, user_id: str, tokens: int, purchase_id: str, now: datetime = NOW) -> None:
    """Credit a purchase to the ledger."""
    database.run(
        lambda tx: ledger.top_up(
            tx,
            purchase_id=purchase_id,
            user_id=user_id,
            tokens=tokens,
            gateway="sandbox",
            cause_id="test",
            now=now,
        )
    )
