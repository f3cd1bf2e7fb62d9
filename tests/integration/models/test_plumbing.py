"""Outbox, inbox, idempotency keys, rate limits: each commits with its cause or not at all."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import idempotency, inbox, outbox, rate_limits
from models.db import Database
from models.errors import Conflict, Invalid, PaymentRequired, RateLimited
from models.messages import codec
from models.messages.commands import CloseRoom
from models.plumbing import OutboxRow


def rows(database: Database) -> list[OutboxRow]:
    with database.reading() as tx:
        return list(tx.scalars(select(OutboxRow).order_by(OutboxRow.seq)))


def test_the_three_kinds_of_messages_keep_their_order(database: Database, now: datetime) -> None:
    command = CloseRoom(
        message_id="msg_1", cause_id="ses_1", deadline_at=1.0, room_id="private-1", reason="NO_SHOW"
    )

    def work(tx: Session) -> None:
        outbox.command(tx, "media-1", command, now=now)
        outbox.actor(tx, "rules", "apply_rule", "req_1", cause_id="req_1", now=now)
        outbox.notify(tx, "usr_1", {"type": "SESSION_CHANGED"}, cause_id="ses_1", now=now)
        outbox.notify(tx, None, {"type": "STREAM_STARTED", "at": "earlier"}, now=now)

    database.run(work)
    written = rows(database)
    assert [(row.kind, row.destination, row.actor, row.cause_id) for row in written] == [
        ("command", "media-1", None, "ses_1"),
        ("actor", "rules", "apply_rule", "req_1"),
        ("feed", "usr_1", None, "ses_1"),
        ("feed", None, None, ""),
    ]
    assert written[0].message_id == "msg_1"
    assert codec.decode_command(written[0].body) == command
    assert [json.loads(row.body) for row in written[1:]] == [
        ["req_1"],
        {"type": "SESSION_CHANGED", "at": "2026-01-02T03:04:05.678Z"},
        {"type": "STREAM_STARTED", "at": "earlier"},
    ]
    assert len({row.message_id for row in written}) == 4


def test_the_same_command_is_one_message(database: Database) -> None:
    command = CloseRoom(
        message_id="msg_1", cause_id="ses_1", deadline_at=1.0, room_id="private-1", reason="NO_SHOW"
    )
    for _ in range(2):
        database.run(lambda tx: outbox.command(tx, "media-1", command))
    assert len(rows(database)) == 1


def test_a_message_of_a_refused_change_is_never_sent(database: Database) -> None:
    def work(tx: Session) -> None:
        outbox.notify(tx, None, {"type": "STREAM_STARTED"})
        raise Conflict("no")

    with pytest.raises(Conflict):
        database.run(work)
    assert rows(database) == []


def test_a_message_counts_once_unless_its_work_failed(database: Database, now: datetime) -> None:
    def fails(tx: Session) -> None:
        assert inbox.first_time(tx, "msg_1", now)
        raise Conflict("no")

    with pytest.raises(Conflict):
        database.run(fails)
    assert database.run(lambda tx: inbox.first_time(tx, "msg_1", now))
    assert not database.run(lambda tx: inbox.first_time(tx, "msg_1", now))
    assert database.run(lambda tx: inbox.first_time(tx, "msg_2", now))


class Calls:
    """A route that answers with how often it worked."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database, self.now, self.worked = database, now, 0

    def __call__(
        self, body: bytes = b"{}", *, person: str = "usr_1", route: str = "extend", key: str = "k"
    ) -> bytes:
        def work(tx: Session) -> bytes:
            stored = idempotency.claim(tx, person_id=person, route=route, key=key, body=body, now=self.now)
            if stored is not None:
                assert stored.status == 201
                return stored.body
            self.worked += 1
            answer = str(self.worked).encode()
            if body == b"bad":
                raise PaymentRequired("no")
            idempotency.store(tx, person_id=person, route=route, key=key, status=201, body=answer)
            return answer

        return self.database.run(work)


def test_a_repeated_call_gets_the_first_answer(database: Database, now: datetime) -> None:
    call = Calls(database, now)
    assert [call(), call(), call()] == [b"1", b"1", b"1"]


def test_keys_are_scoped_by_person_and_route(database: Database, now: datetime) -> None:
    call = Calls(database, now)
    assert [call(), call(person="usr_2"), call(route="request"), call(key="other")] == [b"1", b"2", b"3", b"4"]


def test_another_body_under_the_same_key_is_refused(database: Database, now: datetime) -> None:
    call = Calls(database, now)
    call()
    with pytest.raises(Invalid) as refusal:
        call(b'{"minutes": 2}')
    assert refusal.value.code == "IDEMPOTENCY_KEY_REUSED"


def test_a_refusal_is_not_replayed(database: Database, now: datetime) -> None:
    call = Calls(database, now)
    with pytest.raises(PaymentRequired):
        call(b"bad")
    assert call() == b"2"


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_a_length(database: Database, now: datetime, key: str) -> None:
    with pytest.raises(Invalid):
        Calls(database, now)(key=key)


def test_a_limit_refuses_until_its_window_is_over(database: Database, now: datetime) -> None:
    def hit(seconds: float = 0, key: str = "usr_1") -> None:
        moment = now + timedelta(seconds=seconds)
        database.run(lambda tx: rate_limits.hit(tx, key, limit=2, window_seconds=60, now=moment))

    hit()
    hit(1)
    with pytest.raises(RateLimited) as refusal:
        hit(15)
    assert refusal.value.fields == {"retry_after_seconds": 45}
    hit(15, key="usr_2")
    hit(60)
