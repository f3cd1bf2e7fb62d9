"""A private call whose pages are loaded anew: both are back in it, and time goes on as the rules say."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import SignIn
from tests.e2e.program import Program
from tests.e2e.test_private_call import ask, frames_grow, go_live
from tests.e2e.witness import has_seen, remember

KEEP_CLOCKS = """(() => {
  window.clocks = [];
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "SESSION_CLOCK") window.clocks.push(message);
      });
    }
  };
})();"""
GRANTS = "**/api/rtc/grants"
MINUTES = 20


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """Of whole minutes: nobody is away for so long that it ends the call."""
    made = make_house(minute_seconds=60, demo=True)
    yield made
    made.stop()


@contextmanager
def kept_away(page: Page) -> Iterator[None]:
    """Whoever loads the page anew is not let in before the end."""
    waiting: list[Route] = []
    over = False

    def keep(route: Route) -> None:
        if over:
            route.continue_()
        else:
            waiting.append(route)

    page.route(GRANTS, keep)
    page.reload(wait_until="commit")
    yield
    over = True
    for route in waiting:
        route.continue_()


def clock(page: Page, script: str, arg: Any = None) -> dict[str, Any]:
    """The first of the clocks that ``page`` was told for which this holds; waited for."""
    found = page.wait_for_function(f"(arg) => window.clocks.find({script})", arg=arg)
    value: dict[str, Any] = found.json_value()
    return value


def test_who_reloads_in_a_call_is_back_in_it_and_pays_for_what_was_delivered(
    house: House, sign_in: SignIn
) -> None:
    # Given a call
    creator, fan = sign_in(house, "creator_a"), sign_in(house, "fan_a")
    remember(creator, fan)
    for side in (creator, fan):
        side.add_init_script(KEEP_CLOCKS)
    go_live(creator, house)
    fan.goto(f"{house.environment['PUBLIC_URL']}/models/creator_a")
    ask(fan, MINUTES)
    expect(creator.get_by_role("button", name="Private Requests", exact=True)).to_contain_text("1")
    creator.get_by_role("button", name="Accept", exact=True).click()
    fan.wait_for_url(re.compile("/call/"))
    session_id = fan.url.rpartition("/")[2]
    for side in (creator, fan):
        has_seen(side, "remote-video")

    # When the fan loads the page anew, and is away meanwhile
    with kept_away(fan):
        left = creator.evaluate("clocks.at(-1)")
        # Then the clock goes on: nothing that the fan does stops it
        clock(creator, "({ state, deliveredMs }) => state === 'running' && deliveredMs > arg", left["deliveredMs"])
    # And the fan is back in the same call, and both see each other
    for side in (fan, creator):
        frames_grow(side, "#remote-video")
    assert fan.url.endswith(f"/call/{session_id}")

    # When the creator loads the page anew, and is away meanwhile
    with kept_away(creator):
        # Then it stands, for that reason, and goes on standing
        stands = clock(fan, "({ state, cause }) => state === 'paused' && cause === 'creator'")
        fan.wait_for_function(
            "(at) => clocks.filter((each) => each.state === 'paused' && each.deliveredMs === at).length > 1",
            arg=stands["deliveredMs"],
        )
    # And the creator is back in the same call, the clock goes on from there, and both see each other
    clock(fan, "({ state, deliveredMs }) => state === 'running' && deliveredMs > arg", stands["deliveredMs"])
    for side in (fan, creator):
        frames_grow(side, "#remote-video")
        assert side.url.endswith(f"/call/{session_id}")
    last = fan.evaluate("clocks.at(-1)")

    # When the fan ends it
    fan.get_by_role("button", name="End call", exact=True).click()
    expect(fan).to_have_url(re.compile("/models"))

    # Then the receipt is of that one session, of the time on that clock, by the row of who ended it
    expect(fan.locator("#ended")).to_contain_text("Your private call has ended")
    fan.goto(f"{house.environment['PUBLIC_URL']}/history/{session_id}")
    expect(fan.locator("main")).to_contain_text(re.compile("receipt", re.IGNORECASE))
    receipt = Program(house, "fan_a").call("GET", f"/api/streaming/private-sessions/{session_id}")
    assert (receipt["status"], receipt["endReason"]) == ("ended", "ENDED_BY_FAN")
    assert last["deliveredMs"] <= receipt["deliveredMs"] <= receipt["paidMs"] == MINUTES * receipt["minuteMs"]
    billed = max(receipt["minMinutes"], math.ceil(receipt["deliveredMs"] / receipt["minuteMs"]))
    assert receipt["billedMinutes"] == billed
    assert receipt["earnings"] + receipt["commission"] == billed * receipt["ratePerMinute"]
    assert receipt["refunded"] == receipt["totalHeld"] - billed * receipt["ratePerMinute"]
    assert "clean" in house.command("-m", "flask", "--app", "web", "ledger", "audit")
