"""When something is in the way: no WebSocket, no live feed, another tab, no seat, a press on "back"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from ops.house import House
from tests.e2e.conftest import SignIn
from tests.e2e.program import Program, viewers_of

SEATS = 20
# Signaling ends nowhere, as behind a proxy that knows no WebSockets; the feed is left alone.
BLOCK_SIGNALING = """
  window.WebSocket = class extends WebSocket {
    constructor(url) { super(url.includes("signaling") ? url.replace("/api/rtc/signaling", "/nowhere") : url); }
  };
"""
BLOCK_ALL = (
    BLOCK_SIGNALING.replace('url.includes("signaling")', "true")
    .replace("/api/rtc/signaling", "/api/")
    .replace("/nowhere", "/nowhere/")
)


@pytest.fixture
def creator(live_app: House) -> Iterator[Program]:
    """Creator B, live without a picture at 10 tokens a minute; off the air again after the test."""
    program = Program(live_app, "creator_b")
    settings = {"enabled": True, "ratePerMinute": 10, "minMinutes": 1, "autoAccept": "manual"}
    program.call("PUT", "/api/streaming/private-settings", settings)
    program.go_live()
    yield program
    program.end()


def watch(page: Page, house: House) -> None:
    page.goto(house.environment["PUBLIC_URL"] + "/models/creator_b")


def ask(fan: Page) -> None:
    fan.get_by_role("button", name="🔒 Private Stream", exact=True).click()
    fan.get_by_role("button", name="Confirm request", exact=True).click()
    expect(fan.get_by_role("button", name="Cancel request", exact=True)).to_be_visible()


def test_a_blocked_websocket_is_explained_at_the_first_attempt(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    fan = sign_in(live_app, "fan_a")
    fan.add_init_script(BLOCK_SIGNALING)
    # On the creator's page
    watch(fan, live_app)
    expect(fan.get_by_text(re.compile("may block WebSockets"))).to_be_visible()
    # And in the call, with what to do, long before not connecting would cost the minimum
    ask(fan)
    creator.accept_one("fan_a")
    expect(fan).to_have_url(re.compile("/call/"))
    expect(fan.get_by_role("heading", name="You are not connected", exact=True)).to_be_visible()
    help_text = fan.locator('[data-call="over-help"]').get_by_text("ask for WebSockets (wss) to this address")
    expect(help_text).to_be_visible()
    fan.get_by_role("button", name="End call", exact=True).click()
    expect(fan).to_have_url(re.compile("/models"))


def test_the_lobby_says_that_there_is_no_live_connection(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    fan = sign_in(live_app, "fan_a")
    watch(fan, live_app)
    ask(fan)
    expect(fan.get_by_text("Connection ready")).to_be_visible()
    fan.add_init_script(BLOCK_ALL)
    fan.reload()
    expect(fan.get_by_text("No live connection", exact=True)).to_be_visible()
    expect(fan.get_by_text("ask for WebSockets (wss) to this address to be allowed")).to_be_visible()
    fan.get_by_role("button", name="Cancel request", exact=True).click()
    expect(fan.get_by_text("You cancelled. 10 tokens came back.").first).to_be_visible()


def test_without_the_feed_the_call_is_found_and_back_leads_to_it_again(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    # Given a fan who waits, and hears nothing from the live feed
    fan = sign_in(live_app, "fan_a")
    fan.route_web_socket(re.compile("/api/events"), lambda socket: socket.close())
    watch(fan, live_app)
    ask(fan)
    # When the creator accepts, then the call starts by itself
    creator.accept_one("fan_a")
    expect(fan).to_have_url(re.compile("/call/"))
    # And after "back" the page knows of the call, and leads there
    fan.go_back()
    expect(fan.get_by_role("heading", name="Creator B is in a private stream", exact=True)).to_be_visible()
    strip = fan.get_by_role("region", name="Your call", exact=True)
    strip.get_by_role("link", name="Return to the call", exact=True).click()
    expect(fan).to_have_url(re.compile("/call/"))
    fan.get_by_role("button", name="End call", exact=True).click()
    expect(fan).to_have_url(re.compile("/models"))


def test_a_call_in_another_tab_is_not_called_over(live_app: House, creator: Program, sign_in: SignIn) -> None:
    fan = sign_in(live_app, "fan_a")
    watch(fan, live_app)
    ask(fan)
    creator.accept_one("fan_a")
    expect(fan).to_have_url(re.compile("/call/"))
    expect(fan.get_by_role("heading", name="Waiting for Creator B", exact=True)).to_be_visible()
    # When the same call is opened in a second tab
    second = fan.context.new_page()
    second.goto(fan.url)
    # Then the first says where it goes on
    expect(fan).to_have_url(re.compile("ended=REPLACED"))
    banner = fan.locator("#ended")
    expect(banner).to_contain_text("It goes on in the tab or on the device where you joined it last.")
    strip = fan.get_by_role("region", name="Your call", exact=True)
    expect(strip).to_be_visible()
    # And when it is over, the way back to it goes too
    second.get_by_role("button", name="End call", exact=True).click()
    expect(strip).not_to_be_visible()
    expect(banner).to_contain_text("You paid nothing. 10 tokens came back.")


def test_the_public_stream_is_watched_in_one_tab_at_a_time(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    fan = sign_in(live_app, "fan_a")
    elsewhere = "You are watching in another tab"
    watch(fan, live_app)
    expect(fan.locator("[data-viewers]").first).to_have_text("1")
    second = fan.context.new_page()
    watch(second, live_app)
    expect(fan.get_by_role("heading", name=elsewhere, exact=True)).to_be_visible()
    fan.get_by_role("button", name="Watch here", exact=True).click()
    expect(second.get_by_role("heading", name=elsewhere, exact=True)).to_be_visible()
    expect(fan.get_by_role("heading", name=elsewhere, exact=True)).not_to_be_visible()


def test_when_every_seat_is_taken_the_page_says_so_and_takes_the_next(
    live_app: House, creator: Program, sign_in: SignIn
) -> None:
    fan = sign_in(live_app, "fan_a")
    assert creator.room_id is not None
    with ExitStack() as seats:
        # Given a room whose every seat for viewers is taken (one is always the creator's)
        taken = []
        for viewer in viewers_of(live_app, SEATS - 1):
            socket, answer = viewer.join(creator.room_id)
            seats.callback(viewer.end)
            assert answer["type"] == "JOINED", answer
            taken.append(socket)
        # When one more wants to watch
        watch(fan, live_app)
        # Then the page says what is the matter
        full = fan.get_by_role("heading", name="Every seat is taken", exact=True)
        expect(full).to_be_visible()
        # And when a seat is free, a press takes it
        taken[0].send(json.dumps({"type": "LEAVE_ROOM"}))
        assert all(json.loads(frame)["type"] != "ERROR" for frame in taken[0])
        fan.get_by_role("button", name="Try now", exact=True).click()
        expect(full).not_to_be_visible()
        expect(fan.get_by_role("heading", name="Connecting…", exact=True)).to_be_visible()


def test_who_refuses_the_camera_reads_what_to_do(live_app: House, creator: Program, sign_in: SignIn) -> None:
    # Given a fan whose browser refuses camera and microphone
    fan = sign_in(live_app, "fan_a")
    fan.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'));"
    )
    watch(fan, live_app)
    ask(fan)
    # Then the lobby says what to do, and waiting goes on
    expect(fan.get_by_text("Set camera and microphone to “Allow”.")).to_be_visible()
    # And so does the call, without hiding what it is waiting for
    creator.accept_one("fan_a")
    expect(fan).to_have_url(re.compile("/call/"))
    expect(fan.get_by_text("They neither see nor hear you.")).to_be_visible()
    words = fan.get_by_role("heading", name="Waiting for Creator B", exact=True)
    expect(words).to_be_visible()
    for viewport in ({"width": 390, "height": 844}, {"width": 1440, "height": 900}):
        fan.set_viewport_size(viewport)  # type: ignore[arg-type]
        note, title = fan.locator('[data-call="camera-note"]').bounding_box(), words.bounding_box()
        assert note
        assert title
        apart = note["y"] + note["height"] <= title["y"] or title["y"] + title["height"] <= note["y"]
        assert apart, f"the note covers the words at {viewport}"
    fan.get_by_role("button", name="End call", exact=True).click()
    expect(fan).to_have_url(re.compile("/models"))
