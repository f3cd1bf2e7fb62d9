"""Bugs in what is held, from which purchase it came, and to whom it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models import ledger, ledger_sql, lots
from models.postings import About
from models.services import bookings, closing, extending, queueing
from models.statements import Write
from simulation.planting import Patches, Without, bug


def _writes(patches: Patches, change: Callable[[str, dict[str, int], list[Any], About], None]) -> None:
    """Change what the ledger is about to write."""

    def make(write: Any) -> Any:
        def changed(tx: Any, kind: str, entries: Any, rows: Any, about: About) -> Any:
            moved, listed = dict(entries), list(rows)
            change(kind, moved, listed, about)
            return write(tx, kind, moved, listed, about)

        return changed

    patches.replace(ledger, "_write", make)


@bug("A declined, cancelled or expired request keeps its tokens.")
def forgotten_release(patches: Patches) -> None:
    patches.replace(closing, "ledger", lambda _ledger: Without(_ledger, "release"))


@bug("Released tokens go to whoever had tokens released before.")
def release_to_the_wrong_person(patches: Patches) -> None:
    last: list[str] = []

    def change(kind: str, entries: dict[str, int], _rows: list[Any], _about: About) -> None:
        if kind != "release":
            return
        wallet = next(account for account in entries if account.startswith("wallet:"))
        if last and last[0] != wallet:
            entries[last[0]] = entries.pop(wallet)
        last[:] = [wallet]

    _writes(patches, change)


@bug("A hold leaves the last token that it takes in its lot.")
def lot_spent_twice(patches: Patches) -> None:
    def make(draw: Any) -> Any:
        def leaves(found: Any, reference: str, amount: int, **more: Any) -> Any:
            writes = draw(found, reference, amount, **more)
            kept = writes[0]
            values = (kept.values[0] + 1, *kept.values[1:])
            return [kept._replace(values=values), *writes[1:]]

        return leaves

    patches.replace(lots, "draw", make)


@bug("A hold is made without any lot behind it.")
def hold_without_a_lot(patches: Patches) -> None:
    patches.replace(lots, "draw", lambda _draw: lambda *_args, **_more: [])


@bug("Tokens that come back go to another lot of the same person.")
def back_to_the_wrong_lot(patches: Patches) -> None:
    to_another = (
        "UPDATE token_lots SET free = free + ? WHERE id = (SELECT o.id FROM token_lots l"
        " JOIN token_lots o ON o.owner_id = l.owner_id WHERE l.id = ? ORDER BY o.id = l.id, o.id LIMIT 1)"
    )

    def make(give_back: Any) -> Any:
        def elsewhere(found: Any, reference: str, amount: int) -> Any:
            writes = give_back(found, reference, amount)
            return [Write(to_another, w.values[:2]) if w.sql == ledger_sql.FREE else w for w in writes]

        return elsewhere

    patches.replace(lots, "give_back", make)


@bug("An extension is held under a name of its own, which nothing ever settles.")
def extension_held_apart(patches: Patches) -> None:
    def hold(*args: Any, reference: str, **more: Any) -> Any:
        return ledger.hold(*args, reference=f"{reference}:more", **more)

    patches.replace(extending, "ledger", lambda real: Without(real, "hold", hold))


@bug("Each next minute is held twice.")
def minute_held_twice(patches: Patches) -> None:
    def hold(*args: Any, key: str, **more: Any) -> Any:
        if key.startswith("minute"):
            ledger.hold(*args, key=f"{key}:again", **more)
        return ledger.hold(*args, key=key, **more)

    patches.replace(extending, "ledger", lambda real: Without(real, "hold", hold))


@bug("Confirming again in the queue gives the hold back.")
def queue_loses_the_hold(patches: Patches) -> None:
    def make(reconfirm: Any) -> Any:
        def loses(tx: Any, request_id: str, *, now: Any, **more: Any) -> Any:
            row = reconfirm(tx, request_id, now=now, **more)
            if row.total_cost:
                ledger.release(tx, request_id, key=f"turn:{request_id}", cause_id="", now=now)
            return row

        return loses

    patches.replace(queueing, "reconfirm", make)


@bug("A cancelled booking keeps its tokens.")
def booking_not_released(patches: Patches) -> None:
    patches.replace(bookings, "ledger", lambda real: Without(real, "release"))
