"""People: signing up, sign-ins and tokens, passwords, blocks."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from models.db import Database
from models.errors import Conflict, Invalid, NotFound
from models.services import accounts


def sign_up(database: Database, now: datetime, **other: str) -> accounts.Person:
    wish = {
        "email": "Ada@Example.test ",
        "handle": "ada_1",
        "display_name": "Ada",
        "password_hash": "hash",
    } | other
    return database.run(lambda tx: accounts.sign_up(tx, role="fan", now=now, **wish))  # type: ignore[arg-type]


def caller(database: Database, token: str, now: datetime) -> accounts.Caller | None:
    with database.reading() as tx:
        return accounts.person_by_token(tx, token, now=now)


def test_somebody_signs_up_and_is_found(database: Database, now: datetime) -> None:
    person = sign_up(database, now)
    assert person.user_id.startswith("usr_")
    assert (person.handle, person.roles, person.is_mock) == ("ada_1", ("fan",), False)
    with database.reading() as tx:
        assert accounts.find_credentials(tx, " ADA@example.test") == (person.user_id, "hash")
        assert accounts.find_by_handle(tx, "Ada_1") == person
        assert accounts.find_person(tx, person.user_id) == person
        assert accounts.find_credentials(tx, "nobody@example.test") is None
        assert accounts.find_by_handle(tx, "nobody") is None


@pytest.mark.parametrize(
    ("other", "code"), [({"handle": "ada_2"}, "EMAIL_TAKEN"), ({"email": "b@example.test"}, "HANDLE_TAKEN")]
)
def test_e_mail_and_handle_belong_to_one_person(
    database: Database, now: datetime, other: dict[str, str], code: str
) -> None:
    sign_up(database, now)
    with pytest.raises(Conflict) as refusal:
        sign_up(database, now, **other)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("field", "wish"),
    [
        ("email", {"email": "no address"}),
        ("email", {"email": "a@" + "b" * 300}),
        ("handle", {"handle": "ab"}),
        ("handle", {"handle": "has space"}),
        ("handle", {"handle": "x" * 31}),
        ("handle", {"handle": "ünïcode"}),
        ("displayName", {"display_name": "  "}),
        ("displayName", {"display_name": "a\nb"}),
    ],
)
def test_what_does_not_fit_is_refused_by_field(
    database: Database, now: datetime, field: str, wish: dict[str, str]
) -> None:
    with pytest.raises(Invalid) as refusal:
        sign_up(database, now, **wish)
    assert refusal.value.fields == {"field": field}


def test_only_known_roles_are_given(database: Database, now: datetime) -> None:
    for roles in ((), ("owner",)):
        with pytest.raises(Invalid):
            database.run(
                lambda tx, roles=roles: accounts.create_person(  # type: ignore[misc]
                    tx, email="a@b.test", handle="abc", display_name="A", password_hash="", roles=roles, now=now
                )
            )


@pytest.mark.parametrize(("kind", "days"), [("browser", 30), ("token", 7)])
def test_a_token_speaks_for_its_person_until_it_expires(
    database: Database, now: datetime, kind: accounts.Kind, days: int
) -> None:
    person = sign_up(database, now)
    opened = database.run(lambda tx: accounts.open_sign_in(tx, person.user_id, kind=kind, now=now))
    assert opened.expires_at == now + timedelta(days=days)
    found = caller(database, opened.token, opened.expires_at - timedelta(seconds=1))
    assert found is not None
    assert found.person == person
    assert (found.integrator_id, found.scopes) == (None, frozenset())
    assert caller(database, opened.token, opened.expires_at) is None
    assert caller(database, opened.token[:-1], now) is None


def test_tokens_are_not_in_the_database(database: Database, now: datetime) -> None:
    person = sign_up(database, now)
    opened = database.run(lambda tx: accounts.open_sign_in(tx, person.user_id, kind="token", now=now))
    _, shown = database.run(lambda tx: accounts.create_integrator_token(tx, "House", ["rooms:write"], now))
    with database.reading() as tx:
        stored = [
            str(row) for table in ("sign_ins", "api_tokens") for row in tx.execute(text(f"SELECT * FROM {table}"))
        ]
    assert len(stored) == 2
    assert not any(opened.token in row or shown in row for row in stored)


def test_signing_out_ends_one_sign_in(database: Database, now: datetime) -> None:
    person = sign_up(database, now)
    first, second = (
        database.run(lambda tx: accounts.open_sign_in(tx, person.user_id, kind="browser", now=now))
        for _ in range(2)
    )
    database.run(lambda tx: accounts.sign_out(tx, first.token, now))
    assert caller(database, first.token, now) is None
    assert caller(database, second.token, now) is not None


def test_a_new_password_signs_out_everywhere_and_nobody_else(database: Database, now: datetime) -> None:
    ada = sign_up(database, now)
    bob = sign_up(database, now, email="bob@example.test", handle="bob")
    tokens = {
        (person.handle, kind): database.run(
            lambda tx, person=person, kind=kind: accounts.open_sign_in(tx, person.user_id, kind=kind, now=now)  # type: ignore[misc]
        ).token
        for person in (ada, bob)
        for kind in ("browser", "token")
    }
    database.run(lambda tx: accounts.change_password(tx, ada.user_id, "new hash", now))
    valid = {name for name, token in tokens.items() if caller(database, token, now)}
    assert valid == {("bob", "browser"), ("bob", "token")}
    with database.reading() as tx:
        assert accounts.find_credentials(tx, "ada@example.test") == (ada.user_id, "new hash")
    with pytest.raises(NotFound):
        database.run(lambda tx: accounts.change_password(tx, "usr_unknown", "h", now))


def test_an_integrators_token_has_its_scopes_until_it_is_revoked(database: Database, now: datetime) -> None:
    token_id, token = database.run(
        lambda tx: accounts.create_integrator_token(tx, "House", ["rtc:terminate", "rooms:write"], now)
    )
    found = caller(database, token, now)
    assert found is not None
    assert (found.person, found.integrator_id) == (None, token_id)
    assert found.scopes == {"rtc:terminate", "rooms:write"}
    database.run(lambda tx: accounts.revoke_token(tx, token_id, now))
    assert caller(database, token, now) is None
    with pytest.raises(NotFound):
        database.run(lambda tx: accounts.revoke_token(tx, "int_unknown", now))


def test_an_integrators_token_may_expire(database: Database, now: datetime) -> None:
    end = now + timedelta(hours=1)
    _, token = database.run(
        lambda tx: accounts.create_integrator_token(tx, "House", ["rooms:write"], now, expires_at=end)
    )
    assert caller(database, token, end - timedelta(seconds=1)) is not None
    assert caller(database, token, end) is None


@pytest.mark.parametrize("scopes", [[], ["everything"]])
def test_only_known_scopes_are_given(database: Database, now: datetime, scopes: list[str]) -> None:
    with pytest.raises(Invalid):
        database.run(lambda tx: accounts.create_integrator_token(tx, "House", scopes, now))


def test_a_creator_blocks_and_unblocks(database: Database, now: datetime, fan: str, creator: str) -> None:
    for _ in range(2):
        database.run(lambda tx: accounts.block(tx, creator, fan, now))
    with database.reading() as tx:
        assert [person.user_id for person in accounts.blocked(tx, creator)] == [fan]
        assert accounts.is_blocked(tx, creator, fan)
        assert not accounts.is_blocked(tx, fan, creator)
    for _ in range(2):
        database.run(lambda tx: accounts.unblock(tx, creator, fan))
    with database.reading() as tx:
        assert accounts.blocked(tx, creator) == []
    with pytest.raises(Invalid):
        database.run(lambda tx: accounts.block(tx, creator, creator, now))
