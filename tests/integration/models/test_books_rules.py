"""What the databases themselves hold: raw SQL against each rule, on both, is refused and changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from models import ledger
from models.audit import books_problems
from models.db import Database

_TRANSFER = (
    "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, moves, created_at)"
    " SELECT 'trf_raw', 'hold', 'raw', 'raw', 'c', '{}', created_at FROM transfers LIMIT 1"
)

# What is tried, and a word of the refusal. FAN, CREATOR: their ids.
ATTEMPTS = {
    "tokens from nothing": (_TRANSFER.format('[["wallet:FAN", 5]]'), "balance"),
    "tokens into nothing": (_TRANSFER.format('[["wallet:FAN", -5], ["fees", 4]]'), "balance"),
    "a transfer of nothing": (_TRANSFER.format("[]"), "balance"),
    "a half token": (_TRANSFER.format('[["wallet:FAN", -0.5], ["fees", 0.5]]'), "balance|bigint"),
    "one account twice": (
        _TRANSFER.format('[["wallet:FAN", -5], ["wallet:FAN", 3], ["fees", 2]]'),
        "uplicate|transfers alone",
    ),
    "an empty move": (_TRANSFER.format('[["wallet:FAN", -5], ["held:FAN", 0], ["fees", 5]]'), "amount"),
    "more than there is": (_TRANSFER.format('[["wallet:FAN", -1001], ["fees", 1001]]'), "balance"),
    "earnings that are not there": (
        _TRANSFER.format('[["earnings_pending:CREATOR", -241], ["wallet:FAN", 241]]'),
        "balance",
    ),
    "a debt that pays": (_TRANSFER.format('[["debt:CREATOR", 1], ["fees", -1]]'), "balance"),
    "an account of nobody": (_TRANSFER.format('[["wallet:usr_nobody", 5], ["fees", -5]]'), "(?i)foreign"),
    "an account of no kind": (_TRANSFER.format('[["purse:FAN", 5], ["fees", -5]]'), "kind"),
    "a transfer of no kind": (
        _TRANSFER.replace("'hold'", "'theft'").format('[["fees", 5], ["promo", -5]]'),
        "kind",
    ),
    "a key again": (
        (
            "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, moves, created_at)"
            " SELECT 'trf_raw', kind, idempotency_key, reference, cause_id, moves, created_at FROM transfers"
        ),
        "idempotency_key",
    ),
    "an entry by hand": (
        "INSERT INTO entries (transfer_id, account_id, amount) SELECT id, 'promo', 7 FROM transfers",
        "transfers alone",
    ),
    "an entry of no transfer": (
        "INSERT INTO entries (transfer_id, account_id, amount) VALUES ('trf_none', 'wallet:FAN', 7)",
        "transfers alone",
    ),
    "a balance by hand": ("UPDATE accounts SET balance = balance + 1 WHERE id = 'wallet:FAN'", "transfers alone"),
    "a balance by its last entry": (
        (
            "UPDATE accounts SET balance = balance + (SELECT amount FROM entries WHERE account_id = accounts.id"
            " ORDER BY transfer_id DESC LIMIT 1), last_entry = last_entry + 1"
        ),
        "transfers alone",
    ),
    "an account's owner": ("UPDATE accounts SET owner_id = 'CREATOR' WHERE id = 'wallet:FAN'", "transfers alone"),
    "an account with tokens": (
        (
            "INSERT INTO accounts (id, owner_id, kind, balance, last_entry)"
            " VALUES ('debt:FAN', 'FAN', 'debt', -5, 0)"
        ),
        "transfers alone",
    ),
    "an account's end": ("DELETE FROM accounts WHERE id = 'wallet:FAN'", "transfers alone"),
    "a slot by hand": ("INSERT INTO account_slots (account_id, slot, balance) VALUES ('fees', 99, 5)", "alone"),
    "a transfer changed": ("UPDATE transfers SET reference = 'other'", "append-only"),
    "a transfer deleted": ("DELETE FROM transfers", "append-only"),
    "an entry changed": ("UPDATE entries SET amount = amount + 1", "append-only"),
    "an entry deleted": ("DELETE FROM entries", "append-only"),
    "a negative hold": ("UPDATE holds SET amount = -1", "amount"),
    "an open hold of nothing": ("UPDATE holds SET status = 'open', amount = 0", "ck_holds"),
    "more taken back than paid": ("UPDATE holds SET refunded = 301 WHERE status = 'settled'", "taken_back"),
    "more pending than earned": ("UPDATE holds SET pending = 241 WHERE status = 'settled'", "pending"),
    "more fee back than fee": ("UPDATE holds SET fee_back = 61 WHERE status = 'settled'", "fee_back"),
    "an unpaid hold with a payee": ("UPDATE holds SET creator_id = 'CREATOR' WHERE status = 'open'", "settled"),
    "a negative lot": ("UPDATE token_lots SET free = -1", "amounts"),
    "a lot larger than itself": ("UPDATE token_lots SET free = tokens + 1", "amounts"),
    "a use of nothing": ("UPDATE lot_uses SET held = -1", "amounts"),
    "more recovered than spent": ("UPDATE lot_uses SET recovered = spent + 1", "amounts"),
    "a use of no lot": ("UPDATE lot_uses SET lot_id = 'pur_none'", "(?i)foreign"),
}


@pytest.fixture
def people(database: Database, fan: str, creator: str, now: object) -> tuple[str, str]:
    """A fan with 200 + 400 of 1,000 tokens, of which 400 are held; a creator with 240 pending."""

    def movements(tx: Session) -> None:
        for number in (1, 2):
            ledger.hold(
                tx,
                fan,
                400,
                key=f"h{number}",
                reference=f"req_{number}",
                cause_id="test",
                now=now,  # type: ignore[arg-type]
            )
        ledger.settle(
            tx,
            "req_1",
            creator_id=creator,
            earnings=240,
            commission=60,
            key="s",
            cause_id="test",
            now=now,  # type: ignore[arg-type]
        )

    database.run(movements)
    return fan, creator


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_database_itself_refuses(database: Database, people: tuple[str, str], attempt: str) -> None:
    # given
    fan, creator = people
    statement, words = ATTEMPTS[attempt]
    before = _everything(database)
    # when
    with pytest.raises(DBAPIError, match=words):
        database.run(lambda tx: _execute(tx, statement.replace("FAN", fan).replace("CREATOR", creator)))
    # then
    assert _everything(database) == before
    with database.reading() as tx:
        assert books_problems(tx) == ()


@pytest.mark.parametrize("table", ["transfers", "entries", "accounts", "account_slots"])
def test_nothing_is_truncated(database: Database, people: tuple[str, str], table: str) -> None:
    statement = f"DELETE FROM {table}" if database.is_sqlite else f"TRUNCATE {table} CASCADE"
    before = _everything(database)
    if not (database.is_sqlite and table == "account_slots"):
        with pytest.raises(DBAPIError, match=r"append-only|transfers alone"):
            database.run(lambda tx: _execute(tx, statement))
    assert _everything(database) == before


def test_a_transfer_by_hand_that_keeps_the_rules_makes_its_entries_and_balances(
    database: Database, people: tuple[str, str]
) -> None:
    fan, _ = people
    moves = '[["wallet:FAN", -5], ["held:FAN", 5]]'
    database.run(lambda tx: _execute(tx, _TRANSFER.format(moves).replace("FAN", fan)))
    with database.reading() as tx:
        entries = tx.execute(text("SELECT account_id, amount FROM entries WHERE transfer_id = 'trf_raw'")).all()
        assert sorted(map(tuple, entries)) == [(f"held:{fan}", 5), (f"wallet:{fan}", -5)]
        assert ledger.balances(tx, fan)["wallet"] == 295


def test_a_balance_beyond_64_bits_is_refused_whoever_writes_it(
    database: Database, people: tuple[str, str]
) -> None:
    moves = f'[["payouts", {2**63 - 1}], ["chargeback_loss", {1 - 2**63}]]'
    database.run(lambda tx: _execute(tx, _TRANSFER.format(moves)))
    again = _TRANSFER.format('[["payouts", 1], ["chargeback_loss", -1]]').replace("raw", "more")
    with pytest.raises(DBAPIError, match=r"(?i)range|whole|transfers alone"):
        database.run(lambda tx: _execute(tx, again))


SQLITE_ATTEMPTS = {
    "a balance that stays": _TRANSFER.format('[["wallet:FAN", -1001], ["fees", 1001]]'),
    "an empty move": _TRANSFER.format('[["wallet:FAN", -5], ["held:FAN", 0], ["fees", 5]]'),
    "an account of no kind": _TRANSFER.format('[["purse:FAN", 5], ["fees", -5]]'),
    "a transfer again": (
        "INSERT INTO transfers SELECT id, kind, 'other', reference, reverses, lot_id, cause_id, moves, created_at"
        " FROM transfers"
    ),
    "a key again": (
        "INSERT INTO transfers SELECT 'trf_raw', kind, idempotency_key, reference, reverses, lot_id, cause_id,"
        " moves, created_at FROM transfers"
    ),
    "an entry again": "INSERT INTO entries SELECT * FROM entries",
    "an account again": "INSERT INTO accounts SELECT id, owner_id, kind, 0, 0 FROM accounts",
}


@pytest.mark.parametrize("policy", ["IGNORE", "REPLACE", "FAIL"])
@pytest.mark.parametrize("attempt", SQLITE_ATTEMPTS)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_has_no_policy_of_conflict_that_goes_round_the_rules(
    database: Database, people: tuple[str, str], attempt: str, policy: str
) -> None:
    before = _everything(database)
    statement = SQLITE_ATTEMPTS[attempt].replace("INSERT", f"INSERT OR {policy}", 1).replace("FAN", people[0])
    with pytest.raises(DBAPIError):
        database.run(lambda tx: _execute(tx, statement))
    assert _everything(database) == before


def test_busy_accounts_are_spread_over_slots_and_taken_from_as_a_whole(
    database: Database, people: tuple[str, str], now: object
) -> None:
    """PostgreSQL: what several connections credited can be taken at once, to the last token, and not beyond."""
    fan, creator = people
    for number in range(10, 16):
        # given: connections of their own
        other = Database(str(database.engine.url.render_as_string(hide_password=False)), pool_size=1)
        other.run(
            lambda tx, number=number: ledger.pay(  # type: ignore[misc]
                tx,
                fan,
                creator_id=creator,
                amount=10,
                commission_percent=20,
                kind="tip",
                key=f"tip:{number}",
                reference=f"tip_{number}",
                cause_id="test",
                now=now,
            )
        )
        other.close()
    with database.reading() as tx:
        slots = tx.execute(text("SELECT COUNT(*) FROM account_slots WHERE account_id LIKE 'earn%'")).scalar_one()
        assert slots == 0 if database.is_sqlite else slots > 1
        assert ledger.balances(tx, creator)["earnings_pending"] == 240 + 48
    # when
    too_much = f'[["earnings_pending:{creator}", -289], ["earnings:{creator}", 289]]'
    with pytest.raises(DBAPIError):
        database.run(lambda tx: _execute(tx, _TRANSFER.format(too_much)))
    assert database.run(lambda tx: ledger.clear_due(tx, now + timedelta(days=30))) == 7  # type: ignore[operator]
    # then
    with database.reading() as tx:
        assert ledger.balances(tx, creator)["earnings_pending"] == 0
        assert ledger.balances(tx, creator)["earnings"] == 288
        assert books_problems(tx) == ()


def _execute(tx: Session, statement: str) -> None:
    tx.connection().exec_driver_sql(statement.replace("%", "%%") if "%" in statement else statement)


def _everything(database: Database) -> list[tuple[object, ...]]:
    tables = ("accounts", "account_slots", "transfers", "entries", "holds", "token_lots", "lot_uses")
    with database.reading() as tx:
        return [
            (table, *map(str, row))
            for table in tables
            for row in tx.execute(text(f"SELECT * FROM {table} ORDER BY 1"))
        ]
