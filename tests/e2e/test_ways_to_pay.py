"""Extending a running call, and paying one by the minute until the tokens are gone: in two real browsers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ops.house import House
from tests.books import assert_clean
from tests.conftest import MakeHouse
from tests.e2e.conftest import PATIENCE_MS, SMALL_CAMERA, SignIn
from tests.e2e.witness import has_read, remember

MINUTE_SECONDS = 30
OPTIONS = {
    "queue": False,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": None,
    "subscriptionMinutes": 0,
    "subscriberDiscountPercent": 0,
}
CALL = """async ([method, path, body]) => {
  const { api } = await import("/static/js/api.js");
  return method === "GET" ? api.get(path) : api.put(path, body);
}"""


@pytest.fixture
def camera() -> str:
    """Its picture is not looked at."""
    return SMALL_CAMERA


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """A minute of 30 s: enough to press something in on a slow machine, short enough to be waited for."""
    made = make_house(minute_seconds=MINUTE_SECONDS, demo=True)
    yield made
    made.stop()


def api(page: Page, method: str, path: str, body: Any = None) -> Any:
    """A call of the API as the page's own person."""
    return page.evaluate(CALL, [method, path, body])


def offer(studio: Page, *, rate: int, **options: Any) -> None:
    settings = {"enabled": True, "ratePerMinute": rate, "minMinutes": 1, "autoAccept": "all"}
    api(studio, "PUT", "/api/streaming/private-settings", settings)
    api(studio, "PUT", "/api/streaming/creator-options", OPTIONS | options)


def go_live(studio: Page, house: House) -> None:
    studio.goto(f"{house.environment['PUBLIC_URL']}/studio")
    studio.get_by_role("button", name="Go live", exact=True).click()
    expect(studio.get_by_role("button", name="End stream", exact=True)).to_be_visible()


def open_dialog(fan: Page, house: House, handle: str) -> Any:
    fan.goto(f"{house.environment['PUBLIC_URL']}/models/{handle}")
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    return fan.get_by_role("dialog", name="Private Stream")


def in_the_call(*sides: Page) -> None:
    for side in sides:
        expect(side).to_have_url(re.compile("/call/"))
        side.wait_for_function(
            "() => document.querySelector('.call')?.dataset.state === 'running'"
        )


def receipt_of(fan: Page, session_id: str) -> Any:
    """The receipt, once it is there."""
    # Asked from here: of an async function that a page waits for, the promise itself would count as true.
    for _ in range(PATIENCE_MS // 200):
        receipt = api(fan, "GET", f"/api/streaming/private-sessions/{session_id}")
        if receipt["status"] == "ended":
            return receipt
        fan.wait_for_timeout(200)
    raise AssertionError(f"no receipt within {PATIENCE_MS} ms")


def test_a_call_is_extended_runs_past_its_first_end_and_is_billed_so(house: House, sign_in: SignIn) -> None:
    # Given a running call of one minute
    creator, fan = sign_in(house, "creator_a"), sign_in(house, "fan_a")
    remember(fan)
    offer(creator, rate=100)
    go_live(creator, house)
    dialog = open_dialog(fan, house, "creator_a")
    dialog.get_by_role("spinbutton", name="Minutes", exact=True).fill("1")
    dialog.get_by_role("button", name="Confirm request", exact=True).click()
    in_the_call(fan, creator)
    session_id = fan.url.rsplit("/", 1)[1]

    # When the fan extends it by one, seeing the cost before the press
    fan.get_by_role("button", name="Extend", exact=True).click()
    more = fan.get_by_role("dialog", name="Extend")
    more.get_by_role("spinbutton", name="Minutes to add", exact=True).fill("1")
    expect(more).to_contain_text("100 tokens per minute ($5.00)")
    more.get_by_role("button", name="Add 1 minute for 100 tokens", exact=True).click()

    # Then the node has it: the paid time grows for both, and the figures with it
    has_read(fan, "1 minute added. The call is paid until 1:00.")
    expect(more).to_be_hidden()
    for side in (fan, creator):
        expect(side.locator('.call__side [data-call="paid"]')).to_have_text("1:00")
        expect(side.locator('.call__side [data-call="ahead"]')).to_have_text("2 min, 200 tokens")

    # And the last seconds are announced, once more after they were before
    has_read(fan, "Less than 30 s left.")
    expect(fan.get_by_role("button", name="Add minutes", exact=True)).to_be_visible()
    has_read(fan, "Less than 8 s left.")

    # And it runs past its first paid end to the second, and is billed so
    expect(fan).to_have_url(re.compile(r"/models\?ended=TIME_EXPIRED"))
    receipt = receipt_of(fan, session_id)
    assert (receipt["deliveredMs"], receipt["paidMs"]) == (60_000, 60_000)
    assert (receipt["billedMinutes"], receipt["totalHeld"], receipt["refunded"]) == (2, 200, 0)
    assert receipt["earnings"] + receipt["commission"] == 200
    assert_clean(house)


def test_by_the_minute_without_tokens_the_last_paid_minute_ends_in_payment_failed(
    house: House, sign_in: SignIn
) -> None:
    # Given a creator who takes payment by the minute, at a rate of which the fan has two and a half minutes
    creator, fan = sign_in(house, "creator_b"), sign_in(house, "fan_a")
    remember(fan)
    tokens = api(fan, "GET", "/api/wallet")["available"]
    rate = tokens * 2 // 5
    offer(creator, rate=rate, perMinute=True)
    go_live(creator, house)

    # When the fan chooses it: the minimum is held first, and the dialog says how it ends without tokens
    dialog = open_dialog(fan, house, "creator_b")
    dialog.get_by_role("radio", name="Pay by the minute", exact=True).check()
    expect(dialog.get_by_text("Your tokens run out")).to_be_visible()
    expect(dialog.get_by_role("spinbutton", name="Minutes", exact=True)).to_be_hidden()
    dialog.get_by_role("button", name="Confirm request", exact=True).click()
    in_the_call(fan, creator)
    session_id = fan.url.rsplit("/", 1)[1]
    expect(fan.locator('.call__side [data-call="ahead-label"]')).to_have_text("Paid so far")

    # Then the second minute is held by itself
    expect(fan.locator('.call__side [data-call="paid"]')).to_have_text("1:00")

    # And the third cannot be: both are told, and the node ends the call at the end of the second
    has_read(fan, "Your tokens do not reach for another minute.")
    has_read(fan, "Reason: PAYMENT FAILED")
    expect(fan).to_have_url(re.compile(r"/models\?ended=PAYMENT_FAILED"))
    receipt = receipt_of(fan, session_id)
    assert (receipt["endReason"], receipt["paymentMode"]) == ("PAYMENT_FAILED", "per_minute")
    assert (receipt["deliveredMs"], receipt["billedMinutes"]) == (60_000, 2)
    assert (receipt["totalHeld"], receipt["refunded"]) == (rate * 2, 0)
    assert_clean(house)
