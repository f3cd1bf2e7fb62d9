"""Short words for the ledger's movements, for tests of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text

from models import ledger
from models.audit import books_problems
from models.db import Database


class Book:
    """Short words for the movements of one test."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database, self.now = database, now

    def hold(self, fan: str, amount: int, reference: str = "req_1", key: str = "hold-1") -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.hold(tx, fan, amount, key=key, reference=reference, cause_id="test", now=self.now)
        )

    def release(self, reference: str = "req_1", key: str = "release-1", **options: int) -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.release(tx, reference, key=key, cause_id="test", now=self.now, **options)
        )

    def settle(
        self, creator: str, earnings: int, commission: int, reference: str = "req_1", key: str = "settle-1"
    ) -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.settle(
                tx,
                reference,
                creator_id=creator,
                earnings=earnings,
                commission=commission,
                key=key,
                cause_id="test",
                now=self.now,
            )
        )

    def top_up(self, fan: str, tokens: int, purchase_id: str) -> None:
        self.now += timedelta(seconds=1)
        self.database.run(
            lambda tx: ledger.top_up(
                tx,
                purchase_id=purchase_id,
                user_id=fan,
                tokens=tokens,
                gateway="sandbox",
                cause_id="test",
                now=self.now,
            )
        )

    def pay(self, fan: str, creator: str, amount: int, reference: str = "tip_1") -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.pay(
                tx,
                fan,
                creator_id=creator,
                amount=amount,
                commission_percent=20,
                kind="tip",
                key=f"pay:{reference}",
                reference=reference,
                cause_id="test",
                now=self.now,
            )
        )

    def gift(self, person: str, tokens: int) -> None:
        self.now += timedelta(seconds=1)
        self.database.run(
            lambda tx: ledger.gift(tx, person, tokens, key=f"gift:{person}", cause_id="test", now=self.now)
        )

    def refund(self, tokens: int | None, reference: str = "req_1", key: str = "refund-1") -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.refund(tx, reference, tokens, key=key, cause_id="test", now=self.now)
        )

    def withdraw(self, lot_id: str, tokens: int, key: str = "withdraw-1") -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.withdraw(
                tx, lot_id, tokens, key=key, reference="ref_1", cause_id="test", now=self.now
            )
        )

    def put_back(self, transfer: ledger.Transfer) -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.put_back(tx, transfer.transfer_id, cause_id="test", now=self.now)
        )

    def clear(self, days: int = 30) -> int:
        self.now += timedelta(days=days)
        return self.database.run(lambda tx: ledger.clear_due(tx, self.now))

    def payout(self, creator: str, tokens: int, key: str = "payout-1") -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.payout(
                tx, creator, tokens, key=key, reference="pay_1", cause_id="test", now=self.now
            )
        )

    def payout_return(self, transfer: ledger.Transfer) -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.payout_return(tx, transfer.transfer_id, cause_id="test", now=self.now)
        )

    def write_off(self, creator: str, tokens: int, key: str = "loss-1") -> ledger.Transfer:
        return self.database.run(
            lambda tx: ledger.write_off(
                tx, creator, tokens, key=key, reference="loss", cause_id="test", now=self.now
            )
        )

    def good_again(self, lot_id: str) -> int:
        return self.database.run(lambda tx: ledger.lot_good_again(tx, lot_id, cause_id="test", now=self.now))

    def hold_of(self, reference: str = "req_1") -> ledger.HoldView:
        with self.database.reading() as tx:
            found = ledger.hold_of(tx, reference)
        assert found is not None
        return found

    def lots(self, fan: str) -> list[tuple[int, int]]:
        """Free and spent tokens of each lot, the oldest first."""
        query = (
            "SELECT l.free, COALESCE(SUM(u.spent), 0) FROM token_lots l LEFT JOIN lot_uses u ON u.lot_id = l.id"
            " WHERE l.owner_id = :fan GROUP BY l.id, l.free, l.created_at ORDER BY l.created_at"
        )
        with self.database.reading() as tx:
            return [(int(free), int(spent)) for free, spent in tx.execute(text(query), {"fan": fan})]

    def lot_ids(self, fan: str) -> list[str]:
        with self.database.reading() as tx:
            query = text("SELECT id FROM token_lots WHERE owner_id = :fan ORDER BY created_at")
            return list(tx.scalars(query, {"fan": fan}))

    def mark_bad(self, lot_id: str) -> int:
        return self.database.run(lambda tx: ledger.mark_lot_bad(tx, lot_id, cause_id="test", now=self.now))

    def balances(self, person: str) -> dict[str, int]:
        """The accounts of a person that are not empty."""
        with self.database.reading() as tx:
            return {kind: tokens for kind, tokens in ledger.balances(tx, person).items() if tokens}

    def platform(self, account: str) -> int:
        with self.database.reading() as tx:
            return ledger.balance(tx, account)

    def check(self) -> None:
        with self.database.reading() as tx:
            assert books_problems(tx) == ()
