"""A second fan waits in the queue and is next; a time is booked and begins by itself: in real browsers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import tables
from models.clock import utc_now
from models.db import Database
from ops.house import House
from tests.books import assert_clean
from tests.conftest import MakeHouse
from tests.e2e.conftest import SignIn
from tests.e2e.witness import has_read, remember

CALL = """async ([method, path, body]) => {
  const token = document.querySelector('meta[name="csrf-token"]').content;
  const key = path + Date.now();
  const headers = { 'Content-Type': 'application/json', 'X-CSRFToken': token, 'Idempotency-Key': key };
  return (await fetch(path, { method, headers, credentials: 'same-origin', body: JSON.stringify(body) })).status;
}"""
QUEUE = {
    "queue": True,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": None,
    "subscriptionMinutes": 0,
    "subscriberDiscountPercent": 0,
}


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """A minute of 6 s: what is booked lasts 30 s, and both have 30 s to connect."""
    made = make_house(minute_seconds=6, demo=True)
    yield made
    made.stop()


def hurry(house: House, left: timedelta) -> None:
    """Let the time pass until what is booked begins, but for ``left``."""
    database = Database(f"sqlite:///{house.var / 'greenroom.db'}")

    def pass_by(tx: Session) -> None:
        booking, slot = tables.bookings.BookingRow, tables.bookings.SlotRow
        row = tx.scalars(select(booking).where(booking.status == "booked")).one()
        gone = row.starts_at - (utc_now() + left)
        for each in (row, tx.get_one(slot, row.slot_id)):
            each.starts_at, each.ends_at = each.starts_at - gone, each.ends_at - gone

    database.run(pass_by)
    database.close()


def test_a_time_is_opened_booked_reminded_of_and_begins_by_itself(house: House, sign_in: SignIn) -> None:
    address = house.environment["PUBLIC_URL"]
    # Given a creator who is not live and opens a time from the Schedule tab, and one for today
    creator, fan = sign_in(house, "creator_b"), sign_in(house, "fan_a")
    remember(creator)
    creator.goto(f"{address}/studio?tab=schedule")
    expect(creator.get_by_role("heading", name="No times are open")).to_be_visible()
    form = creator.locator("#open-times")
    form.get_by_label("Minutes each").fill("5")
    starts = datetime.now() + timedelta(days=2)
    form.get_by_label("Date").fill(starts.strftime("%Y-%m-%d"))
    form.get_by_label("Start").fill("18:00")
    expect(form.locator("[data-preview=pays]")).to_contain_text("500 tokens, about $25.00")
    form.get_by_role("button", name="Open times", exact=True).click()
    has_read(creator, "1 time opened.")
    soon = (datetime.now().astimezone() + timedelta(minutes=5)).isoformat()
    slots = {"slots": [{"startsAt": soon, "minutes": 5}]}
    assert creator.evaluate(CALL, ["POST", "/api/streaming/slots", slots]) == 201

    # When the fan reads what it costs and what cancelling means, and books it
    remember(fan)
    fan.goto(f"{address}/models/creator_b")
    times = fan.get_by_role("region", name="Book a time")
    expect(times.get_by_role("button", name="Book", exact=True)).to_have_count(2)
    times.get_by_role("button", name="Book", exact=True).first.click()
    dialog = fan.get_by_role("dialog", name="Book a private stream")
    expect(dialog).to_contain_text("500 tokens")
    expect(dialog).to_contain_text("once booked, you cannot cancel it")
    expect(dialog).to_contain_text("What you pay if…")
    dialog.get_by_role("button", name="Confirm booking", exact=True).click()
    # The dialog says the same, and goes: this is the word that follows, for some seconds
    has_read(fan, ". The call starts by itself.")
    expect(fan.locator("#balance")).to_contain_text("500 held")
    # In five minutes, which shortly before midnight is another day
    expect(creator.get_by_text(re.compile("fan_a booked (today|tomorrow)")).first).to_be_visible()
    expect(creator.locator("#schedule-list").get_by_text("Booked", exact=True)).to_be_visible()

    # Then both are reminded five minutes before, wherever they are
    fan.goto(f"{address}/wallet")
    hurry(house, timedelta(seconds=30))
    for page in (fan, creator):
        expect(page.get_by_role("region", name="Your booking")).to_be_visible()

    hurry(house, timedelta(0))

    # And the call begins by itself on both sides, the creator's in the studio
    for page in (fan, creator):
        expect(page).to_have_url(re.compile("/call/"))
    fan.wait_for_function("() => document.querySelector('#remote-video')?.videoWidth > 0")

    # And it is billed when its time is used up
    expect(fan).to_have_url(re.compile(r"/models\?"))
    fan.goto(f"{address}/history")
    fan.locator("main a[href*='/history/']").first.click()
    expect(fan.locator("main")).to_contain_text("500")
    expect(fan.locator("#balance")).not_to_contain_text("held")
    # And the creator is off the air again, as before
    expect(creator.get_by_role("button", name="Go live", exact=True)).to_be_visible()
    assert_clean(house)


def ask(fan: Page, minutes: int) -> None:
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Private Stream")
    dialog.get_by_role("spinbutton", name="Minutes", exact=True).fill(str(minutes))
    dialog.get_by_role("button", name="Confirm request", exact=True).click()


def test_a_second_fan_waits_in_the_queue_and_is_next(live_app: House, sign_in: SignIn) -> None:
    address = live_app.environment["PUBLIC_URL"]
    # Given a creator with a queue, in a call
    creator, first, second = (sign_in(live_app, handle) for handle in ("creator_a", "fan_a", "fan_b"))
    creator.goto(f"{address}/studio")
    assert creator.evaluate(CALL, ["PUT", "/api/streaming/creator-options", QUEUE]) == 200
    creator.reload()
    creator.get_by_role("button", name="Go live", exact=True).click()
    expect(creator.get_by_role("button", name="End stream", exact=True)).to_be_visible()
    buys = {"packageId": "tokens-500", "card": "succeeds"}
    assert second.evaluate(CALL, ["POST", "/api/wallet/top-up", buys]) == 201
    first.goto(f"{address}/models/creator_a")
    second.goto(f"{address}/models/creator_a")
    ask(first, 8)
    creator.get_by_role("button", name="Accept", exact=True).click()
    expect(first).to_have_url(re.compile("/call/"))

    # When another fan asks meanwhile, with its total held
    expect(second.get_by_text("You can wait in the queue").first).to_be_visible()
    ask(second, 5)
    expect(second.get_by_role("heading", name="You are next")).to_be_visible()
    expect(second.locator("#balance")).to_contain_text("500 held")

    # Then at the end of the call it is their turn, at the price that they saw
    first.get_by_role("button", name="End call", exact=True).click()
    second.get_by_role("button", name="Confirm request", exact=True).last.click()
    creator.get_by_role("button", name="Accept", exact=True).click()
    expect(second).to_have_url(re.compile("/call/"))
    second.wait_for_function("() => document.querySelector('#remote-video')?.videoWidth > 0")
    second.get_by_role("button", name="End call", exact=True).click()
    expect(second).to_have_url(re.compile("/models"))
    creator.get_by_role("button", name="End stream", exact=True).click()
    assert_clean(live_app)
