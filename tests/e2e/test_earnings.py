"""From a receipt to money in the bank, in Chromium: the signature checked, a complaint, a refund, a payout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import update

from models.db import Database
from models.people import PersonRow
from models.services import accounts
from ops.house import House
from tests.e2e.conftest import PATIENCE_MS

sys.path.append(str(Path(__file__).parents[1] / "integration" / "models"))
from stage import MINUTE, Call, Stage

PASSWORD = "correct horse battery"


class Past(msgspec.Struct):
    """A house whose creator has earned: long ago what has cleared since, and a call of just now."""

    house: House
    long_ago: Call
    just_now: Call


@pytest.fixture(scope="module")
def past(make_house: Callable[..., House]) -> Iterator[Past]:
    """Without a media node: what media would have said is in the database already."""
    house = make_house(names=("worker", "clock", "web"))
    # A stream that began weeks ago without its creator would be ended under our hands.
    house.children["clock"].stop()
    database = Database(f"sqlite:///{house.var / 'greenroom.db'}")
    stage = Stage(database)
    stage.now = datetime.now(UTC) - timedelta(days=40)
    stage.node_ready()
    long_ago = stage.running(30, tokens=3_000)
    stage.call_ended(long_ago.session_id, "time_expired", 30 * MINUTE)
    stage.resume(long_ago.stream, long_ago.creator)
    stage.now = datetime.now(UTC)
    fan = stage.fan()
    request = stage.ask(fan, long_ago.stream, 10)
    accepted = stage.accept(request.request_id, long_ago.creator)
    just_now = Call(
        fan, long_ago.creator, long_ago.stream, request.request_id, accepted.session_id, accepted.room_id
    )
    stage.opened(just_now.session_id)
    stage.delivered(just_now.session_id, 1, 0)
    stage.call_ended(just_now.session_id, "fan_left", 5 * MINUTE + 22_000)
    hashed = accounts.hash_password(PASSWORD)
    for person in (just_now.fan, just_now.creator):
        database.run(
            lambda tx, user_id=person.user_id: set_password(tx, user_id, hashed)  # type: ignore[misc]
        )
    house.children["clock"].start()
    yield Past(house, long_ago, just_now)
    database.close()


def set_password(tx: object, user_id: str, hashed: str) -> None:
    changed = update(PersonRow).where(PersonRow.id == user_id).values(password_hash=hashed)
    tx.execute(changed)  # type: ignore[attr-defined]


def enter(new_context: Callable[..., BrowserContext], past: Past, handle: str, path: str) -> Page:
    page, address = new_context().new_page(), past.house.environment["PUBLIC_URL"]
    page.goto(f"{address}/login")
    page.get_by_label("Email", exact=True).fill(f"{handle}@people.test")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).not_to_have_url(f"{address}/login")
    page.goto(f"{address}{path}")
    return page


def until_cleared(page: Page, earnings: str) -> None:
    """Asked again and again: the clock of the house has more to do than this, and a busy machine is slow."""
    for _ in range(PATIENCE_MS // 200):
        if page.request.get(earnings).json()["payable"]["tokens"] > 0:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"nothing was cleared within {PATIENCE_MS} ms")


def test_the_browser_checks_the_signature_and_takes_a_complaint(
    past: Past, new_context: Callable[..., BrowserContext]
) -> None:
    # given: the clock of the house signs by itself
    page = enter(new_context, past, past.just_now.fan.handle, f"/history/{past.just_now.session_id}")
    expect(page.locator("#signature-pill")).to_have_text("Signature valid")
    expect(page.locator("#signature-words")).to_contain_text("checked the signature and the sums")
    # when
    page.get_by_role("button", name="Make a complaint").click()
    page.get_by_role("button", name="Send complaint").click()
    expect(page.get_by_text("Write a few words.").first).to_be_visible()
    page.get_by_label("What was wrong").fill("The sound was gone for a minute.")
    page.get_by_role("button", name="Send complaint").click()
    # then
    expect(page.get_by_text("Being looked at")).to_be_visible()
    expect(page.get_by_role("button", name="Make a complaint")).to_have_count(0)


def test_a_receipt_that_was_changed_on_the_way_is_called_not_valid(
    past: Past, new_context: Callable[..., BrowserContext]
) -> None:
    page = enter(new_context, past, past.just_now.fan.handle, "/wallet")

    def change(route: object) -> None:
        answer = route.fetch()  # type: ignore[attr-defined]
        route.fulfill(response=answer, json=answer.json() | {"billedMinutes": 5})  # type: ignore[attr-defined]

    page.route("**/api/streaming/private-sessions/*", change)
    page.goto(f"{past.house.environment['PUBLIC_URL']}/history/{past.just_now.session_id}")
    expect(page.locator("#signature-pill")).to_have_text("Signature not valid")


def test_a_creator_gives_a_part_back_and_sees_before_what_it_costs(
    past: Past, new_context: Callable[..., BrowserContext]
) -> None:
    page = enter(new_context, past, past.just_now.creator.handle, f"/history/{past.just_now.session_id}")
    page.get_by_role("button", name="Give a refund").click()
    page.get_by_label("Tokens to give back").fill("101")
    expect(page.locator('[data-quote="earnings"]')).to_have_text("81 tokens, about $4.05")
    page.get_by_label("Why").fill("Sorry about the sound.")
    page.get_by_role("button", name="Give back 101 tokens").click()
    expect(page.get_by_text("You gave 101 tokens back").first).to_be_visible()
    expect(page.get_by_text("signed in the creator’s chain").first).to_be_visible()


def test_cleared_earnings_are_paid_out_and_the_page_says_when(
    past: Past, new_context: Callable[..., BrowserContext]
) -> None:
    # given: 2,400 tokens that the clock has cleared, 240 kept back
    page = enter(new_context, past, past.just_now.creator.handle, "/studio")
    address = past.house.environment["PUBLIC_URL"]
    until_cleared(page, f"{address}/api/earnings")
    page.goto(f"{address}/studio?tab=earnings")
    panel = page.get_by_role("tabpanel", name="Earnings")
    expect(panel.get_by_text("2,160")).to_be_visible()
    panel.get_by_role("button", name="Set up payouts").click()
    # when
    expect(panel.get_by_role("button", name="Pay out $108.00")).to_be_visible()
    panel.get_by_label("Tokens to pay out").fill("2000")
    panel.get_by_role("button", name="Pay out $100.00").click()
    # then: a worker of the house asks the gateway, and the page follows by itself
    expect(panel.get_by_role("cell", name="Paid", exact=True)).to_be_visible()
    expect(panel.get_by_role("cell", name="$100.00")).to_be_visible()
    with page.expect_download() as download:
        panel.get_by_role("link", name="Everything").click()
    text = Path(download.value.path()).read_text()
    assert [line.split(",")[1] for line in text.splitlines()[1:]].count("Payout") == 1
