"""Somebody else books the time that a fan is looking at: the open page follows, and nobody pays for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from models.clock import rfc3339, utc_now
from ops.house import House
from tests.e2e.conftest import SignIn
from tests.e2e.program import Program


class Times:
    """Two times of creator A in two days, and a second fan who takes them."""

    def __init__(self, house: House) -> None:
        self.creator, self.other = Program(house, "creator_a"), Program(house, "mock_fan")
        at = utc_now().replace(microsecond=0) + timedelta(days=2)
        wanted = [{"startsAt": rfc3339(at + timedelta(hours=hour)), "minutes": 5} for hour in (0, 1)]
        slots = self.creator.call("POST", "/api/streaming/slots", {"slots": wanted})["slots"]
        self.ids = [slot["slotId"] for slot in slots]
        self.booked: list[str] = []

    def take(self, number: int) -> None:
        booking = self.other.call("POST", "/api/streaming/bookings", {"slotId": self.ids[number]})
        self.booked.append(booking["bookingId"])

    def take_back(self) -> None:
        for booking_id in self.booked:
            self.creator.call("DELETE", f"/api/streaming/bookings/{booking_id}")
        for slot_id in self.ids[len(self.booked) :]:
            self.creator.call("DELETE", f"/api/streaming/slots/{slot_id}")


@pytest.fixture
def times(live_app: House) -> Iterator[Times]:
    made = Times(live_app)
    yield made
    made.take_back()


def look(page: Page, house: House) -> Page:
    page.goto(f"{house.environment['PUBLIC_URL']}/models/creator_a")
    expect(page.get_by_role("button", name="Book", exact=True)).to_have_count(2)
    return page


def test_a_time_that_another_fan_books_leaves_the_open_page(
    live_app: House, sign_in: SignIn, times: Times
) -> None:
    # given a fan who reads what the first of two times costs
    fan = look(sign_in(live_app, "fan_a"), live_app)
    fan.get_by_role("button", name="Book", exact=True).first.click()
    dialog = fan.get_by_role("dialog", name="Book a private stream")
    expect(dialog.get_by_role("button", name="Confirm booking", exact=True)).to_be_visible()
    # when another fan books it
    times.take(0)
    # then the dialog says so and cannot be confirmed, and the other time is still there to be chosen
    expect(dialog.get_by_text("Somebody else has just booked this time. Nothing was held.")).to_be_visible()
    expect(dialog.get_by_role("button", name="Confirm booking", exact=True)).to_be_hidden()
    dialog.get_by_role("button", name="Choose another time", exact=True).click()
    expect(fan.get_by_role("button", name="Book", exact=True)).to_have_count(1)


def test_a_page_that_hears_nothing_is_told_when_it_books(live_app: House, sign_in: SignIn, times: Times) -> None:
    # given a fan whose page has no feed
    page = sign_in(live_app, "fan_a")
    page.route_web_socket("**/api/events*", lambda feed: feed.close())
    fan = look(page, live_app)
    fan.get_by_role("button", name="Book", exact=True).first.click()
    dialog = fan.get_by_role("dialog", name="Book a private stream")
    expect(dialog.get_by_role("button", name="Confirm booking", exact=True)).to_be_visible()
    # when the time is booked by another, and the fan presses
    times.take(0)
    dialog.get_by_role("button", name="Confirm booking", exact=True).click()
    # then the refusal is in words, and the list behind it is a fresh one
    expect(dialog.get_by_text("Somebody else has just booked this time. Nothing was held.")).to_be_visible()
    dialog.get_by_role("button", name="Choose another time", exact=True).click()
    expect(fan.get_by_role("button", name="Book", exact=True)).to_have_count(1)
