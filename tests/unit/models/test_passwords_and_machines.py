"""Passwords, and the maps by which state moves."""

from __future__ import annotations

import pytest
from argon2 import Type, extract_parameters

from models.machine import Machine, allowed
from models.payments import PurchaseRow
from models.requests import OPEN, RequestRow
from models.services import accounts
from models.sessions import RUNNING, SessionRow
from models.streams import RoomRow, StreamRow
from tests import compiled


@pytest.fixture
def products_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere in the tests hashing is cheap."""
    monkeypatch.setattr(accounts, "_hasher", compiled.product_hasher)


@pytest.mark.usefixtures("products_own")
def test_a_hash_is_as_dear_as_rfc_9106_asks() -> None:
    parameters = extract_parameters(accounts.hash_password("correct horse"))
    assert parameters.type is Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (65_536, 3, 4)


@pytest.mark.usefixtures("products_own")
def test_a_password_fits_its_own_hash_alone() -> None:
    stored = accounts.hash_password("correct horse")
    assert stored.startswith("$argon2id$")
    assert accounts.verify_password(stored, "correct horse")
    assert not accounts.verify_password(stored, "correct horsf")
    assert accounts.hash_password("correct horse") != stored


@pytest.mark.parametrize("stored", ["", "not a hash", "$argon2id$v=19$broken"])
def test_a_broken_hash_fits_nothing(stored: str) -> None:
    assert not accounts.verify_password(stored, "")


def test_a_map_names_every_state() -> None:
    with pytest.raises(ValueError, match="gone"):
        allowed(here=("gone",))


@pytest.mark.parametrize("table", [PurchaseRow, RequestRow, SessionRow, StreamRow, RoomRow])
def test_every_state_can_be_reached_and_ends_are_final(table: type[Machine]) -> None:
    first = next(iter(table.ALLOWED))
    reached, todo = {first}, [first]
    while todo:
        new = table.ALLOWED[todo.pop()] - reached
        reached |= new
        todo.extend(new)
    assert reached == set(table.ALLOWED)


def test_the_lives_of_money_md() -> None:
    assert set(OPEN) == {state for state, nexts in RequestRow.ALLOWED.items() if nexts}
    assert RequestRow.ALLOWED["queued"].isdisjoint({"accepted"})
    assert set(RUNNING) | {"settling", "ended"} == set(SessionRow.ALLOWED)
    assert SessionRow.ALLOWED["settling"] == {"ended"}
    assert SessionRow.ALLOWED["ended"] == frozenset()
