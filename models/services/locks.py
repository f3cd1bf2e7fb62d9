"""Rows taken for oneself, always in the same order: people (by id), stream, request, session, accounts.

With one order there are next to no deadlocks; ``Database.run`` tries again after those that remain. On
SQLite a write transaction is alone anyway and the locks are no more than reads.
"""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.db import Base
from models.people import PersonRow

Row = TypeVar("Row", bound=Base)


def locked(tx: Session, table: type[Row], id_: str) -> Row | None:
    """The row as it is now, and as it stays until this transaction ends; None if there is none."""
    # key_share: other transactions may still insert rows that refer to this one.
    return tx.get(table, id_, with_for_update={"key_share": True}, populate_existing=True)


def lock_people(tx: Session, *user_ids: str) -> None:
    """From here on nobody else opens requests or sessions of these people."""
    tx.execute(
        select(PersonRow.id)
        .where(PersonRow.id.in_(user_ids))
        .order_by(PersonRow.id)
        .with_for_update(key_share=True)
    )
