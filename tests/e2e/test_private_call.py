"""Both user flows of the product, in two browsers: from going live to the cut, the receipt and back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import SignIn
from tests.e2e.witness import has_matched, has_seen, remember

COUNT_CAMERA_STARTS = """
  window.cameraStarts = 0;
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = constraints => { window.cameraStarts += 1; return ask(constraints); };
"""
FRAMES = """selector => {
  const video = document.querySelector(selector);
  return video && video.getVideoPlaybackQuality ? video.getVideoPlaybackQuality().totalVideoFrames : 0;
}"""


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """A minute of 24 s: a call is long enough to be seen and short enough to be waited for. Whoever comes to it
    has 12 s to connect, with two pages to load on a machine that others use too."""
    made = make_house(minute_seconds=24, demo=True)
    yield made
    made.stop()


def frames_grow(page: Page, selector: str) -> None:
    """Waits until the element has decoded 20 frames more than now."""
    before = page.evaluate(FRAMES, selector)
    page.wait_for_function(
        f"([selector, wanted]) => ({FRAMES})(selector) >= wanted", arg=[selector, before + 20]
    )


def go_live(studio: Page, house: House) -> None:
    studio.goto(f"{house.environment['PUBLIC_URL']}/studio")
    studio.get_by_role("button", name="Go live", exact=True).click()
    expect(studio.get_by_role("button", name="End stream", exact=True)).to_be_visible()


def set_minimum(studio: Page, house: House, minutes: int) -> None:
    studio.goto(f"{house.environment['PUBLIC_URL']}/studio?tab=settings")
    studio.get_by_label("Minimum minutes", exact=True).fill(str(minutes))
    with studio.expect_response(lambda answer: "private-settings" in answer.url) as saved:
        studio.get_by_role("button", name="Save settings").click()
    assert saved.value.ok


def ask(fan: Page, minutes: int) -> None:
    """Press the button, unless the dialog is open already, choose the minutes and confirm."""
    dialog = fan.get_by_role("dialog", name="Private Stream")
    button = fan.get_by_role("button", name="🔒 Private Stream", exact=True)
    expect(button.or_(dialog).first).to_be_visible()
    if not dialog.is_visible():
        button.click()
    dialog.get_by_role("spinbutton", name="Minutes", exact=True).fill(str(minutes))
    dialog.get_by_role("button", name="Confirm request", exact=True).click()


def test_a_whole_private_call(house: House, sign_in: SignIn) -> None:
    # Given a creator who is live, watched by a fan and by somebody else
    creator, fan, other = (sign_in(house, handle) for handle in ("creator_a", "fan_a", "fan_b"))
    creator.add_init_script(COUNT_CAMERA_STARTS)
    remember(creator, fan)
    been: dict[Page, list[str]] = {creator: [], fan: []}
    for side, addresses in been.items():
        side.on("framenavigated", lambda frame, seen=addresses: seen.append(frame.url))
    set_minimum(creator, house, 1)
    go_live(creator, house)
    for viewer in (fan, other):
        viewer.goto(f"{house.environment['PUBLIC_URL']}/models/creator_a")
        frames_grow(viewer, "video")
    admin = sign_in(house, "admin")
    admin.goto(f"{house.environment['PUBLIC_URL']}/admin/rooms")
    admin.get_by_role("row").filter(has_text="live-").get_by_role("link").first.click()
    row = admin.get_by_role("row").filter(has=admin.get_by_role("link", name="creator_a", exact=True))
    expect(row.locator("[data-sends]")).to_contain_text(re.compile(r"[1-9][\d.]* [kM]bit/s, \d+ fps"))
    expect(row.locator("[data-quality]")).to_have_text(re.compile("^(Good|Fair|Poor|Lost)$"))
    expect(admin.get_by_role("row").filter(has_text="watches")).to_have_count(2)
    admin.close()

    # When the fan asks for a private stream of one minute
    ask(fan, 1)
    badge = creator.get_by_role("button", name="Private Requests", exact=True)
    expect(badge).to_contain_text("1")
    camera_starts = creator.evaluate("window.cameraStarts")
    assert camera_starts > 0
    creator.evaluate("window.sameDocument = true")

    # And the creator accepts
    creator.get_by_role("button", name="Accept", exact=True).click()

    # Then the other viewer is told and stays on the page
    expect(other.get_by_text(re.compile("private stream", re.IGNORECASE)).first).to_be_visible()
    expect(other).to_have_url(re.compile("/models/creator_a$"))

    # And both see each other: the creator in the same document, without another question for the camera
    for side, addresses in been.items():
        has_seen(side, "remote-video")
        assert any("/call/" in address for address in addresses), addresses
    assert creator.evaluate("window.cameraStarts") == camera_starts

    # And at the paid second the fan's picture is gone, the sound muted, the address /models
    fan.wait_for_function(
        "() => { const v = document.querySelector('#remote-video');"
        " return location.pathname === '/models' || (v && v.srcObject === null && document.querySelector("
        "'#remote-audio').muted); }",
    )
    expect(fan).to_have_url(re.compile("/models\\?"))
    expect(fan.get_by_role("alert").filter(has_text="Your private call has ended").first).to_be_visible()

    # And before that each was told how both of them are connected, in words
    for side in (creator, fan):
        has_matched(side, "Your connection: (good|fair|poor|lost)")
        has_matched(side, "Theirs: (good|fair|poor|lost)")

    # And the receipt says what was paid
    fan.goto(f"{house.environment['PUBLIC_URL']}/history")
    fan.locator("main a[href*='/history/']").first.click()
    expect(fan.locator("main")).to_contain_text("100")

    # And one press brings the public stream back for the one who waited
    creator.get_by_role("button", name=re.compile("Go back to public", re.IGNORECASE)).click()
    frames_grow(other, "video")
    assert creator.evaluate("window.sameDocument && window.cameraStarts") == camera_starts
    audit = house.command("-m", "flask", "--app", "web", "ledger", "audit")
    assert "clean" in audit
    creator.get_by_role("button", name="End stream", exact=True).click()


def test_short_of_tokens_leads_to_the_top_up_and_back_and_a_decline_returns_everything(
    house: House, sign_in: SignIn
) -> None:
    # Given a live creator and a fan without tokens
    creator, fan = sign_in(house, "creator_b"), sign_in(house, "fan_b")
    go_live(creator, house)
    fan.goto(f"{house.environment['PUBLIC_URL']}/models/creator_b")
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    dialog = fan.get_by_role("dialog", name="Private Stream")
    expect(dialog.get_by_text("You are 500 tokens short.")).to_be_visible()
    expect(dialog.get_by_role("button", name="Confirm request", exact=True)).to_be_hidden()

    # When the fan gets tokens, the page leads back
    dialog.get_by_role("link", name="Get tokens").click()
    fan.get_by_role("button", name=re.compile("^Pay ")).click()
    fan.wait_for_url(re.compile("/models/creator_b"))

    # And can ask now, in the dialog that is open again
    expect(dialog).to_be_visible()
    ask(fan, 5)
    expect(fan.get_by_role("button", name="Cancel request", exact=True)).to_be_visible()
    badge = creator.get_by_role("button", name="Private Requests", exact=True)
    expect(badge).to_contain_text("1")

    # When the creator declines
    creator.get_by_role("button", name="Decline", exact=True).click()

    # Then the fan reads that the tokens came back
    expect(fan.get_by_text(re.compile("declined.*500 tokens came back")).first).to_be_visible()
    creator.get_by_role("button", name="End stream", exact=True).click()
