"""A visitor without an account watches a stream over HLS, with everything a player has: real Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import SignIn

PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    made = make_house(
        demo=True, names=("media", "worker", "transcode", "clock", "web"), TRANSCODE_PRESET="ultrafast"
    )
    yield made
    made.stop()


@pytest.fixture
def visitor(new_context: Callable[..., BrowserContext]) -> Page:
    """Somebody who has no account."""
    return new_context().new_page()


POSITION = """() => {
  const video = document.getElementById('public-video');
  return video.hidden || !video.videoWidth ? 0 : video.currentTime;
}"""
HEIGHT = "() => document.getElementById('public-video').videoHeight"


def until(page: Page, holds: Callable[[], bool], what: str) -> None:
    for _ in range(PATIENCE_MS // 200):
        if holds():
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"not within {PATIENCE_MS} ms: {what}")


def advances(page: Page) -> None:
    """The picture moves."""
    seen: list[float] = []

    def moves() -> bool:
        seen.append(page.evaluate(POSITION))
        return seen[-1] > 0 and len(seen) > 1 and seen[-1] > seen[-2] > 0

    until(page, moves, "a moving picture")


@pytest.mark.timeout(240)
def test_a_visitor_watches_until_it_goes_private_and_again_when_it_is_back(
    house: House, sign_in: SignIn, visitor: Page
) -> None:
    address = house.environment["PUBLIC_URL"]
    # Given a creator who goes live from the studio
    creator = sign_in(house, "creator_a")
    creator.goto(f"{address}/studio")
    creator.get_by_role("button", name="Go live", exact=True).click()
    expect(creator.get_by_role("button", name="End stream", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    # When somebody without an account opens the creator's page, then the picture plays
    visitor.goto(f"{address}/models/creator_a")
    advances(visitor)
    quality = visitor.get_by_label("Quality")
    expect(quality).to_be_visible()
    expect(quality.locator("option")).to_contain_text([re.compile("Auto"), "480p", "240p", "720p for subscribers"])
    # and it is a picture of now
    shown = re.compile(r"Live, \d+ s behind")
    expect(visitor.locator("[data-latency]")).to_contain_text(shown, timeout=PATIENCE_MS)
    quality.select_option(label="240p")
    until(visitor, lambda: visitor.evaluate(HEIGHT) == 240, "240 lines")

    # When a fan is accepted
    fan = sign_in(house, "fan_a")
    fan.goto(f"{address}/models/creator_a")
    fan.get_by_role("button", name="🔒 Private Stream").click()
    fan.get_by_role("button", name="Confirm request", exact=True).click()
    creator.get_by_role("button", name="Accept", exact=True).click(timeout=PATIENCE_MS)
    expect(fan).to_have_url(re.compile("/call/"), timeout=PATIENCE_MS)
    # Then the visitor sees no more, and is told why
    gone = visitor.get_by_role("heading", name="Creator A is in a private stream")
    expect(gone).to_be_visible(timeout=PATIENCE_MS)
    expect(visitor.locator("#public-video")).to_be_hidden()
    # When the call is over and the creator goes back to public
    fan.get_by_role("button", name="End call", exact=True).click()
    sure = fan.get_by_role("dialog").get_by_role("button", name=re.compile("End"))
    if sure.count():
        sure.first.click()
    creator.get_by_role("button", name=re.compile("public", re.I)).first.click(timeout=PATIENCE_MS)
    # Then the visitor's page goes on by itself
    advances(visitor)
