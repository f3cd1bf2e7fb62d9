"""Tips and subscriptions in real Chromium: who sees a tip, what a subscription shows before, during and after."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ops.house import House
from tests.books import assert_clean
from tests.conftest import MakeHouse
from tests.e2e.conftest import SMALL_CAMERA, SignIn
from tests.e2e.program import Program
from tests.e2e.witness import has_read, hears, remember

OPTIONS: dict[str, Any] = {
    "queue": False,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": 300,
    "subscriptionMinutes": 20,
    "subscriberDiscountPercent": 10,
}


@pytest.fixture
def camera() -> str:
    """Its picture is not looked at."""
    return SMALL_CAMERA


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """People of its own, since balances are looked at; whole minutes, so that a stream waits for its creator."""
    made = make_house(demo=True)
    yield made
    made.stop()


@pytest.fixture
def program(house: House) -> Iterator[Program]:
    """Creator A's own program, off the air again after the test."""
    made = Program(house, "creator_a")
    made.call("PUT", "/api/streaming/creator-options", OPTIONS)
    yield made
    made.call("PUT", "/api/streaming/creator-options", OPTIONS | {"subscriptionPrice": None})
    for stream in made.call("GET", "/api/streaming/streams")["streams"]:
        made.stream_id = stream["streamId"]
        made.end()


def address(house: House, path: str) -> str:
    return house.environment["PUBLIC_URL"] + path


def tip(page: Page, amount: int, message: str = "") -> None:
    """Open the dialog, choose, look at what it costs, give."""
    page.get_by_role("button", name="Tip", exact=True).click()
    dialog = page.get_by_role("dialog", name="Tip Creator A", exact=True)
    tokens = dialog.get_by_role("spinbutton", name="Tokens", exact=True)
    expect(tokens).to_be_focused()
    tokens.fill(str(amount))
    dialog.get_by_role("textbox", name="Message, if you like", exact=True).fill(message)
    dialog.get_by_role("button", name=f"Give {amount} tokens", exact=True).click()
    expect(dialog).to_be_hidden()


def tips_of(page: Page) -> Any:
    return page.get_by_role("region", name="Tips", exact=True)


def test_a_tip_is_seen_by_all_and_in_a_call_by_two(house: House, program: Program, sign_in: SignIn) -> None:
    # Given a creator who is live in the studio, watched by two fans
    studio, fan = (sign_in(house, handle) for handle in ("creator_a", "fan_a"))
    # As most people see it: what moves, moves
    other = sign_in(house, "fan_b", reduced_motion="no-preference")
    remember(studio, fan, other)
    studio.goto(address(house, "/studio"))
    studio.get_by_role("button", name="Go live", exact=True).click()
    expect(studio.get_by_role("button", name="End stream", exact=True)).to_be_visible()
    for page in (fan, other):
        page.goto(address(house, "/models/creator_a"))
        expect(page.get_by_role("button", name="Tip", exact=True)).to_be_visible()
    expect(fan.locator("#balance")).to_have_accessible_name(re.compile("5,000 tokens"))

    hears(studio, fan, other)

    # When one of them tips, with words that are no markup
    tip(fan, 50, "For the <b>mug</b>")

    # Then both fans and the creator see it, with the handle, and a screen reader is told
    for page in (studio, fan, other):
        expect(tips_of(page)).to_contain_text("fan_a tipped 50 tokens")
        expect(tips_of(page)).to_contain_text("For the <b>mug</b>")
        has_read(page, "over the picture: fan_a tipped 50 tokens")
    has_read(other, "fan_a tipped 50 tokens: For the <b>mug</b>")
    expect(fan.locator("#balance")).to_have_accessible_name(re.compile("4,950 tokens"))
    # And who comes later sees it too
    other.reload()
    expect(tips_of(other)).to_contain_text("fan_a tipped 50 tokens")

    # When the two are in a private stream and the fan tips again
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    fan.get_by_role("dialog", name="Private Stream").get_by_role("button", name="Confirm request").click()
    accept = studio.get_by_role("button", name="Accept", exact=True)
    accept.click()
    expect(fan).to_have_url(re.compile("/call/"))
    tip(fan, 70, "Only for you")
    for page in (fan, studio):
        expect(page.locator(".call").get_by_role("region", name="Tips", exact=True)).to_contain_text(
            "fan_a tipped 70 tokens"
        )
    # Then nobody else learns of it, and the public tip is not among those of the call
    expect(studio.locator(".call [data-tips-list] > li")).to_have_count(1)
    expect(other.locator("[data-tips-list] > li")).to_have_count(1)
    fan.reload()
    expect(tips_of(fan)).to_contain_text("Only for you")
    # And on the narrowest phone every control is within the screen
    fan.set_viewport_size({"width": 320, "height": 640})
    for name in ("Mute", "Tip", "End call"):
        box = fan.get_by_role("button", name=name, exact=True).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320
    fan.get_by_role("button", name="End call", exact=True).click()
    expect(fan).to_have_url(re.compile("/models"))
    assert_clean(house)


def test_a_fan_without_tokens_is_led_to_the_wallet(house: House, program: Program, sign_in: SignIn) -> None:
    program.go_live()
    fan = sign_in(house, "fan_b")
    fan.goto(address(house, "/models/creator_a"))
    fan.get_by_role("button", name="Tip", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Tip Creator A", exact=True)
    expect(dialog).to_contain_text("50 tokens, about $2.50")
    expect(dialog.get_by_role("link", name="Get tokens", exact=True)).to_be_visible()
    expect(dialog.get_by_role("button", name=re.compile("^Give"))).to_be_hidden()
    dialog.get_by_role("spinbutton", name="Tokens", exact=True).fill("4")
    expect(dialog.get_by_text("Choose 5 to 100,000 tokens.")).to_be_visible()
    # When the stream ends, the dialog goes with it
    program.end()
    expect(dialog).to_be_hidden()


def test_a_subscription_from_the_offer_to_its_end(house: House, program: Program, sign_in: SignIn) -> None:
    # Given a creator who offers a subscription and is live
    program.go_live()
    fan = sign_in(house, "fan_a")
    fan.goto(address(house, "/models/creator_a"))
    card = fan.get_by_role("region", name="Subscribe", exact=True)
    expect(card).to_contain_text("300 tokens a month about $15.00")
    expect(card).to_contain_text("20 private minutes each month")
    before = program.call("GET", "/api/wallet")["earningsPending"]

    # When the fan opens the dialog by keyboard
    card.get_by_role("button", name="Subscribe", exact=True).focus()
    fan.keyboard.press("Enter")
    dialog = fan.get_by_role("dialog", name="Subscribe to Creator A", exact=True)
    expect(dialog).to_be_visible()
    # Then it says everything before the press, and the press pays
    expect(dialog).to_contain_text("20 private minutes, 10% off further minutes")
    expect(dialog).to_contain_text("It renews by itself at this price")
    confirm = dialog.get_by_role("button", name="Subscribe for 300 tokens", exact=True)
    expect(confirm).to_be_focused()
    fan.keyboard.press("Enter")
    mine = fan.get_by_role("region", name="Your subscription", exact=True)
    expect(mine).to_contain_text("Active")
    expect(mine).to_contain_text("20 of 20")
    assert program.call("GET", "/api/wallet")["earningsPending"] == before + 240
    assert program.call("GET", "/api/streaming/subscribers") == {"count": 1}

    # And the discount and the minutes are in the request dialog
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    ask = fan.get_by_role("dialog", name="Private Stream", exact=True)
    expect(ask).to_contain_text("90 tokens per minute")
    expect(ask).to_contain_text(re.compile("discount.*10", re.IGNORECASE))
    fan.keyboard.press("Escape")

    # When it is cancelled, nothing is lost, and it can be taken back
    mine.get_by_role("button", name="Cancel subscription", exact=True).click()
    sure = fan.get_by_role("dialog", name="Cancel your subscription?", exact=True)
    expect(sure).to_contain_text("Nothing more is paid.")
    sure.get_by_role("button", name="Cancel subscription", exact=True).click()
    expect(mine).to_contain_text("Cancelled")
    expect(mine).to_contain_text("Everything stays until then.")
    mine.get_by_role("button", name="Keep the subscription", exact=True).click()
    expect(mine).to_contain_text("Active")

    # And the account says the same, without a dialog
    fan.goto(address(house, "/account"))
    listed = fan.get_by_role("region", name="Subscriptions", exact=True)
    expect(listed).to_contain_text("300 tokens ($15.00) again on")
    listed.get_by_role("button", name="Cancel the subscription to Creator A", exact=True).click()
    expect(fan.get_by_text("Your subscription to Creator A is cancelled.")).to_be_visible()
    expect(listed).to_contain_text("Nothing more is paid.")


def test_the_daily_limit_holds_on_the_page(house: House, program: Program, sign_in: SignIn) -> None:
    program.go_live()
    fan = sign_in(house, "fan_a")
    # Given a limit that is spent already
    fan.goto(address(house, "/account"))
    limit = fan.get_by_role("region", name="Daily limit", exact=True)
    limit.get_by_label("Tokens a day", exact=True).fill("1")
    limit.get_by_role("button", name="Save limit", exact=True).click()
    expect(fan.get_by_text("Your daily limit is saved.")).to_be_visible()
    # When the fan tips all the same
    fan.goto(address(house, "/models/creator_a"))
    fan.get_by_role("button", name="Tip", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Tip Creator A", exact=True)
    dialog.get_by_role("button", name="Give 50 tokens", exact=True).click()
    # Then it is the fan's own limit that says no
    expect(dialog.get_by_role("alert")).to_contain_text("over your own limit of 1 token a day.")
    fan.keyboard.press("Escape")
    # And more is allowed from tomorrow on
    fan.goto(address(house, "/account"))
    limit.get_by_label("Tokens a day", exact=True).fill("")
    limit.get_by_role("button", name="Save limit", exact=True).click()
    expect(limit).to_contain_text("no limit")
    expect(limit).to_contain_text("of 1 token ($0.05)")
