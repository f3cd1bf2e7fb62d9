"""/admin in real Chromium: a worker stops and the queue grows, it comes back and the queue falls; a dead letter is
read, run again and discarded; a person is frozen; the books are audited; a token is seen once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pika
import pytest
from playwright.sync_api import Locator, Page, expect

from models import outbox
from models.db import Database
from models.messages.routing import dramatiq_envelope
from ops.house import House
from tests.conftest import MakeHouse
from tests.e2e.conftest import SignIn

WAITING = 12
PHONE = {"width": 390, "height": 844}
PAGES = (
    "", "/dead-letters", "/rooms", "/sessions", "/ledger", "/trace?q=x", "/payments", "/complaints", "/people",
    "/integrators", "/acts",
)  # fmt: skip
KEEPS_UP = re.compile("Keeping up|Working it off")


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> House:
    """A house of its own: its worker is going to be stopped."""
    return make_house(demo=True)


@pytest.fixture
def database(house: House) -> Iterator[Database]:
    opened = Database(f"sqlite:///{house.var / 'greenroom.db'}")
    yield opened
    opened.close()


@pytest.fixture
def admin(house: House, sign_in: SignIn) -> Page:
    return sign_in(house, "admin")


def address(house: House, path: str) -> str:
    return f"{house.environment['PUBLIC_URL']}/admin{path}"


def queue(page: Page, name: str) -> Locator:
    return page.locator(f'tr[data-queue="{name}"]')


def publish(house: House, name: str, body: bytes) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(house.environment["AMQP_URL"]))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", name, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
    connection.close()


def decide(page: Page, button: Locator, go: str, why: str) -> None:
    """Press, read the consequence, say why, confirm."""
    button.click()
    dialog = page.locator("#act")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Reason", exact=True).fill(why)
    dialog.get_by_role("button", name=go, exact=True).click()
    expect(dialog).not_to_be_visible()


def test_a_queue_grows_while_its_worker_is_stopped_and_falls_when_it_is_back(
    house: House, admin: Page, database: Database
) -> None:
    # given the dashboard, and a worker that keeps up
    admin.goto(address(house, ""))
    rules = queue(admin, "rules")
    expect(rules.locator("[data-state]")).to_have_text("Keeping up")
    expect(admin.get_by_text("Alive", exact=True)).not_to_have_count(0)
    spark = rules.locator("svg path").last
    flat = spark.get_attribute("d")
    # when the worker stops and messages come
    worker = house.children["worker"]
    worker.stop()
    for number in range(WAITING):
        database.run(
            lambda tx, each=number: outbox.actor(  # type: ignore[misc]
                tx, "rules", "apply_auto_accept", f"req_{each}", cause_id="test"
            )
        )
    # then the page says so by itself: the number, the line, the word
    expect(rules.locator("[data-waiting]")).to_have_text(str(WAITING))
    expect(rules.locator("[data-state]")).to_have_text("No worker")
    expect(spark).not_to_have_attribute("d", flat or "")
    # and a page that is held says it no more
    hold = admin.get_by_role("button", name="Hold updates", exact=True)
    hold.click()
    expect(hold).to_have_attribute("aria-pressed", "true")
    # when the worker is back
    worker.start()
    hold.click()
    # then the number falls
    expect(rules.locator("[data-waiting]")).to_have_text("0")
    expect(rules.locator("[data-state]")).to_have_text(KEEPS_UP)


def test_a_dead_letter_is_read_run_again_and_thrown_away(house: House, admin: Page) -> None:
    # given a message from the future, which no worker can read
    body = '{"type":"FromTheFuture","grant":"s3cret-grant"}'
    publish(house, "media-events", dramatiq_envelope("media-events", "on_media_event", "msg_future", body))
    admin.goto(address(house, "/dead-letters"))
    letter = admin.get_by_role("link", name="on_media_event", exact=True)
    expect(letter).to_be_visible()
    expect(admin.get_by_role("link", name="Dead letters 1", exact=True)).to_be_visible()
    # when it is read
    letter.click()
    # then there is its payload without its secret, and why it died
    expect(admin.get_by_label("The whole payload", exact=True)).to_contain_text("FromTheFuture")
    expect(admin.get_by_label("The whole payload", exact=True)).not_to_contain_text("s3cret-grant")
    expect(admin.get_by_label("The whole traceback", exact=True)).to_contain_text("UnknownMessage")
    expect(admin.get_by_label("The whole traceback", exact=True)).to_contain_text("decode_event")
    # when it is run again, though nothing was mended
    again = admin.get_by_role("button", name="Run again: on_media_event", exact=True)
    again.click()
    dialog = admin.get_by_role("dialog", name="Run on_media_event again?", exact=True)
    expect(dialog).to_contain_text("If it was done after all, nothing happens twice.")
    dialog.get_by_role("button", name="Run again", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Say why")
    dialog.get_by_label("Reason", exact=True).fill("A newer worker may know it")
    dialog.get_by_role("button", name="Run again", exact=True).click()
    # then it comes back, having died twice
    expect(admin.get_by_text("died 2 times").first).to_be_visible()
    expect(admin.get_by_text("Letter requeued")).to_be_visible()
    # when it is thrown away
    discard = admin.get_by_role("button", name="Discard: on_media_event", exact=True)
    decide(admin, discard, "Discard", "No worker of ours will ever know it")
    # then it is among those, and the record says who and why
    expect(admin.get_by_role("heading", name="Thrown away", exact=True)).to_be_visible()
    admin.goto(address(house, "/acts"))
    expect(admin.get_by_text("No worker of ours will ever know it")).to_be_visible()


def test_many_letters_run_again_and_are_done(house: House, admin: Page) -> None:
    # given two letters that workers can do by now
    for number in (1, 2):
        message = dramatiq_envelope("rules", "apply_auto_accept", f"msg_mended_{number}", "req_gone")
        publish(house, "rules.XQ", message)
    admin.goto(address(house, "/dead-letters"))
    expect(admin.get_by_role("link", name="apply_auto_accept", exact=True)).to_have_count(2)
    # when both are chosen and run again
    admin.get_by_label(re.compile("All of these")).check()
    decide(admin, admin.get_by_role("button", name="Run chosen again", exact=True), "Run again", "Mended by now")
    # then they are done
    admin.goto(address(house, "/dead-letters?status=requeued"))
    expect(admin.get_by_text("Done since", exact=True)).to_have_count(2)


def test_a_person_is_frozen_and_the_person_sees_it(house: House, admin: Page) -> None:
    admin.goto(address(house, "/people?q=fan_b"))
    admin.get_by_role("link", name=re.compile("fan_b")).click()
    freeze = admin.get_by_role("button", name="Freeze spending", exact=True)
    decide(admin, freeze, "Freeze", "A card that was reported stolen")
    expect(admin.get_by_text("Spending frozen", exact=True).first).to_be_visible()
    unfreeze = admin.get_by_role("button", name="Unfreeze spending", exact=True)
    decide(admin, unfreeze, "Unfreeze", "It was another card")
    expect(freeze).to_be_visible()
    expect(admin.get_by_text("A card that was reported stolen")).to_be_visible()


def test_the_books_are_audited_when_asked(house: House, admin: Page) -> None:
    admin.goto(address(house, "/ledger"))
    admin.get_by_role("button", name="Audit now", exact=True).click()
    expect(admin.get_by_text("Clean", exact=True).first).to_be_visible()
    expect(admin.get_by_text("Sum 0", exact=True)).to_be_visible()


def test_a_token_is_seen_once_and_revoked(house: House, admin: Page) -> None:
    admin.goto(address(house, "/integrators"))
    admin.get_by_role("button", name="New token", exact=True).click()
    dialog = admin.get_by_role("dialog", name="Make a token?", exact=True)
    dialog.get_by_label("Whose program", exact=True).fill("Partner A")
    dialog.get_by_label("rtc:terminate", exact=True).check()
    dialog.get_by_label("Reason", exact=True).fill("They moderate for us")
    dialog.get_by_role("button", name="Make the token", exact=True).click()
    once = admin.get_by_role("dialog", name="The token, this once", exact=True)
    token = once.locator("#once-token").inner_text()
    assert len(token) == 43
    once.get_by_role("button", name="I have it", exact=True).click()
    expect(admin.locator("#once-token")).to_have_text("")
    assert token not in admin.content()
    revoke = admin.get_by_role("button", name="Revoke: Partner A", exact=True)
    decide(admin, revoke, "Revoke", "The contract has ended")
    expect(admin.get_by_text("Revoked", exact=True)).to_be_visible()


def test_only_admins_find_the_way(house: House, sign_in: SignIn) -> None:
    fan = sign_in(house, "fan_a")
    expect(fan.get_by_role("link", name="Operations", exact=True)).to_have_count(0)
    answer = fan.goto(address(house, ""))
    assert answer
    assert answer.status == 403


def test_the_pages_fit_a_phone_and_the_policy_stops_nothing(house: House, sign_in: SignIn) -> None:
    page = sign_in(house, "admin", viewport=PHONE)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for path in PAGES:
        page.goto(address(house, path))
        wider = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{path} is {wider} px too wide"
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
    assert complaints == []
