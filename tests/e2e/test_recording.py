"""A recorded call in two browsers: both agree, the red mark, either stops it, the film on the receipt."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import PATIENCE_MS, SignIn
from tests.e2e.test_private_call import ask, go_live

SHOTS = os.environ.get("SHOTS")
LENGTH = "() => { const v = document.querySelector('#recording video'); return v ? v.duration : 0; }"


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """A house that transcodes, cheaply."""
    made = make_house(
        demo=True,
        names=("media", "worker", "transcode", "clock", "web"),
        TRANSCODE_PRESET="ultrafast",
        RECORDINGS_FREE_MB="1",
    )
    yield made
    made.stop()


def shot(page: Page, name: str) -> None:
    """For looking at, when somebody asks for pictures."""
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def test_both_agree_one_stops_it_and_both_watch_it(house: House, sign_in: SignIn) -> None:
    address = house.environment["PUBLIC_URL"]
    creator = sign_in(house, "creator_a")
    fan = sign_in(house, "fan_a", viewport={"width": 390, "height": 844}, color_scheme="light")
    # given a creator who offers recordings for 40 tokens
    creator.goto(f"{address}/studio?tab=settings")
    creator.get_by_label("Offer recordings").check()
    creator.get_by_label("Let the fan watch it").check()
    creator.get_by_label("Price for the fan (tokens)").fill("40")
    shot(creator, "offer")
    creator.get_by_role("button", name="Save recordings").click()
    expect(creator.get_by_text("Saved. The next call has these terms.")).to_be_visible()
    # (beside it is a stream key, shown once and revoked)
    creator.get_by_label("Name of the key").fill("OBS at home")
    creator.get_by_role("button", name="Make a stream key").click()
    expect(creator.get_by_label("Stream key", exact=True)).to_have_value(re.compile("^gsk_"))
    creator.get_by_role("button", name="Revoke OBS at home").click()
    expect(creator.get_by_label("Stream key", exact=True)).to_be_hidden()
    # and a call
    go_live(creator, house)
    fan.goto(f"{address}/models/creator_a")
    ask(fan, 5)
    accept = creator.get_by_role("button", name="Accept", exact=True)
    badge = creator.get_by_role("button", name="Private Requests", exact=True)
    expect(badge).to_contain_text("1")
    if not accept.is_visible():
        badge.click()
    accept.click()
    fan.wait_for_url(re.compile("/call/"))

    # when the fan asks, nothing is recorded
    fan.get_by_role("button", name="Record", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Record this call")
    expect(dialog.get_by_text("40 tokens, about $2.00")).to_be_visible()
    expect(dialog.get_by_text("Nobody else can watch it", exact=False)).to_be_visible()
    shot(fan, "dialog")
    dialog.get_by_role("button", name="I agree to be recorded").click()
    expect(fan.get_by_role("button", name="Asked to record")).to_be_visible()
    expect(creator.get_by_text("asks to record this call").first).to_be_visible()
    shot(creator, "asked")
    for side in (fan, creator):
        expect(side.locator("[data-call='rec']")).to_be_hidden()
    # when the creator agrees as well, both see the mark
    creator.get_by_role("button", name="Read and decide").click()
    creator.get_by_role("button", name="I agree to be recorded").click()
    for side in (fan, creator):
        expect(side.locator("[data-call='rec']")).to_be_visible()
        expect(side.get_by_role("status").filter(has_text="Recording").first).to_be_visible()
        side.wait_for_function("() => document.querySelector(\"[data-call='rec-time']\").textContent >= '0:03'")
    shot(fan, "running")
    shot(creator, "running-creator")
    # and who reloads is told again
    fan.reload()
    expect(fan.locator("[data-call='rec']")).to_be_visible()

    # when the creator stops it, the mark is gone for both, for good, and the call goes on
    creator.get_by_role("button", name="Stop recording").click()
    for side in (fan, creator):
        expect(side.locator("[data-call='rec']")).to_be_hidden()
        expect(side.get_by_role("button", name="Record", exact=True)).to_be_hidden()
        expect(side.get_by_role("button", name="End call")).to_be_visible()
    fan.get_by_role("button", name="End call").click()

    # then the receipt has the film: for the creator free, for the fan when paid for
    session_id = re.search(r"/call/([\w-]+)", fan.url)
    fan.wait_for_url(re.compile("/models"))
    link = fan.locator("a[href^='/history/']").first
    path = f"/history/{session_id[1]}" if session_id else str(link.get_attribute("href"))
    creator.goto(f"{address}{path}")
    expect(creator.locator("#recording video")).to_be_visible()
    creator.wait_for_function(f"() => ({LENGTH})() > 1")
    shot(creator, "film")
    fan.goto(f"{address}{path}")
    pay = fan.get_by_role("button", name="Pay 40 tokens and watch")
    expect(fan.get_by_text("about $2.00", exact=False).first).to_be_visible()
    shot(fan, "pay")
    pay.click()
    expect(fan.locator("#recording video")).to_be_visible()
    fan.wait_for_function(f"() => ({LENGTH})() > 1", timeout=PATIENCE_MS)
    fan.evaluate("() => document.querySelector('#recording video').play()")
    fan.wait_for_function("() => document.querySelector('#recording video').currentTime > 0.5")
    # and when the creator deletes it, what was paid goes back, and a page that is not playing it says so by itself
    fan.evaluate("() => document.querySelector('#recording video').pause()")
    creator.get_by_role("button", name="Delete recording").click()
    expect(creator.get_by_text("all of it goes back", exact=False).first).to_be_visible()
    creator.get_by_role("button", name="Delete for both").click()
    expect(creator.get_by_text("You deleted it.", exact=False)).to_be_visible()
    expect(fan.get_by_text("40 tokens that were paid for it went back.", exact=False)).to_be_visible()
