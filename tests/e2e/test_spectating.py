"""A visitor without an account watches a stream over HLS, with everything a player has: real Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from models import ledger
from models.clock import utc_now
from models.db import Database
from models.services import accounts
from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import PATIENCE_MS, SignIn
from tests.e2e.program import Program, viewers_of

SEATS = 20
PATIENCE = """async () => {
  const script = document.querySelector("script[src*='/js/pages/creator.js']").src;
  const { default: Hls } = await import(new URL("../../vendor/hls/hls.mjs", script).href);
  const { loadPolicies } = await import(new URL("../spectator_patience.js", script).href);
  return Object.values(loadPolicies(Hls.DefaultConfig)).map(({ default: policy }) => {
    const retry = policy.errorRetry;
    const again = (count, code, own) => retry.shouldRetry(retry, count, false, { code }, own);
    const answers = [again(59, 0, false), again(60, 0, false), again(0, 404, false), again(0, 503, true)];
    return [...answers, policy.maxLoadTimeMs > 0];
  });
}"""
TRACKS = "() => Array.from(document.getElementById('public-video').textTracks, ({mode}) => mode)"


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


@pytest.fixture
def full_room(house: House) -> Iterator[Program]:
    """Creator B on the air without a picture, every seat taken, subscriptions for sale; fan B has tokens."""
    creator = Program(house, "creator_b")
    terms = {"subscriptionPrice": 100, "subscriptionMinutes": 0, "subscriberDiscountPercent": 0}
    rest = {"perMinute": False, "instantUnlockPrice": None, "queue": False, "requestPriority": "first_come"}
    creator.call("PUT", "/api/streaming/creator-options", terms | rest)
    db = Database(f"sqlite:///{house.var / 'greenroom.db'}")
    with db.transaction() as tx:
        fan = accounts.find_by_handle(tx, "fan_b")
        assert fan is not None
        ledger.gift(tx, fan.user_id, 500, key="gift:premium", cause_id="test", now=utc_now())
    db.close()
    creator.go_live()
    assert creator.room_id is not None
    with ExitStack() as seats:
        for viewer in viewers_of(house, SEATS - 1):
            assert viewer.join(creator.room_id)[1]["type"] == "JOINED"
            seats.callback(viewer.end)
        yield creator
    creator.end()


def captions_come_and_go(page: Page) -> None:
    """As they would with a stream that has some: nothing of ours makes any yet."""
    button = page.get_by_role("button", name="Captions", exact=True)
    menu = page.get_by_label("Language of captions")
    expect(button).to_be_hidden()
    # When the stream brings captions, then there is a button, and they are shown by it and by its key
    add = "(name) => { document.getElementById('public-video').addTextTrack('captions', name); }"
    page.evaluate(add, "English")
    expect(button).to_be_visible()
    expect(menu).to_be_hidden()
    assert page.evaluate(TRACKS) == ["disabled"]
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(TRACKS) == ["showing"]
    # With another language there is a menu, and the choice stays
    page.evaluate(add, "Deutsch")
    expect(menu).to_be_visible()
    menu.select_option("Deutsch")
    assert page.evaluate(TRACKS) == ["disabled", "showing"]
    page.locator("[data-spectator]").locator("xpath=ancestor::*[@tabindex=0]").press("c")
    expect(menu).to_have_value("")
    assert page.evaluate(TRACKS) == ["disabled", "disabled"]


def test_whoever_subscribes_goes_on_in_premium_on_the_same_page(
    house: House, full_room: Program, sign_in: SignIn, visitor: Page
) -> None:
    page = f"{house.environment['PUBLIC_URL']}/models/creator_b"
    # Given a fan for whom there is no seat, so that the broadcast plays
    fan = sign_in(house, "fan_b")
    fan.goto(page)
    advances(fan)
    fan.evaluate("window.stayed = true")
    quality = fan.get_by_label("Quality")
    # When the best quality is chosen, then the subscription is offered, and what plays goes on
    quality.select_option(label="720p for subscribers")
    dialog = fan.get_by_role("dialog", name="Subscribe to Creator B", exact=True)
    dialog.get_by_role("button", name="Subscribe for 100 tokens", exact=True).click()
    # Then it is shown without a new page
    until(fan, lambda: fan.evaluate(HEIGHT) == 720, "720 lines")
    advances(fan)
    expect(quality.locator("option:checked")).to_have_text("720p")
    assert fan.evaluate("window.stayed") is True
    # And the list counts the seats and the fan; without a picture of now the drawn one is to be seen
    visitor.goto(f"{house.environment['PUBLIC_URL']}/models")
    expect(visitor.locator('[data-live-picture="creator_b"]')).to_be_hidden()
    expect(visitor.locator("#creators [data-viewers]")).to_have_text(str(SEATS))
    # When a visitor chooses the best quality, then the way to it leads through the sign-in
    visitor.goto(page)
    advances(visitor)
    visitor.get_by_label("Quality").select_option(label="720p for subscribers")
    expect(visitor).to_have_url(re.compile(r"/login\?next=/models/creator_b%3Fsubscribe%3D1|/login\?next=%2Fmodels"))


def test_a_visitor_watches_until_it_goes_private_and_again_when_it_is_back(
    house: House, sign_in: SignIn, visitor: Page
) -> None:
    address = house.environment["PUBLIC_URL"]
    # Given a creator who goes live from the studio
    creator = sign_in(house, "creator_a")
    creator.goto(f"{address}/studio")
    creator.get_by_role("button", name="Go live", exact=True).click()
    expect(creator.get_by_role("button", name="End stream", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    # When somebody without an account looks at the list, then it shows a picture of now
    visitor.goto(f"{address}/models")
    picture = visitor.locator('[data-live-picture="creator_a"]')
    arrived = "image => image.naturalWidth === 640"
    until(visitor, lambda: picture.count() > 0 and bool(picture.evaluate(arrived)), "a picture of now")
    # When they open the creator's page, then the picture plays
    visitor.goto(f"{address}/models/creator_a")
    advances(visitor)
    quality = visitor.get_by_label("Quality")
    expect(quality).to_be_visible()
    expect(quality.locator("option")).to_contain_text([re.compile("Auto"), "480p", "240p", "720p for subscribers"])
    # and it is a picture of now
    shown = re.compile(r"Live, \d+ s behind")
    expect(visitor.locator("[data-latency]")).to_contain_text(shown, timeout=PATIENCE_MS)
    captions_come_and_go(visitor)
    # and playlists and segments that nobody answers for are asked for again, those that are refused are not
    assert visitor.evaluate(PATIENCE) == [[True, False, False, True, True]] * 3
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
    expect(fan).to_have_url(re.compile("/models"))
    creator.get_by_role("button", name=re.compile("public", re.I)).first.click(timeout=PATIENCE_MS)
    # Then the visitor's page goes on by itself
    advances(visitor)
