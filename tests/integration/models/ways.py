"""What the tests of the ways to pay share: offers, running calls, the clock, what must hold for a receipt."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from stage import MINUTE, Call, Stage

from models.bookings import BookingRow, SlotRow
from models.services import offers, private_streams, sessions, subscriptions
from models.services.accounts import Person
from models.services.offers import CreatorOptions
from models.services.streams import StreamView

_numbers = itertools.count()


def offer(stage: Stage, creator: Person, **changed: Any) -> None:
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, CreatorOptions(**changed)))


def live(stage: Stage, *, settings: dict[str, Any] | None = None, **options: Any) -> tuple[Person, StreamView]:
    """A creator at 100 tokens a minute, minimum 5, who is live and offers this."""
    creator, stream = stage.live(**(settings or {}))
    offer(stage, creator, **options)
    return creator, stream


def subscribe(stage: Stage, fan: Person, creator: Person) -> None:
    stage.run(
        lambda tx: subscriptions.subscribe(
            tx, fan=fan, creator_id=creator.user_id, now=stage.now, settings=stage.settings, cause_id="test"
        )
    )


def rules(stage: Stage, request_id: str) -> bool:
    """What the worker does with the message of the request's transaction."""
    stage.heartbeat()
    return stage.run(lambda tx: private_streams.apply_rule(tx, request_id, stage.now))


def running(
    stage: Stage, creator: Person, stream: StreamView, fan: Person, *, minutes: int = 10, **wish: Any
) -> Call:
    """An accepted session in which the meter runs."""
    request = stage.ask(fan, stream, minutes, **wish)
    if not (wish.get("instant_unlock") and rules(stage, request.request_id)):
        stage.accept(request.request_id, creator)
    view = stage.run(lambda tx: private_streams.request_view(tx, request.request_id, fan))
    assert view.session_id
    assert view.room_id
    stage.opened(view.session_id)
    stage.delivered(view.session_id, 1, 0)
    return Call(fan, creator, stream, request.request_id, view.session_id, view.room_id)


def extend(stage: Stage, call: Call, minutes: int = 5, *, fan: Person | None = None, key: str = "") -> Any:
    return stage.run(
        lambda tx: sessions.extend(
            tx,
            call.session_id,
            fan_id=(fan or call.fan).user_id,
            minutes=minutes,
            key=key or f"key{next(_numbers)}",
            now=stage.now,
        )
    )


def clock(stage: Stage) -> int:
    """One round of the clock."""
    return stage.run(lambda tx: sessions.hold_next_minutes(tx, stage.now))


def minutes_left(stage: Stage, call: Call) -> int:
    return stage.run(lambda tx: subscriptions.minutes_left(tx, call.fan.user_id, call.creator.user_id, stage.now))


def ended(stage: Stage, call: Call) -> sessions.Receipt:
    """The receipt, after all that must hold for any."""
    receipt = stage.receipt(call.session_id)
    assert receipt.total_held == receipt.earnings + receipt.commission + receipt.refunded
    charged = max(0, receipt.billed_minutes - receipt.included_minutes) * receipt.rate_per_minute
    assert receipt.earnings + receipt.commission == charged + receipt.unlock_earned
    assert all(sum(entry.amount for entry in transfer.entries) == 0 for transfer in receipt.transfers)
    assert stage.balances(call.fan)["held"] == 0
    stage.audit()
    return receipt


def book(stage: Stage, creator: Person, fan: Person, *, starts_in_minutes: int) -> None:
    """A booking as its service leaves it, without the tokens, which are not the subject here."""
    number, starts_at = next(_numbers), stage.now + timedelta(minutes=starts_in_minutes)

    def write(tx: Any) -> None:
        tx.add(
            SlotRow(
                id=f"slt_{number}",
                creator_id=creator.user_id,
                starts_at=starts_at,
                ends_at=starts_at + timedelta(minutes=10),
                minutes=10,
                status="booked",
                created_at=stage.now,
            )
        )
        tx.flush()
        tx.add(
            BookingRow(
                id=f"bkg_{number}",
                slot_id=f"slt_{number}",
                request_id=f"req_booked_{number}",
                fan_id=fan.user_id,
                creator_id=creator.user_id,
                starts_at=starts_at,
                ends_at=starts_at + timedelta(minutes=10),
                minutes=10,
                minimum_minutes=5,
                list_rate=100,
                rate_per_minute=100,
                discount_percent=0,
                commission_percent=20,
                minute_ms=MINUTE,
                included_minutes=0,
                total_cost=0,
                status="booked",
                cause_id="test",
                created_at=stage.now,
            )
        )

    stage.run(write)


def at(stage: Stage, call: Call, sequence: int, delivered_ms: int) -> None:
    """Time goes on to where this much was delivered, and media says so."""
    before = stage.session(call.session_id).delivered_ms
    stage.later(milliseconds=delivered_ms - before)
    stage.delivered(call.session_id, sequence, delivered_ms)


def subscriber(stage: Stage, tokens: int = 2_000, *, minutes: int = 4, **options: Any) -> Call:
    """Not a call yet: a fan with ``minutes`` included minutes of a creator who is live."""
    creator, stream = live(stage, subscription_price=400, subscription_minutes=minutes, **options)
    fan = stage.fan(tokens + 400)
    subscribe(stage, fan, creator)
    return Call(fan, creator, stream, "", "", "")
