"""A battle in real Chromium: two creators with cameras, a fan with a seat, a visitor who watches the broadcast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from models import ledger
from models.clock import utc_now
from models.db import Database
from models.services import accounts, offers
from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import SignIn
from tests.e2e.program import viewers_of
from tests.e2e.witness import has_read, remember

PATIENCE_MS = 120_000
SEATS = 20
MOVING = """(which) => new Promise((resolve) => {
  const video = document.querySelector(which);
  const before = video?.currentTime ?? 0;
  setTimeout(() => resolve(Boolean(video?.videoWidth) && !video.hidden && video.currentTime > before), 500);
})"""


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """Creators with tokens for a fee, of whom B sells a pass; fan B has tokens for it."""
    made = make_house(
        demo=True, names=("media", "worker", "transcode", "clock", "web"), TRANSCODE_PRESET="ultrafast"
    )
    db = Database(f"sqlite:///{made.var / 'greenroom.db'}")
    with db.transaction() as tx:
        for handle in ("creator_a", "creator_b", "fan_b"):
            person = accounts.find_by_handle(tx, handle)
            assert person is not None
            ledger.gift(tx, person.user_id, 100, key=f"gift:fee:{handle}", cause_id="test", now=utc_now())
            if handle == "creator_b":
                offers.put_options(tx, person.user_id, offers.CreatorOptions(pass_price=40))
    db.close()
    yield made
    made.stop()


def moves(page: Page, which: str) -> None:
    for _ in range(PATIENCE_MS // 500):
        if page.evaluate(MOVING, which):
            return
    raise AssertionError(f"no moving picture in {which}")


@pytest.mark.timeout(480)
def test_two_creators_battle_and_the_pot_is_split(
    house: House, sign_in: SignIn, new_context: Callable[..., BrowserContext]
) -> None:
    address = house.environment["PUBLIC_URL"]
    # Given a battle that a creator opens, knowing what it costs
    host = sign_in(house, "creator_a")
    remember(host)
    host.goto(f"{address}/battles")
    host.get_by_role("button", name="Open a battle", exact=True).click()
    new = host.get_by_role("dialog", name="Open a battle", exact=True)
    new.get_by_label("Title").fill("North against South")
    new.get_by_label("Entry fee (tokens)").fill("50")
    expect(new.locator('[data-new="money"]')).to_contain_text("about")
    new.get_by_role("button", name="Open for 50 tokens", exact=True).click()
    expect(host.get_by_role("heading", name="North against South")).to_be_visible()
    battle = host.url
    # And another who enters for the fee
    rival = sign_in(house, "creator_b")
    rival.goto(battle)
    rival.get_by_role("button", name="Enter for 50 tokens", exact=True).click()
    rival.get_by_role("dialog", name="Enter the battle?").get_by_role("button", name="Enter for 50 tokens").click()
    expect(rival.get_by_role("button", name="Leave the battle", exact=True)).to_be_visible()
    # When the host begins it, and both take their seats
    host.get_by_role("button", name="Begin the battle", exact=True).click()
    host.get_by_role("dialog", name="Begin the battle?").get_by_role("button", name="Begin", exact=True).click()
    for page in (host, rival):
        page.get_by_role("button", name="Take your seat", exact=True).click()
    # Then each sees the other, a fan with a seat sees both, and a visitor the broadcast of both
    fan, visitor = sign_in(house, "fan_a"), new_context().new_page()
    fan.goto(battle)
    visitor.goto(battle)
    for page in (host, rival, fan):
        moves(page, "#grid figure:nth-of-type(1) video")
        moves(page, "#grid figure:nth-of-type(2) video")
        # and one of them is the speaker: the fake microphones beep
        expect(page.locator("#grid figure.is-speaking")).to_have_count(1)
        expect(page.locator("#grid [data-speaks]:visible")).to_have_count(1)
    moves(visitor, "#public-video")
    # And who finds no seat watches the broadcast, in 720p with a pass of one side, without a new page
    with ExitStack() as seats:
        for viewer in viewers_of(house, SEATS - 3):
            assert viewer.join(f"battle-{battle.rpartition('/')[2]}")[1]["type"] == "JOINED"
            seats.callback(viewer.end)
        late = sign_in(house, "fan_b")
        late.goto(battle)
        moves(late, "#public-video")
        late.evaluate("window.stayed = true")
        expect(late.get_by_label("Quality").locator("option").last).to_have_text("720p with a pass")
        late.get_by_role("button", name="Buy a pass of Creator B", exact=True).click()
        buying = late.get_by_role("dialog", name="24 hours in 720p", exact=True)
        expect(buying).to_contain_text("Creator B’s public streams and battles")
        buying.get_by_role("button", name="Buy for 40 tokens", exact=True).click()
        expect(late.locator("#passes")).to_contain_text("With your pass for Creator B")
        expect(late.get_by_label("Quality").locator("option:checked")).to_have_text("720p")
        late.wait_for_function("() => document.getElementById('public-video').videoHeight === 720")
        assert late.evaluate("window.stayed") is True
        late.close()
    # When the fan tips a side
    fan.get_by_role("button", name="Tip Creator B", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Tip Creator B", exact=True)
    dialog.get_by_role("spinbutton", name="Tokens", exact=True).fill("200")
    dialog.get_by_role("button", name="Give 200 tokens", exact=True).click()
    # Then the score moves for everybody
    for page in (host, rival, fan, visitor):
        side = page.locator('li[data-name="Creator B"]')
        expect(side).to_have_attribute("data-score", "200", timeout=PATIENCE_MS)
    expect(host.locator("#score-says")).to_contain_text("Creator B 200")
    has_read(host, "over the picture: fan_a tipped 200 tokens for Creator B")
    # When the host ends it
    host.get_by_role("button", name="End the battle", exact=True).click()
    host.get_by_role("dialog", name="End the battle now?").get_by_role("button", name="End it", exact=True).click()
    # Then all read who has won, and the pot of 300 is split 90 to 210, less the commission
    for page in (host, rival, fan, visitor):
        expect(page.locator("#board")).to_contain_text("Creator B has won", timeout=PATIENCE_MS)
    expect(rival.locator("#board")).to_contain_text("Share 210 tokens, 168 after commission")
    db = Database(f"sqlite:///{house.var / 'greenroom.db'}")
    with db.reading() as tx:
        assert ledger.balance(tx, "pot") == 0
        assert ledger.audit(tx).problems == ()
    db.close()
