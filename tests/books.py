"""Whether the books of a running house add up: what ``flask ledger audit`` asks, without a Python of its own."""

from __future__ import annotations

from contextlib import closing

from models.audit import audit
from models.db import Database
from ops.house import House


def assert_clean(house: House) -> None:
    """Fails with what the audit finds."""
    url = house.environment.get("DATABASE_URL", f"sqlite:///{house.var / 'greenroom.db'}")
    with closing(Database(url)) as database, database.reading() as tx:
        report = audit(tx)
    assert report.ok, report.problems
    assert report.transfers
