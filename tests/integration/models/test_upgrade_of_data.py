"""A database of an earlier release, with rows in it, is brought to the newest schema and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, Table, create_engine, inspect
from sqlalchemy.engine import Connection

import migrations
from models import ledger
from models.audit import audit
from models.db import Database, sqlalchemy_url
from models.services import accounts

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ENDED = {"req1": (400, 100, 0), "req2": (240, 60, 0)}


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database at revision 0002 that people have used."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
        migrations.upgrade(url, "0002")
        fill(url)
        yield url
        return
    server = request.getfixturevalue("postgres")
    url = server.create("of_an_earlier_release")
    migrations.upgrade(url, "0002")
    fill(url)
    yield url
    server.drop("of_an_earlier_release")


def fill(url: str) -> None:
    """A gift, a purchase, a session that was paid, one that was paid and refunded, a subscription."""
    engine = create_engine(sqlalchemy_url(url))
    metadata = MetaData()
    with engine.begin() as connection:
        metadata.reflect(connection)

        def add(table: str, **values: Any) -> None:
            insert(connection, metadata.tables[table], values)

        for handle, creator in (("fan", False), ("creator", True)):
            add("people", id=handle, email=handle, handle=handle, is_fan=not creator, is_creator=creator)
        add("creator_settings", creator_id="creator", private_stream_rate=100, private_stream_min_time=1,
            private_stream_auto_accept="manual")  # fmt: skip
        add("subscriptions", fan_id="fan", creator_id="creator", active=True)
        add("streams", id="str1", creator_id="creator", room_id="live-str1", status="ended")
        for kind, owner, balance in (
            ("wallet", "fan", 700), ("held", "fan", 0), ("earnings_pending", "creator", 400),
            ("fees", None, 100), ("gateway", None, -200), ("promo", None, -1000),
        ):  # fmt: skip
            name = "gateway:sandbox" if kind == "gateway" else ":".join(filter(None, (kind, owner)))
            add("accounts", id=name, kind=kind, owner_id=owner, balance=balance)
        add("token_lots", id="gift:fan", owner_id="fan", source="promo", origin="promo", tokens=1000, free=500)
        add(
            "token_lots",
            id="pur1",
            owner_id="fan",
            source="purchase",
            origin="gateway:sandbox",
            tokens=200,
            free=200,
        )
        add("purchases", id="pur1", user_id="fan", idempotency_key="k", package_id="tokens-200", tokens=200,
            price_minor=1000, currency="USD", gateway="sandbox", status="succeeded")  # fmt: skip
        for number, (request_id, (earnings, commission, back)) in enumerate(ENDED.items()):
            ended_session(add, number, request_id, earnings, commission, back)
        add("holds", reference="req1", fan_id="fan", creator_id="creator", status="settled", earnings=400,
            commission=100, closed_at=NOW)  # fmt: skip
        # As the earlier release kept a refund: as if nothing had been paid.
        add("holds", reference="req2", fan_id="fan", creator_id="creator", status="settled", closed_at=NOW)
        add("lot_uses", reference="req1", lot_id="gift:fan", spent=500)
        add("lot_uses", reference="req2", lot_id="gift:fan", spent=0)
        for transfer, kind, about, entries in (
            ("t1", "gift", "gift:fan", {"promo": -1000, "wallet:fan": 1000}),
            ("t2", "top_up", "pur1", {"gateway:sandbox": -200, "wallet:fan": 200}),
            ("t3", "hold", "req1", {"wallet:fan": -500, "held:fan": 500}),
            ("t4", "settle", "req1", {"held:fan": -500, "earnings_pending:creator": 400, "fees": 100}),
            ("t5", "hold", "req2", {"wallet:fan": -300, "held:fan": 300}),
            ("t6", "settle", "req2", {"held:fan": -300, "earnings_pending:creator": 240, "fees": 60}),
            ("t7", "reverse", "req2", {"wallet:fan": 300, "earnings_pending:creator": -240, "fees": -60}),
        ):
            reverses = "t6" if kind == "reverse" else None
            add("transfers", id=transfer, kind=kind, idempotency_key=transfer, reference=about, reverses=reverses)
            for account, amount in entries.items():
                add("entries", transfer_id=transfer, account_id=account, amount=amount)
    engine.dispose()


def ended_session(add: Any, number: int, request_id: str, earnings: int, commission: int, back: int) -> None:
    held = earnings + commission + back
    minutes = held // 100
    prices = {"rate_per_minute": 100, "minimum_minutes": 1, "requested_minutes": minutes, "minute_ms": 60_000,
              "discount_percent": 0, "commission_percent": 20}  # fmt: skip
    add("private_stream_requests", id=request_id, fan_id="fan", creator_id="creator", stream_id="str1",
        list_rate=100, total_cost=held, status="accepted", **prices)  # fmt: skip
    add("private_stream_sessions", id=f"ses{number}", request_id=request_id, fan_id="fan", creator_id="creator",
        stream_id="str1", room_id=f"private-ses{number}", status="ended", paid_minutes=minutes,
        paid_ms=minutes * 60_000, acknowledged_ms=minutes * 60_000, delivered_ms=minutes * 60_000, total_held=held,
        end_time=NOW, end_reason="TIME_EXPIRED", end_row="time_expired", billed_minutes=minutes,
        actual_duration_minutes=minutes, total_earnings=earnings, commission=commission, refunded=back,
        **prices)  # fmt: skip


def insert(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """What is not named and may not be empty is filled with something of its type."""
    row = dict(values)
    for column in table.columns:
        if column.name in row or column.nullable or column.autoincrement is True:
            continue
        kind = column.type.python_type
        empty = {datetime: NOW, bool: False, int: 0, str: "x"}[kind]
        row[column.name] = empty
    sqlite = connection.dialect.name == "sqlite"
    row = {
        name: value.replace(tzinfo=None) if sqlite and isinstance(value, datetime) else value
        for name, value in row.items()
    }
    connection.execute(table.insert().values(row))


def test_the_books_of_an_earlier_release_go_on(old_url: str) -> None:
    # When it is upgraded
    migrations.upgrade(old_url)
    database = Database(old_url)
    try:
        with database.reading() as tx:
            # Then everything adds up, and everybody has what they had
            assert audit(tx).problems == ()
            assert ledger.balance(tx, "wallet:fan") == 700
            assert ledger.balance(tx, "earnings_pending:creator") == 400
            refunded, paid = ledger.hold_of(tx, "req2"), ledger.hold_of(tx, "req1")
            assert refunded is not None
            assert paid is not None
            assert (refunded.earnings, refunded.refunded, refunded.pending) == (240, 300, 0)
            assert (paid.pending, paid.clears_at) == (400, NOW + timedelta(days=30))
            assert accounts.find_by_handle(tx, "creator") is not None
            # And the transfers say what they moved
            moved = {each.transfer_id: {e.account: e.amount for e in each.entries} for each in
                     ledger.transfers_of(tx, "req2")}  # fmt: skip
            assert moved["t7"] == {"wallet:fan": 300, "earnings_pending:creator": -240, "fees": -60}
        # And it goes on: a refund of the other session, a new hold
        database.run(
            lambda tx: ledger.refund(tx, "req1", 100, key="refund", cause_id="test", now=datetime.now(UTC))
        )
        database.run(
            lambda tx: ledger.hold(
                tx, "fan", 750, key="hold", reference="req3", cause_id="test", now=datetime.now(UTC)
            )
        )
        with database.reading() as tx:
            assert ledger.balance(tx, "wallet:fan") == 50
            assert [each for each in audit(tx).problems if "req3" not in each] == []
    finally:
        database.close()


def test_a_subscription_of_an_earlier_release_has_a_month(old_url: str) -> None:
    migrations.upgrade(old_url)
    database = Database(old_url)
    try:
        from models.services import subscriptions

        now = datetime.now(UTC)
        with database.reading() as tx:
            assert subscriptions.is_active(tx, "fan", "creator", now)
            assert not subscriptions.is_active(tx, "fan", "creator", now + timedelta(days=32))
        assert "active" not in {each["name"] for each in inspect(database.engine).get_columns("subscriptions")}
    finally:
        database.close()
