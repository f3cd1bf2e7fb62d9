"""State moves by compare-and-set over a map of what is allowed, or not at all.

Each table with a ``status`` keeps its ``ALLOWED`` map beside its columns. Whoever moves a row names the
state that it believes the row is in; if somebody was quicker, there is a Conflict and nothing happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from sqlalchemy import bindparam, update
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.dml import ReturningUpdate

from models.db import Base
from models.errors import Conflict

Allowed = Mapping[str, frozenset[str]]


class Machine(Base):
    """Base of the tables whose rows have a ``status`` and an ``ALLOWED`` map for it."""

    __abstract__ = True
    ALLOWED: ClassVar[Allowed]
    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]


def allowed(**states: tuple[str, ...]) -> Allowed:
    """The map ``state -> states that may follow``; every state that is named must have its own entry."""
    unknown = {after for nexts in states.values() for after in nexts} - set(states)
    if unknown:
        raise ValueError(f"states without an entry: {sorted(unknown)}")
    return {state: frozenset(nexts) for state, nexts in states.items()}


def move(tx: Session, table: type[Machine], id_: str, from_: str, to: str, **values: Any) -> None:
    """Move the row ``id_`` from one status to another and set ``values``.

    Exactly one row moves, or Conflict. A move that ``ALLOWED`` does not have is a mistake of the program
    and raises ValueError.
    """
    if to not in table.ALLOWED[from_]:
        raise ValueError(f"{table.__name__}: {from_} -> {to} is not allowed")
    written = {"status": to, **values}
    tx.flush()
    parameters = {"row_id": id_, "row_from": from_, **{f"new_{name}": value for name, value in written.items()}}
    if tx.execute(_move(table, tuple(written)), parameters).first() is None:
        raise Conflict(f"It is no longer {from_}.", status=from_)
    row = tx.identity_map.get(table.__mapper__.identity_key_from_primary_key((id_,)))
    if row is not None:
        for name, value in written.items():
            set_committed_value(row, name, value)


@cache
def _move(table: type[Machine], names: tuple[str, ...]) -> ReturningUpdate[Any]:
    """Built once for each kind of move: building it took longer than executing it."""
    columns = table.__mapper__.columns
    values: dict[Any, Any] = {columns[name]: bindparam(f"new_{name}") for name in names}
    is_it = (columns["id"] == bindparam("row_id"), columns["status"] == bindparam("row_from"))
    return update(table.__table__).where(*is_it).values(values).returning(columns["id"])  # type: ignore[arg-type]
