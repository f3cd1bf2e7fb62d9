"""Bugs in passes and recordings: sold twice, sold for nothing, or not given back."""

from __future__ import annotations

import itertools
from typing import Any

from models import ledger
from models.errors import Conflict
from models.recordings import RecordingRow
from models.services import blocks, disputes, pass_refunds, passes, recording_sales, recording_work
from simulation.planting import Patches, Without, bug


@bug("A pass is sold again to who has one already.")
def pass_charged_twice(patches: Patches) -> None:
    numbers = itertools.count()

    def make(buy: Any) -> Any:
        return lambda *args, key, **more: buy(*args, key=f"{key}-{next(numbers)}", **more)

    def unasked(offered_price: Any) -> Any:
        def price(tx: Any, fan_id: str, creator_id: str, *args: Any) -> Any:
            try:
                return offered_price(tx, fan_id, creator_id, *args)
            except Conflict as refusal:
                if refusal.code != "PASS_ACTIVE":
                    raise
                return passes.price_of(tx, creator_id)

        return price

    patches.replace(passes, "buy", make)
    patches.replace(passes, "_offered_price", unasked)


@bug("A pass is sold while no picture is there.")
def pass_without_a_picture(patches: Patches) -> None:
    patches.replace(passes, "broadcasts", lambda real: Without(real, "require_picture"))


@bug("Who blocks a fan keeps what a pass of theirs cost.")
def pass_refund_forgotten(patches: Patches) -> None:
    patches.replace(blocks, "pass_refunds", lambda real: Without(real, "revoke"))


@bug("What is owed of a pass is noted, and never paid.")
def pass_refund_not_paid(patches: Patches) -> None:
    patches.replace(pass_refunds, "ledger", lambda real: Without(real, "refund"))


@bug("Who blocks a fan gives the whole price of a pass back, also for the hours that were watched.")
def whole_pass_refunded(patches: Patches) -> None:
    patches.replace(pass_refunds, "unused", lambda _unused: lambda row, _now: row.price_tokens)


@bug("Recordings cost no commission.")
def recording_without_commission(patches: Patches) -> None:
    def pay(*args: Any, commission_percent: int, **more: Any) -> Any:
        return ledger.pay(*args, commission_percent=0, **more)

    patches.replace(recording_sales, "ledger", lambda real: Without(real, "pay", pay))


@bug("A recording is paid again by each press.")
def recording_sold_twice(patches: Patches) -> None:
    numbers = itertools.count()

    def pay(*args: Any, key: str, reference: str, **more: Any) -> Any:
        anew = f"{reference}:{next(numbers)}"
        return ledger.pay(*args, key=anew, reference=anew, **more)

    def make(buy: Any) -> Any:
        def forgets(tx: Any, recording_id: str, **more: Any) -> None:
            row = tx.get(RecordingRow, recording_id)
            if row is not None and row.paid_at is not None:
                row.paid_at = None
                tx.flush()
            buy(tx, recording_id, **more)

        return forgets

    patches.replace(recording_sales, "ledger", lambda real: Without(real, "pay", pay))
    patches.replace(recording_sales, "buy", make)


@bug("Who paid for a recording that its creator deletes gets nothing back.")
def recording_refund_forgotten(patches: Patches) -> None:
    for module in (recording_sales, recording_work):
        patches.replace(module, "owe_refund", lambda _owe: lambda *_args: None)


@bug("A fan who deletes a recording gets its price back.")
def recording_refund_to_who_deleted(patches: Patches) -> None:
    def make(delete: Any) -> Any:
        def generous(tx: Any, recording_id: str, *, person_id: str, now: Any) -> None:
            delete(tx, recording_id, person_id=person_id, now=now)
            recording_sales.owe_refund(tx, tx.get(RecordingRow, recording_id), now)

        return generous

    patches.replace(recording_sales, "delete", make)


@bug("What a bad payment bought stays its buyer's.")
def bad_sale_kept(patches: Patches) -> None:
    for module in ("passes", "recording_sales"):
        patches.replace(disputes, module, lambda real: Without(real, "payment_taken_back"))
