"""Many at once: exactly as many win as there is something to win, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from together import together

from models import idempotency, inbox, ledger, rate_limits
from models.audit import books_problems
from models.db import Database
from models.errors import DomainError

AT_ONCE = 50


def test_fifty_holds_on_one_balance(database: Database, make_person: Callable[..., str], now: datetime) -> None:
    # given: enough for 7 of 50
    fan = make_person("fan", tokens=1_000)

    def hold(number: int) -> ledger.Transfer:
        return database.run(
            lambda tx: ledger.hold(
                tx, fan, 130, key=f"hold-{number}", reference=f"req_{number}", cause_id="test", now=now
            )
        )

    # when
    results = together(*[lambda number=number: hold(number) for number in range(AT_ONCE)])  # type: ignore[misc]
    # then
    assert sum(isinstance(result, ledger.Transfer) for result in results) == 1_000 // 130
    assert {result.code for result in results if isinstance(result, DomainError)} == {"INSUFFICIENT_TOKENS"}
    with database.reading() as tx:
        balances = ledger.balances(tx, fan)
        assert books_problems(tx) == ()
    assert (balances["wallet"], balances["held"]) == (90, 910)


def test_one_hold_asked_for_fifty_times(database: Database, fan: str, now: datetime) -> None:
    def hold() -> ledger.Transfer:
        return database.run(
            lambda tx: ledger.hold(tx, fan, 130, key="hold", reference="req", cause_id="test", now=now)
        )

    results = together(*[hold] * AT_ONCE)
    assert len({result.transfer_id for result in results if isinstance(result, ledger.Transfer)}) == 1
    assert len(results) == AT_ONCE
    with database.reading() as tx:
        assert ledger.balances(tx, fan)["held"] == 130


def test_release_and_settle_race_for_each_hold(
    database: Database, make_person: Callable[..., str], now: datetime
) -> None:
    """Different fans, one creator, one fees account: settlements meet there, and nothing is lost or doubled."""
    fans, creator = [make_person("fan", tokens=100) for _ in range(10)], make_person("creator")
    for fan in fans:
        database.run(
            lambda tx, fan=fan: ledger.hold(  # type: ignore[misc]
                tx, fan, 100, key=f"hold-{fan}", reference=f"req_{fan}", cause_id="test", now=now
            )
        )

    def settle(fan: str) -> ledger.Transfer:
        return database.run(
            lambda tx: ledger.settle(
                tx,
                f"req_{fan}",
                creator_id=creator,
                earnings=80,
                commission=20,
                key=f"settle-{fan}",
                cause_id="test",
                now=now,
            )
        )

    def release(fan: str) -> ledger.Transfer:
        return database.run(
            lambda tx: ledger.release(tx, f"req_{fan}", key=f"release-{fan}", cause_id="test", now=now)
        )

    results = together(*[lambda fan=fan, act=act: act(fan) for fan in fans for act in (settle, release)])  # type: ignore[misc]

    done = [result for result in results if isinstance(result, ledger.Transfer)]
    settled = sum(transfer.kind == "settle" for transfer in done)
    assert len(done) == len(fans)
    assert {result.code for result in results if isinstance(result, DomainError)} == {"HOLD_CLOSED"}
    with database.reading() as tx:
        assert ledger.balances(tx, creator)["earnings_pending"] == 80 * settled
        assert ledger.balance(tx, "fees") == 20 * settled
        assert books_problems(tx) == ()


def test_a_message_has_one_first_time(database: Database, now: datetime) -> None:
    results = together(*[lambda: database.run(lambda tx: inbox.first_time(tx, "msg_1", now))] * 20)
    assert results.count(True) == 1


def test_an_idempotency_key_has_one_owner(database: Database, now: datetime) -> None:
    worked: list[int] = []

    def call() -> bytes:
        def once(tx):  # type: ignore[no-untyped-def]
            stored = idempotency.claim(tx, person_id="usr_1", route="r", key="k", body=b"{}", now=now)
            if stored is not None:
                return stored.body
            worked.append(1)
            idempotency.store(tx, person_id="usr_1", route="r", key="k", status=201, body=b"first")
            return b"first"

        return database.run(once)  # type: ignore[no-any-return]

    assert together(*[call] * 20) == [b"first"] * 20
    assert len(worked) == 1


def test_a_rate_limit_lets_exactly_its_number_through(database: Database, now: datetime) -> None:
    def hit() -> bool:
        database.run(lambda tx: rate_limits.hit(tx, "key", limit=7, window_seconds=60, now=now))
        return True

    assert together(*[hit] * 20).count(True) == 7
