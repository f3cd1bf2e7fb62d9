"""Rows taken for oneself, always in one order: people (by id), battle, stream, request, session, room, accounts.

With that order there are next to no deadlocks; ``Database.run`` tries again after those that remain. On
SQLite a write transaction is alone anyway and the locks are no more than reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from sqlalchemy import Select, bindparam, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import log
from models.db import Base
from models.people import PersonRow

Row = TypeVar("Row", bound=Base)

# Statements are built once where nearly every transaction passes: building one takes longer than executing it.
_PEOPLE = (
    select(PersonRow.id)
    .where(PersonRow.id.in_(bindparam("user_ids", expanding=True)))
    .order_by(PersonRow.id)
    .with_for_update(key_share=True)
)


def locked(tx: Session, table: type[Row], id_: str) -> Row | None:
    """The row as it is now, and as it stays until this transaction ends; None if there is none."""
    return tx.scalars(_one(table), {"row_id": id_}).one_or_none()


@cache
def _one(table: type[Row]) -> Select[Row]:
    (key,) = table.__mapper__.primary_key
    # key_share: other transactions may still insert rows that refer to this one.
    mine = select(table).where(key == bindparam("row_id")).with_for_update(key_share=True)
    return mine.execution_options(populate_existing=True)


def one_by_one(tx: Session, rows: Sequence[Row], act: Callable[[Row], None]) -> int:
    """``act`` on each row, in a savepoint of its own: a row that cannot be dealt with holds up no other.

    Such a row is a defect: logged each time, and tried again by the next round. How many went well.
    """
    done = 0
    for row in rows:
        try:
            with tx.begin_nested():
                act(row)
        except OperationalError:
            # The database's own trouble, a deadlock for one: the whole transaction is tried again.
            raise
        except Exception:
            # What a move wrote into rows in hand, the savepoint's rollback does not know of.
            tx.expire_all()
            log.failure("overdue_row_failed", table=type(row).__tablename__)
        else:
            done += 1
    return done


def lock_people(tx: Session, *user_ids: str) -> None:
    """From here on nobody else opens requests or sessions of these people."""
    tx.execute(_PEOPLE, {"user_ids": user_ids})
