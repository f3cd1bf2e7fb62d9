"""The pages in real Chromium: names that assistive technology reads, the way to tokens and back, live changes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, WebSocket, expect

from ops.house import House
from tests.e2e.conftest import PATIENCE_MS, SignIn
from tests.e2e.program import Program

PHONE = {"width": 390, "height": 844}
NARROW = {"width": 320, "height": 640}


@pytest.fixture
def new_context(new_context: Callable[..., BrowserContext]) -> Callable[..., BrowserContext]:
    """As most people see the pages: what moves, moves."""
    return partial(new_context, reduced_motion="no-preference")


@pytest.fixture
def creator(live_app: House) -> Iterator[Program]:
    """Creator B with the usual price, off the air again after the test."""
    program = Program(live_app, "creator_b")
    settings = {"enabled": True, "ratePerMinute": 100, "minMinutes": 5, "autoAccept": "manual"}
    program.call("PUT", "/api/streaming/private-settings", settings)
    yield program
    program.end()


def address(house: House, path: str) -> str:
    return house.environment["PUBLIC_URL"] + path


def open_dialog(fan: Page, house: House) -> Any:
    fan.goto(address(house, "/models/creator_b"))
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Private Stream", exact=True)
    expect(dialog).to_be_visible()
    return dialog


def test_the_sign_in_form_has_its_names(live_app: House, new_context: Callable[..., BrowserContext]) -> None:
    page = new_context().new_page()
    page.goto(address(live_app, "/login"))
    expect(page.get_by_role("textbox", name="Email", exact=True)).to_be_focused()
    expect(page.get_by_label("Password", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_the_whole_price_is_there_before_the_click(live_app: House, creator: Program, sign_in: SignIn) -> None:
    # Given a fan with tokens on the page of a live creator
    creator.go_live()
    dialog = open_dialog(sign_in(live_app, "fan_a"), live_app)
    minutes = dialog.get_by_role("spinbutton", name="Minutes", exact=True)
    # Then the field has the focus and the creator's minimum
    expect(minutes).to_be_focused()
    expect(minutes).to_have_value("5")
    # When other minutes are typed
    minutes.fill("12")
    # Then everything follows: total in tokens and money, and the whole end table is there
    expect(dialog).to_contain_text("Total for 12 minutes")
    expect(dialog).to_contain_text("1,200 tokens")
    expect(dialog).to_contain_text("about $60.00")
    expect(dialog.locator("#terms .ends > div")).to_have_count(10)
    expect(dialog).to_contain_text("The minimum, 500 tokens ($25.00). The rest comes back.")
    # And so does the length of a minute, where it is not sixty seconds
    expect(dialog).to_contain_text("In this demo a minute lasts 50 s.")
    # And minutes below the minimum are answered with what is right
    minutes.fill("2")
    expect(dialog).to_contain_text("Choose 5 to 240 minutes.")
    dialog.get_by_role("button", name="Confirm request", exact=True).click()
    expect(dialog).to_be_visible()
    expect(minutes).to_be_focused()
    # And Esc closes it
    minutes.press("Escape")
    expect(dialog).not_to_be_visible()


def test_a_changed_price_is_said_and_shown_before_anything_is_held(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    creator.go_live()
    fan = sign_in(live_app, "fan_a")
    dialog = open_dialog(fan, live_app)
    # When the creator raises the price while the dialog is open
    dearer = {"enabled": True, "ratePerMinute": 120, "minMinutes": 5, "autoAccept": "manual"}
    creator.call("PUT", "/api/streaming/private-settings", dearer)
    dialog.get_by_role("button", name="Confirm request", exact=True).click()
    # Then nothing is held, and the dialog has the new price throughout
    expect(dialog.get_by_role("alert")).to_contain_text("The price is now 120 tokens per minute ($6.00).")
    expect(dialog).to_contain_text("600 tokens")
    expect(dialog).to_contain_text("The minimum, 600 tokens ($30.00).")
    expect(fan.get_by_role("button", name="Cancel request", exact=True)).not_to_be_visible()


def test_what_is_held_follows_the_server_while_the_fan_waits(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    # Given a fan who waits for an answer, with the total held
    creator.go_live()
    fan = sign_in(live_app, "fan_a")
    dialog = open_dialog(fan, live_app)
    expect(dialog.locator(".dialog__foot")).to_contain_text("500 tokens about $25.00")
    dialog.get_by_role("button", name="Confirm request", exact=True).click()
    waiting = fan.get_by_role("complementary", name="Waiting for Creator B")
    expect(waiting).to_contain_text("500 tokens about $25.00")

    # When a part of it is free again, as the price of a start at once is that could not be
    def less(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"totalCost": 350})

    fan.route("**/api/streaming/private-requests/*", less)
    # Then the page says what is still held, and at the end what came back
    expect(waiting).to_contain_text("350 tokens about $17.50")
    waiting.get_by_role("button", name="Cancel request", exact=True).click()
    expect(fan.get_by_text("You cancelled. 350 tokens came back.").first).to_be_visible()


def test_what_happens_between_a_page_and_its_feed_is_shown_too(live_app: House, sign_in: SignIn) -> None:
    # Given a wallet whose feed is open already, and whose program is still on its way to the browser
    program = Program(live_app, "fan_a")
    before = program.call("GET", "/api/wallet")["available"]
    fan = sign_in(live_app, "fan_a")
    heard: set[str] = set()

    def hear(frame: str | bytes) -> None:
        heard.add(json.loads(frame)["type"])

    def open_feed(socket: WebSocket) -> None:
        # Not that of the page before, which may be told of only now.
        if fan.url == address(live_app, "/wallet"):
            socket.on("framereceived", hear)

    fan.on("websocket", open_feed)

    def listen(*types: str) -> None:
        until = time.monotonic() + PATIENCE_MS / 1000
        while not heard.issuperset(types):
            assert time.monotonic() < until, f"heard only {heard}"
            fan.wait_for_timeout(20)

    def late(route: Route) -> None:
        listen("RESYNC")
        program.call("POST", "/api/wallet/top-up", {"packageId": "tokens-500", "card": "succeeds"})
        listen("BALANCE_CHANGED", "PURCHASE_CHANGED")
        route.continue_()

    fan.route("**/js/pages/wallet.js", late)
    # When its owner buys tokens meanwhile, then it does not go on showing what was
    fan.goto(address(live_app, "/wallet"))
    expect(fan.locator("#figures")).to_contain_text(f"{before + 500:,}")


def test_short_of_tokens_leads_to_the_wallet_and_back(live_app: House, creator: Program, sign_in: SignIn) -> None:
    # Given a fan without a token
    creator.go_live()
    fan = sign_in(live_app, "fan_b", viewport=PHONE)
    dialog = open_dialog(fan, live_app)
    # Then the dialog says how many are missing and that nothing was held
    expect(dialog.get_by_role("alert")).to_contain_text("You are 500 tokens short.")
    expect(dialog.get_by_role("alert")).to_contain_text("Nothing was held.")
    expect(dialog.get_by_role("button", name="Confirm request", exact=True)).not_to_be_visible()
    # And it is a sheet from edge to edge, with its buttons in view
    dialog.evaluate("dialog => Promise.all(dialog.getAnimations().map(each => each.finished))")
    box, tokens = dialog.bounding_box(), dialog.get_by_role("link", name="Get tokens", exact=True).bounding_box()
    assert box
    assert tokens
    assert (box["x"], box["width"]) == (0, PHONE["width"])
    assert tokens["y"] + tokens["height"] <= PHONE["height"]
    # When the fan goes for tokens with a card that is refused, then with one that works
    dialog.get_by_role("link", name="Get tokens", exact=True).click()
    fan.get_by_role("radio", name=re.compile("A card that is refused")).check()
    fan.get_by_role("button", name="Pay $25.00", exact=True).click()
    expect(fan.locator("main").get_by_role("alert")).to_contain_text("The card was refused. Nothing was charged.")
    fan.get_by_role("radio", name=re.compile("A card that works")).check()
    fan.get_by_role("button", name="Pay $25.00", exact=True).click()
    # Then the dialog is open again where it was, and can be confirmed
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Left to spend while held")
    dialog.get_by_role("button", name="Confirm request", exact=True).click()
    cancel = fan.get_by_role("button", name="Cancel request", exact=True)
    expect(cancel).to_be_visible()
    expect(fan.get_by_role("timer", name="Time left to answer", exact=True)).to_be_visible()
    expect(fan.get_by_role("heading", name="Waiting for Creator B", exact=True)).to_be_visible()
    # And the header's balance follows
    expect(fan.locator("#balance")).to_have_accessible_name(re.compile("^Wallet: 0 tokens free,"))
    # And a reload goes on waiting, and cancelling gives everything back
    fan.reload()
    expect(cancel).to_be_visible()
    cancel.click()
    expect(fan.get_by_text("You cancelled. 500 tokens came back.").first).to_be_visible()
    expect(fan.locator("#balance")).to_have_accessible_name(re.compile("^Wallet: 500 tokens"))


def test_pages_change_by_themselves_and_tell_who_asked_to_be_told(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    # Given a fan who wants to know when Creator B is live, and goes elsewhere
    fan = sign_in(live_app, "fan_a")
    fan.goto(address(live_app, "/models"))
    tell = fan.get_by_role("button", name="Tell me when Creator B is live", exact=True)
    tell.click()
    expect(tell).to_have_attribute("aria-pressed", "true")
    fan.goto(address(live_app, "/history"))
    # When the creator goes live
    creator.go_live("Watercolour, first light")
    # Then the page says so, and leads there
    expect(fan.get_by_text("Creator B is live.").first).to_be_visible()
    fan.get_by_role("link", name="Watch", exact=True).click()
    ask = fan.get_by_role("button", name="🔒 Private Stream", exact=True)
    expect(ask).to_be_visible()
    # And when the stream ends, the creator's page says that by itself
    creator.end()
    ended = fan.get_by_role("heading", name="Creator B is not live", exact=True)
    expect(ended).to_be_visible()
    expect(ask).not_to_be_visible()
    # And the list takes up who comes
    fan.goto(address(live_app, "/models"))
    creator.go_live("Second light")
    expect(fan.get_by_text("Second light")).to_be_visible()
    expect(fan.locator("#live-count")).to_contain_text("live now")


def test_a_search_narrows_the_list(live_app: House, creator: Program, sign_in: SignIn) -> None:
    creator.go_live("Piano, requests open")
    fan = sign_in(live_app, "fan_a")
    fan.goto(address(live_app, "/models"))
    find = fan.get_by_role("searchbox", name="Find a creator", exact=True)
    find.fill("piano")
    expect(fan.get_by_role("link", name="Creator B", exact=True)).to_be_visible()
    find.fill("zzz")
    expect(fan.get_by_role("link", name="Creator B", exact=True)).not_to_be_visible()
    fan.get_by_role("button", name="Show all", exact=True).click()
    expect(fan.get_by_role("link", name="Creator B", exact=True)).to_be_visible()


@pytest.mark.parametrize("viewport", [PHONE, NARROW], ids=["phone", "narrow"])
def test_pages_fit_a_phone_and_the_policy_stops_nothing(
    live_app: House, creator: Program, sign_in: SignIn, viewport: dict[str, int]
) -> None:
    # Given a fan on a small screen
    creator.go_live("A title that is rather long, longer than any small screen could ever hold in one line")
    fan = sign_in(live_app, "fan_a", viewport=viewport)
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Uncaught" in message.text:
            complaints.append(message.text)

    fan.on("console", heard)
    fan.on("pageerror", lambda error: complaints.append(str(error)))
    for path in ("/", "/models", "/models/creator_b", "/wallet", "/history", "/account", "/nowhere"):
        fan.goto(address(live_app, path))
        # Then nothing is wider than the screen, and there is one heading to begin with
        wider = fan.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{path} is {wider} px too wide"
        expect(fan.get_by_role("heading", level=1)).to_have_count(1)
        expect(fan.get_by_role("navigation", name="Main", exact=True)).to_be_visible()
    assert complaints == []


def test_the_theme_is_chosen_once(live_app: House, sign_in: SignIn) -> None:
    page = sign_in(live_app, "fan_a", color_scheme="light")
    button = page.get_by_role("button", name=re.compile("^Theme: "))
    button.click()
    button.click()
    expect(button).to_have_accessible_name("Theme: dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor") == "rgb(19, 18, 16)"


def test_the_account_menu_works_from_the_keyboard(live_app: House, sign_in: SignIn) -> None:
    page = sign_in(live_app, "fan_a")
    account = page.get_by_role("button", name="Account", exact=True)
    account.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Account", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Account", exact=True)).not_to_be_visible()
    account.click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("link", name="Sign in", exact=True)).to_be_visible()
