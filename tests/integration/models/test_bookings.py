"""Times opened ahead and their bookings: docs/money.md, "Ways to pay", on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select
from stage import Stage
from together import outcomes

from models import ids
from models.agenda import agenda_for
from models.db import Database
from models.errors import DomainError, Invalid
from models.messages.commands import OpenRoom
from models.people import PersonRow
from models.requests import RequestRow
from models.services import (
    accounts,
    booking_clock,
    bookings,
    engaged,
    offers,
    private_streams,
    queueing,
    streams,
    subscriptions,
)
from models.services.accounts import Person
from models.services.booking_views import BookingView, SlotView
from models.sessions import SessionRow
from models.streams import MediaNodeRow, StreamRow
from tests.effort import examples

HOUR = 60


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def refused(code: str, wish: Callable[..., Any], *args: Any, **more: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        wish(*args, **more)
    assert refusal.value.code == code
    return refusal.value


def opening(stage: Stage, creator: Person, *in_minutes: float, minutes: int = 10) -> list[SlotView]:
    """Times that begin so many minutes from now."""
    wanted = [bookings.NewSlot(starts_at=stage.now + timedelta(minutes=m), minutes=minutes) for m in in_minutes]
    return list(
        stage.run(
            lambda tx: bookings.open_slots(
                tx, creator, wanted, now=stage.now, minute_ms=stage.settings.minute_ms
            )
        )
    )


def book(stage: Stage, fan: Person, slot: SlotView, **more: Any) -> BookingView:
    return stage.run(
        lambda tx: bookings.book(
            tx, fan, slot.slot_id, now=stage.now, settings=stage.settings, cause_id=ids.new_id("cause"), **more
        )
    )


def booked(stage: Stage, in_minutes: float = 120, minutes: int = 10) -> tuple[Person, Person, BookingView]:
    """A creator who is off the air, a fan, and a booking of theirs."""
    creator, fan = stage.creator(), stage.fan(2_000)
    (slot,) = opening(stage, creator, in_minutes, minutes=minutes)
    return creator, fan, book(stage, fan, slot)


def cancel(stage: Stage, booking: BookingView, person: Person) -> BookingView:
    return stage.run(
        lambda tx: bookings.cancel(tx, booking.booking_id, by_person_id=person.user_id, now=stage.now)
    )


def seen(stage: Stage, booking: BookingView, person: Person) -> BookingView:
    return stage.run(lambda tx: bookings.booking_view(tx, booking.booking_id, person.user_id, stage.now))


def clock(stage: Stage) -> None:
    stage.heartbeat()
    stage.run(lambda tx: booking_clock.release_impossible(tx, stage.now))
    stage.run(lambda tx: booking_clock.remind_due(tx, stage.now, minute_ms=stage.settings.minute_ms))
    stage.run(lambda tx: booking_clock.start_due(tx, stage.now))
    stage.run(lambda tx: booking_clock.end_streams(tx, stage.now))


def at_start(stage: Stage, booking: BookingView) -> None:
    stage.now = booking.starts_at
    stage.carry()
    clock(stage)


def slots_of(stage: Stage, creator: Person, viewer: Person | None = None) -> tuple[SlotView, ...]:
    viewer_id = viewer.user_id if viewer else None
    return stage.run(
        lambda tx: bookings.slots_of(
            tx, creator.user_id, stage.now, stage.settings.minute_ms, viewer_id=viewer_id
        )
    )


# --- opening times -----------------------------------------------------------------------------------


def test_a_creator_opens_times_and_fans_see_them_with_their_price(stage: Stage) -> None:
    creator, fan = stage.creator(), stage.fan()
    opening(stage, creator, 120, 60)
    first, second = slots_of(stage, creator, fan)
    assert (first.starts_at, first.minutes, first.total_cost) == (stage.now + timedelta(hours=1), 10, 1_000)
    assert second.starts_at == stage.now + timedelta(hours=2)
    assert first.booking is None


@pytest.mark.parametrize("in_minutes", [-1, 0, 4.9, 60 * 24 * 60 + 1])
def test_the_past_and_the_far_future_are_not_opened(stage: Stage, in_minutes: float) -> None:
    with pytest.raises(Invalid) as refusal:
        opening(stage, stage.creator(), in_minutes)
    assert refusal.value.fields["field"] == "startsAt"


@pytest.mark.parametrize("moment", [datetime.max, datetime.min])
@pytest.mark.parametrize("hours", [-14, 14])
def test_the_ends_of_the_calendar_are_refused_in_every_zone(stage: Stage, moment: datetime, hours: int) -> None:
    slot = bookings.NewSlot(starts_at=moment.replace(tzinfo=timezone(timedelta(hours=hours))), minutes=10)
    creator = stage.creator()
    with pytest.raises(Invalid):
        stage.run(lambda tx: bookings.open_slots(tx, creator, [slot], now=stage.now, minute_ms=60_000))


@pytest.mark.parametrize("minutes", [0, 241, -5])
def test_a_time_has_1_to_240_minutes(stage: Stage, minutes: int) -> None:
    with pytest.raises(Invalid) as refusal:
        opening(stage, stage.creator(), 60, minutes=minutes)
    assert refusal.value.fields["field"] == "minutes"


def test_two_times_have_five_minutes_between_them_and_all_are_opened_or_none(stage: Stage) -> None:
    creator = stage.creator()
    opening(stage, creator, 60)
    refused("SLOT_OVERLAPS", opening, stage, creator, 74.9)
    refused("SLOT_OVERLAPS", opening, stage, creator, 45.1)
    refused("SLOT_OVERLAPS", opening, stage, creator, 200, 210)
    assert len(slots_of(stage, creator, creator)) == 1
    opening(stage, creator, 75, 45)
    assert len(slots_of(stage, creator, creator)) == 3


def test_a_moment_is_the_same_in_every_zone(stage: Stage) -> None:
    creator = stage.creator()
    at = (stage.now + timedelta(hours=3)).astimezone(timezone(timedelta(hours=5, minutes=45)))
    slot = bookings.NewSlot(starts_at=at, minutes=10)
    stage.run(lambda tx: bookings.open_slots(tx, creator, [slot], now=stage.now, minute_ms=60_000))
    assert slots_of(stage, creator, creator)[0].starts_at == stage.now + timedelta(hours=3)
    refused("SLOT_OVERLAPS", opening, stage, creator, 180)


def test_there_are_200_open_times_at_most(stage: Stage) -> None:
    creator = stage.creator()
    opening(stage, creator, *(60 + 15 * n for n in range(200)))
    refused("TOO_MANY_SLOTS", opening, stage, creator, 60 + 15 * 200)


def test_an_open_time_is_taken_back_a_booked_one_is_not(stage: Stage) -> None:
    creator, fan = stage.creator(), stage.fan()
    one, two = opening(stage, creator, 60, 120)
    booking = book(stage, fan, two)

    def withdraw(slot: SlotView, who: Person) -> None:
        stage.run(lambda tx: bookings.withdraw_slot(tx, slot.slot_id, creator_id=who.user_id, now=stage.now))

    refused("NOT_FOUND", withdraw, one, stage.creator())
    withdraw(one, creator)
    withdraw(one, creator)
    refused("NOT_FOUND", book, stage, fan, one)
    assert refused("SLOT_BOOKED", withdraw, two, creator).fields["booking_id"] == booking.booking_id


def test_only_creators_open_times(stage: Stage) -> None:
    refused("NOT_A_CREATOR", opening, stage, stage.fan(), 60)


# --- booking -----------------------------------------------------------------------------------------


def test_booking_holds_the_whole_price_and_tells_both(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    assert (booking.status, booking.total_cost, booking.earnings) == ("booked", 1_000, 800)
    assert booking.can_cancel
    assert booking.cancel_until == booking.starts_at - timedelta(minutes=60)
    assert stage.balances(fan)["held"] == 1_000
    assert stage.told(creator, "BOOKING_CHANGED")[0]["bookingId"] == booking.booking_id
    own = slots_of(stage, creator, creator)[0]
    assert own.booking is not None
    assert own.booking.counterpart.handle == fan.handle
    assert slots_of(stage, creator, stage.fan()) == ()
    stage.audit()


def test_whoever_looks_at_the_times_sees_them_change_and_not_by_whom(stage: Stage) -> None:
    creator, fan = stage.creator(), stage.fan(2_000)
    first, second = opening(stage, creator, 120, 240)
    booking = book(stage, fan, first)
    cancel(stage, booking, fan)
    stage.run(lambda tx: bookings.withdraw_slot(tx, second.slot_id, creator_id=creator.user_id, now=stage.now))
    told = stage.told(None, "TIMES_CHANGED")
    assert [(each.get("slotId"), each["status"]) for each in told] == [
        (None, "open"),
        (first.slot_id, "booked"),
        (first.slot_id, "open"),
        (second.slot_id, "withdrawn"),
    ]
    assert {each["creatorId"] for each in told} == {creator.user_id}
    assert fan.user_id not in str(told)


def test_of_many_who_book_the_same_time_one_gets_it(stage: Stage) -> None:
    creator = stage.creator()
    (slot,) = opening(stage, creator, 60)
    fans = [stage.fan() for _ in range(5)]
    said = outcomes(*(lambda fan=fan: book(stage, fan, slot) for fan in fans))  # type: ignore[misc]
    assert sorted(said) == ["SLOT_TAKEN"] * 4 + ["done"]
    assert sum(stage.balances(fan)["held"] for fan in fans) == 1_000
    stage.audit()


def test_one_fan_books_two_overlapping_times_at_once_and_gets_one(stage: Stage) -> None:
    fan = stage.fan(5_000)
    pair = [opening(stage, stage.creator(), 60)[0] for _ in range(2)]
    said = outcomes(*(lambda slot=slot: book(stage, fan, slot) for slot in pair))  # type: ignore[misc]
    assert sorted(said) == ["FAN_BOOKED", "done"]
    stage.audit()


def test_what_cannot_be_booked_holds_nothing(stage: Stage) -> None:
    creator, fan = stage.creator(), stage.fan(900)
    (slot,) = opening(stage, creator, 60)
    refused("INSUFFICIENT_TOKENS", book, stage, fan, slot)
    refused("PRICE_CHANGED", book, stage, stage.fan(), slot, max_total_cost=999)
    refused("NOT_A_FAN", book, stage, stage.creator(), slot)
    refused("OWN_STREAM", book, stage, creator, slot)
    blocked = stage.fan()
    stage.run(lambda tx: accounts.block(tx, creator.user_id, blocked.user_id, stage.now))
    refused("BLOCKED", book, stage, blocked, slot)
    refused("NOT_FOUND", book, stage, fan, msgspec.structs.replace(slot, slot_id="slt_none"))
    stage.later(minutes=55.1)
    refused("SLOT_CLOSED", book, stage, stage.fan(), slot)
    assert slots_of(stage, creator, fan) == ()
    stage.audit()


def test_a_creator_who_takes_no_private_streams_is_not_booked(stage: Stage) -> None:
    creator, _ = stage.live(enabled=True)
    (slot,) = opening(stage, creator, 60)
    offer: Any = {"enabled": False, "rate_per_minute": 100, "min_minutes": 5, "auto_accept": "manual"}
    stage.run(lambda tx: private_streams.put_settings(tx, creator.user_id, **offer, now=stage.now))
    assert slots_of(stage, creator, stage.fan()) == ()
    refused("PRIVATE_DISABLED", book, stage, stage.fan(), slot)


def test_the_price_is_the_one_of_the_booking_and_the_time_is_sold_as_opened(stage: Stage) -> None:
    creator = stage.creator()
    fan = stage.fan()
    (slot,) = opening(stage, creator, 60, minutes=4)
    offer: Any = {"enabled": True, "rate_per_minute": 50, "min_minutes": 30, "auto_accept": "manual"}
    stage.run(lambda tx: private_streams.put_settings(tx, creator.user_id, **offer, now=stage.now))
    booking = book(stage, fan, slot, max_total_cost=200)
    offer["rate_per_minute"] = 500
    stage.run(lambda tx: private_streams.put_settings(tx, creator.user_id, **offer, now=stage.now))
    at_start(stage, booking)
    session_id = seen(stage, booking, fan).session_id
    assert session_id is not None
    session = stage.session(session_id)
    assert (session.rate_per_minute, session.minimum_minutes, session.paid_minutes) == (50, 4, 4)
    assert session.total_held == 200


def test_included_minutes_pay_for_a_booking_first_and_come_back_with_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    creator, fan = stage.creator(), stage.fan()
    (slot,) = opening(stage, creator, 120)
    returned: list[str] = []
    monkeypatch.setattr(subscriptions, "reserve_minutes", lambda *_: 10)
    monkeypatch.setattr(subscriptions, "return_minutes", lambda tx, id_, used, now: returned.append(id_))
    booking = book(stage, fan, slot)
    assert (booking.total_cost, booking.included_minutes, stage.balances(fan)["held"]) == (0, 10, 0)
    stage.audit()
    cancel(stage, booking, fan)
    assert len(returned) == 1
    stage.audit()


def test_a_fan_has_ten_bookings_at_most(stage: Stage) -> None:
    creator, fan = stage.creator(), stage.fan(20_000)
    slots = opening(stage, creator, *(60 + 20 * n for n in range(11)))
    for slot in slots[:10]:
        book(stage, fan, slot)
    refused("TOO_MANY_BOOKINGS", book, stage, fan, slots[10])


# --- cancelling --------------------------------------------------------------------------------------


def test_a_fan_cancels_until_an_hour_before_and_the_time_is_free_again(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    stage.now = booking.cancel_until
    gone = cancel(stage, booking, fan)
    assert (gone.status, gone.close_reason, gone.can_cancel) == ("cancelled", "fan", False)
    assert stage.balances(fan)["wallet"] == 2_000
    refused("BOOKING_CLOSED", cancel, stage, booking, fan)
    book(stage, stage.fan(), slots_of(stage, creator, fan)[0])
    stage.audit()


def test_later_only_the_creator_cancels_and_the_time_is_gone(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    stage.now = booking.cancel_until + timedelta(seconds=1)
    refused("BOOKING_FIXED", cancel, stage, booking, fan)
    assert not seen(stage, booking, fan).can_cancel
    refused("NOT_FOUND", cancel, stage, booking, stage.fan())
    gone = cancel(stage, booking, creator)
    assert (gone.status, gone.close_reason) == ("cancelled", "creator")
    assert stage.balances(fan)["wallet"] == 2_000
    assert stage.told(fan, "BOOKING_CHANGED")[-1]["reason"] == "creator"
    assert slots_of(stage, creator, creator) == ()
    stage.audit()


def test_cancelling_at_the_start_has_one_winner(stage: Stage) -> None:
    for _ in range(4):
        creator, fan, booking = booked(stage)
        stage.now = booking.starts_at
        stage.heartbeat()
        gate = threading.Barrier(2)
        said: list[str] = []

        def wish(booking: BookingView, creator: Person, gate: threading.Barrier, said: list[str]) -> None:
            gate.wait()
            try:
                cancel(stage, booking, creator)
                said.append("cancelled")
            except DomainError as refusal:
                said.append(refusal.code)

        thread = threading.Thread(target=wish, args=(booking, creator, gate, said))
        thread.start()
        gate.wait()
        stage.run(lambda tx: booking_clock.start_due(tx, stage.now))
        thread.join()
        status = seen(stage, booking, fan).status
        assert (status, said[0]) in {("cancelled", "cancelled"), ("started", "BOOKING_CLOSED")}
        stage.audit()


# --- reminders ---------------------------------------------------------------------------------------


def test_both_are_reminded_an_hour_and_five_minutes_before(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    start = stage.now + timedelta(minutes=120)
    told = []
    for minutes_before in (61, 60, 59, 6, 5, 4):
        stage.now = start - timedelta(minutes=minutes_before)
        clock(stage)
        told.append(len(stage.told(fan, "BOOKING_REMINDER")))
        assert len(stage.told(creator, "BOOKING_REMINDER")) == told[-1]
    assert told == [0, 1, 1, 1, 2, 2]
    last = stage.told(fan, "BOOKING_REMINDER")[-1]
    assert (last["bookingId"], last["name"]) == (booking.booking_id, creator.display_name)
    assert last["startsInMs"] == 300_000


def test_a_booking_of_the_last_minute_is_reminded_of_once(stage: Stage) -> None:
    _, fan, booking = booked(stage, in_minutes=30)
    clock(stage)
    assert stage.told(fan, "BOOKING_REMINDER") == []
    stage.now = booking.starts_at - timedelta(minutes=5)
    clock(stage)
    clock(stage)
    assert len(stage.told(fan, "BOOKING_REMINDER")) == 1


def test_a_clock_that_was_away_reminds_once_and_never_late(stage: Stage) -> None:
    _, fan, booking = booked(stage)
    stage.now = booking.starts_at - timedelta(minutes=2)
    clock(stage)
    assert len(stage.told(fan, "BOOKING_REMINDER")) == 1
    _, other, missed = booked(stage)
    stage.now = missed.starts_at + timedelta(seconds=1)
    clock(stage)
    assert stage.told(other, "BOOKING_REMINDER") == []


# --- the start ---------------------------------------------------------------------------------------


def test_at_its_time_a_booking_becomes_a_session_with_five_minutes_to_connect(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    stage.now = booking.starts_at - timedelta(seconds=1)
    clock(stage)
    assert seen(stage, booking, fan).status == "booked"
    at_start(stage, booking)
    started = seen(stage, booking, fan)
    assert started.status == "started"
    assert started.session_id is not None
    session = stage.session(started.session_id)
    assert (session.status, session.paid_minutes, session.total_held) == ("connecting", 10, 1_000)
    opened = next(c for c in stage.commands(OpenRoom) if c.room.room_id == session.room_id)
    assert opened.room.budget.timers.connecting_ms == 300_000
    for person in (fan, creator):
        assert stage.told(person, "BOOKING_STARTED")[-1]["sessionId"] == session.id
    with stage.database.reading() as tx:
        request = tx.get_one(RequestRow, session.request_id)
        assert (request.status, request.accepted_by) == ("accepted", "booking")
    stage.audit()
    stage.opened(session.id)
    # The clock that watches for silence gives the grace its time as well.
    assert stage.session(session.id).deadline_at > stage.now + timedelta(minutes=15)  # type: ignore[operator]
    stage.delivered(session.id, 1, 1_000)
    stage.call_ended(session.id, "time_expired", 600_000)
    assert stage.balances(creator)["earnings_pending"] == 800
    stage.audit()


def test_two_clocks_start_a_booking_once(stage: Stage) -> None:
    _, fan, booking = booked(stage)
    stage.now = booking.starts_at
    stage.heartbeat()
    gate = threading.Barrier(3)

    def round_() -> None:
        gate.wait()
        stage.run(lambda tx: booking_clock.start_due(tx, stage.now))

    threads = [threading.Thread(target=round_) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stage.told(fan, "BOOKING_STARTED")) == 1
    stage.audit()


@pytest.mark.parametrize(
    ("fact", "facts", "fan_pays", "creator_gets"),
    [
        ("creator_never_connected", {"creator_connected": False, "fan_connected": True}, 0, 0),
        ("fan_never_connected", {"creator_connected": True, "fan_connected": False}, 500, 400),
    ],
)
def test_who_does_not_come_is_dealt_with_by_the_end_table(
    stage: Stage, fact: str, facts: dict[str, bool], fan_pays: int, creator_gets: int
) -> None:
    creator, fan, booking = booked(stage)
    at_start(stage, booking)
    session_id = seen(stage, booking, fan).session_id
    assert session_id is not None
    stage.opened(session_id)
    stage.call_ended(session_id, fact, 0, **facts)
    assert stage.balances(fan)["wallet"] == 2_000 - fan_pays
    assert stage.balances(creator)["earnings_pending"] == creator_gets
    stage.audit()


def test_a_stream_made_for_a_booking_is_not_public_and_ends_with_it(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    at_start(stage, booking)
    session_id = seen(stage, booking, fan).session_id
    assert session_id is not None
    stream = stage.run(lambda tx: streams.stream_of(tx, creator.user_id))
    assert stream is not None
    assert stream.status == "private"
    refused("ALREADY_LIVE", stage.go_live, creator)
    # A queue does not make it one that can be asked on.
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, offers.CreatorOptions(queue=True)))
    refused("CREATOR_BUSY", stage.ask, stage.fan(), stream)
    clock(stage)
    assert stage.run(lambda tx: streams.stream_of(tx, creator.user_id)) is not None
    stage.opened(session_id)
    stage.call_ended(session_id, "fan_left", 60_000)
    clock(stage)
    assert stage.run(lambda tx: streams.stream_of(tx, creator.user_id)) is None
    stage.go_live(creator)


def test_a_creator_on_the_air_goes_private_for_a_booking_and_stays_on_the_air_after_it(stage: Stage) -> None:
    creator, stream = stage.live()
    asking, fan = stage.fan(), stage.fan()
    (slot,) = opening(stage, creator, 20)
    booking = book(stage, fan, slot)
    stage.later(minutes=19)
    request = stage.run(lambda tx: tx.scalar(select(StreamRow.status).where(StreamRow.id == stream.stream_id)))
    assert request == "live"
    at_start(stage, booking)
    assert stage.told(None, "STREAM_WENT_PRIVATE")
    session_id = seen(stage, booking, fan).session_id
    assert session_id is not None
    stage.opened(session_id)
    stage.call_ended(session_id, "fan_left", 60_000)
    clock(stage)
    assert stage.resume(stream, creator).status == "live"
    assert stage.balances(asking)["held"] == 0
    stage.audit()


def test_who_asked_meanwhile_is_released_or_waits(stage: Stage) -> None:
    creator, stream = stage.live()
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, offers.CreatorOptions(queue=True)))
    fan, asking = stage.fan(3_000), stage.fan()
    (slot,) = opening(stage, creator, 21)
    booking = book(stage, fan, slot)
    stage.now = booking.starts_at - timedelta(minutes=15, seconds=30)
    asked = stage.ask(asking, stream, 10)
    _, elsewhere = stage.live()
    stage.ask(fan, elsewhere, 5)
    at_start(stage, booking)
    waits = stage.run(lambda tx: private_streams.request_view(tx, asked.request_id, asking, stage.now))
    assert (waits.status, waits.position) == ("queued", 1)
    assert stage.balances(fan)["held"] == 1_000
    stage.audit()


def test_a_booking_waits_for_its_people_up_to_the_grace_then_gives_everything_back(stage: Stage) -> None:
    creator, stream = stage.live()
    early, fan = stage.fan(), stage.fan()
    (slot,) = opening(stage, creator, 30)
    booking = book(stage, fan, slot)
    request = stage.ask(early, stream, 10)
    session = stage.accept(request.request_id, creator)
    stage.opened(session.session_id)
    stage.delivered(session.session_id, 1, 1_000)
    # It went on for longer than was paid for: pauses.
    at_start(stage, booking)
    assert seen(stage, booking, fan).status == "booked"
    stage.now = booking.starts_at + timedelta(minutes=5)
    clock(stage)
    assert seen(stage, booking, fan).status == "booked"
    stage.now += timedelta(seconds=1)
    clock(stage)
    gone = seen(stage, booking, fan)
    assert (gone.status, gone.close_reason) == ("released", "busy")
    assert stage.balances(fan)["wallet"] == 1_000
    stage.audit()


def test_a_booking_begins_late_when_the_other_call_ends_within_the_grace(stage: Stage) -> None:
    creator, stream = stage.live()
    early, fan = stage.fan(), stage.fan()
    (slot,) = opening(stage, creator, 30)
    booking = book(stage, fan, slot)
    session = stage.accept(stage.ask(early, stream, 10).request_id, creator)
    stage.opened(session.session_id)
    stage.delivered(session.session_id, 1, 1_000)
    at_start(stage, booking)
    stage.later(minutes=4)
    stage.call_ended(session.session_id, "fan_left", 60_000)
    clock(stage)
    assert seen(stage, booking, fan).status == "started"
    stage.audit()


def test_without_a_media_node_a_booking_waits_and_is_released(stage: Stage) -> None:
    _, fan, booking = booked(stage)
    stage.run(lambda tx: tx.query(MediaNodeRow).delete())
    at_start(stage, booking)
    assert seen(stage, booking, fan).status == "booked"
    stage.later(minutes=5, seconds=1)
    clock(stage)
    gone = seen(stage, booking, fan)
    assert (gone.status, gone.close_reason) == ("released", "unavailable")
    assert stage.balances(fan)["wallet"] == 2_000
    stage.audit()


@pytest.mark.parametrize("why", ["blocked", "payment_failed"])
def test_the_blocked_and_the_frozen_get_their_tokens_back_at_once(stage: Stage, why: str) -> None:
    creator, fan, booking = booked(stage)

    def freeze(tx: Any) -> None:
        tx.get_one(PersonRow, fan.user_id).spending_frozen_at = stage.now

    if why == "blocked":
        stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    else:
        stage.run(freeze)
    clock(stage)
    gone = seen(stage, booking, fan)
    assert (gone.status, gone.close_reason) == ("released", why)
    assert stage.balances(fan)["wallet"] == 2_000
    stage.audit()


# --- nothing runs into a booking ---------------------------------------------------------------------


def test_what_would_run_into_the_creators_booking_is_refused(stage: Stage) -> None:
    creator, stream = stage.live()
    booker, fan = stage.fan(), stage.fan(3_000)
    (slot,) = opening(stage, creator, 30)
    booking = book(stage, booker, slot)
    refusal = refused("CREATOR_UNAVAILABLE", stage.ask, fan, stream, 26)
    assert refusal.fields["starts_at"].startswith(booking.starts_at.isoformat()[:19])  # type: ignore[union-attr]
    assert stage.balances(fan)["held"] == 0
    asked = stage.ask(fan, stream, 25)
    stage.later(seconds=1)
    refused("CREATOR_UNAVAILABLE", stage.accept, asked.request_id, creator)
    rule: Any = {"enabled": True, "rate_per_minute": 100, "min_minutes": 5, "auto_accept": "all"}
    stage.run(lambda tx: private_streams.put_settings(tx, creator.user_id, **rule, now=stage.now))
    assert not stage.run(lambda tx: private_streams.apply_rule(tx, asked.request_id, stage.now))
    stage.cancel(asked.request_id, fan)
    stage.accept(stage.ask(fan, stream, 24).request_id, creator)


def test_what_would_run_into_the_fans_booking_is_refused(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(5_000)
    (slot,) = opening(stage, stage.creator(), 30)
    book(stage, fan, slot)
    refused("FAN_BOOKED", stage.ask, fan, stream, 26)
    asked = stage.ask(fan, stream, 25)
    stage.later(seconds=1)
    refused("FAN_BOOKED", stage.accept, asked.request_id, creator)


def test_who_is_in_a_call_that_may_last_is_not_booked_for_then(stage: Stage) -> None:
    creator, stream = stage.live()
    (slot, later) = opening(stage, creator, 20, 60)
    session = stage.accept(stage.ask(stage.fan(3_000), stream, 10).request_id, creator)
    other = stage.fan(3_000)
    book(stage, other, slot)
    in_call = stage.fan(9_000)
    _, elsewhere = stage.live()
    elsewhere_creator = stage.run(lambda tx: accounts.find_by_handle(tx, elsewhere.handle))
    assert elsewhere_creator is not None
    stage.accept(stage.ask(in_call, elsewhere, 60).request_id, elsewhere_creator)
    refused("FAN_BUSY", book, stage, in_call, later)
    (close,) = opening(stage, elsewhere_creator, 64)
    refused("CREATOR_UNAVAILABLE", book, stage, other, close)
    assert stage.session(session.session_id).status == "connecting"


def test_a_queued_fan_whose_minutes_run_into_a_booking_is_passed_over_for_a_shorter_wish(stage: Stage) -> None:
    creator, stream = stage.live()
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, offers.CreatorOptions(queue=True)))
    (slot,) = opening(stage, creator, 60)
    book(stage, stage.fan(), slot)
    session = stage.accept(stage.ask(stage.fan(), stream, 10).request_id, creator)
    stage.opened(session.session_id)
    long, short = stage.fan(9_000), stage.fan()
    one = stage.ask(long, stream, 60)
    stage.now += timedelta(microseconds=1)
    two = stage.ask(short, stream, 10)
    stage.later(minutes=8)
    stage.call_ended(session.session_id, "fan_left", 60_000)
    stage.heartbeat()
    assert stage.run(lambda tx: queueing.call_waiting(tx, stage.now)) == 1
    with stage.database.reading() as tx:
        called = [tx.get_one(RequestRow, each.request_id).turn_at is not None for each in (one, two)]
    assert called == [False, True]


def test_next_start_is_the_soonest_of_either_side(stage: Stage) -> None:
    creator, fan, booking = booked(stage)

    def next_start(person: Person) -> datetime | None:
        return stage.run(lambda tx: engaged.next_start(tx, person.user_id, stage.now))

    assert next_start(creator) == next_start(fan) == booking.starts_at
    assert stage.run(lambda tx: bookings.fan_next_start(tx, fan.user_id, stage.now)) == booking.starts_at
    cancel(stage, booking, creator)
    assert next_start(creator) is None


# --- whatever happens --------------------------------------------------------------------------------


def test_a_shorter_minute_shortens_every_timer_of_a_booking() -> None:
    agenda = agenda_for(3_000)
    assert (agenda.grace, agenda.lead) == (timedelta(seconds=15),) * 2
    # But for the one in which somebody has to press something
    assert agenda.turn == timedelta(seconds=10)
    assert agenda_for(12_000).turn == timedelta(seconds=12)
    assert agenda.remind == (timedelta(minutes=3), timedelta(seconds=15))


@given(data=st.data())
@hypothesis_settings(
    max_examples=examples(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_booking_ends_as_a_session_or_with_everything_back(stage: Stage, data: st.DataObject) -> None:
    creator = stage.creator()
    fans = [stage.fan(4_000) for _ in range(3)]
    slots = opening(stage, creator, *(70 + 20 * n for n in range(4)))
    held: dict[str, tuple[Person, BookingView]] = {}
    for _ in range(data.draw(st.integers(3, 12))):
        wish = data.draw(st.sampled_from(["book", "book", "fan_cancels", "creator_cancels", "later", "end"]))
        try:
            if wish == "book":
                fan, slot = data.draw(st.sampled_from(fans)), data.draw(st.sampled_from(slots))
                made = book(stage, fan, slot)
                held[made.booking_id] = (fan, made)
            elif wish.endswith("cancels") and held:
                fan, made = held[data.draw(st.sampled_from(sorted(held)))]
                cancel(stage, made, fan if wish.startswith("fan") else creator)
            elif wish == "later":
                stage.later(minutes=data.draw(st.sampled_from([3, 12, 60])))
                clock(stage)
            elif wish == "end":
                _end_calls(stage, creator)
        except DomainError:
            pass
        stage.audit()
    for _ in range(12):
        stage.later(minutes=14)
        clock(stage)
        _end_calls(stage, creator)
    assert [stage.balances(fan)["held"] for fan in fans] == [0, 0, 0]
    for fan, made in held.values():
        view = seen(stage, made, fan)
        assert view.status in ("started", "cancelled", "released")
        assert (view.session_id is not None) == (view.status == "started")
    stage.audit()


def _end_calls(stage: Stage, creator: Person) -> None:
    with stage.database.reading() as tx:
        running = select(SessionRow.id).where(
            SessionRow.creator_id == creator.user_id, SessionRow.status.in_(("connecting", "live"))
        )
        found = tx.scalars(running).all()
    for session_id in found:
        stage.opened(session_id)
        stage.call_ended(session_id, "fan_left", 60_000)


def test_a_closed_booking_is_forgotten_by_lists_after_a_week(stage: Stage) -> None:
    creator, fan, booking = booked(stage)
    cancel(stage, booking, creator)

    def listed() -> list[str]:
        return [b.booking_id for b in stage.run(lambda tx: bookings.bookings_of(tx, fan.user_id, stage.now))]

    assert listed() == [booking.booking_id]
    stage.later(days=7, seconds=1)
    assert listed() == []
