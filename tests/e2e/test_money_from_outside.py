"""Money from outside, in Chromium: buying on the provider's page, giving back, a dispute that ends a live call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from fakes.stripe_server import KEY, SECRET, StripeServer
from fakes.stripe_world import DECLINED
from playwright.sync_api import BrowserContext, Page, expect

from ops.house import House
from tests.books import assert_clean
from tests.conftest import MakeHouse
from tests.e2e.conftest import SMALL_CAMERA
from tests.e2e.test_private_call import ask, frames_grow, go_live

PASSWORD = "correct horse battery"
NewContext = Callable[..., BrowserContext]


@pytest.fixture
def camera() -> str:
    """Its picture is not looked at."""
    return SMALL_CAMERA


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeServer]:
    """Stripe's other side, on this machine."""
    with StripeServer() as server:
        yield server


@pytest.fixture(scope="module")
def house(make_house: MakeHouse, stripe: StripeServer) -> Iterator[House]:
    """A house that sells tokens through Stripe."""
    made = make_house(
        GATEWAY="stripe",
        STRIPE_SECRET_KEY=KEY,
        STRIPE_WEBHOOK_SECRET=f"whsec_older,{SECRET}",
        STRIPE_API_BASE=stripe.url,
    )
    for handle, role in (("vera", "fan"), ("otto", "fan"), ("mila", "creator")):
        person = ("--email", f"{handle}@people.test", "--handle", handle, "--name", handle.title(), "--role", role)
        made.command("-m", "flask", "--app", "web", "accounts", "create", *person, "--password", PASSWORD)
    stripe.webhook_url = f"{made.environment['PUBLIC_URL']}/api/payments/webhooks/stripe"
    yield made
    stripe.webhook_url = None
    made.stop()


def enter(house: House, new_context: NewContext, handle: str) -> Page:
    """A person of this house, signed in through the form."""
    page = new_context().new_page()
    page.goto(f"{house.environment['PUBLIC_URL']}/login")
    page.get_by_label("Email", exact=True).fill(f"{handle}@people.test")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).not_to_have_url(f"{house.environment['PUBLIC_URL']}/login")
    return page


def pay(page: Page, house: House, package: str = "1,000") -> None:
    """Choose a package and go to Stripe's page."""
    page.goto(f"{house.environment['PUBLIC_URL']}/wallet")
    page.locator(".pack", has_text=package).click()
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    expect(page.get_by_role("heading", name=re.compile("^Pay "))).to_be_visible()
    assert "/pay/cs_test_" in page.url


def test_buying_on_stripes_page_and_giving_some_back(
    house: House, stripe: StripeServer, new_context: NewContext
) -> None:
    # Given a fan who goes to Stripe's page; we ask for no card's number
    fan = enter(house, new_context, "vera")
    pay(fan, house)

    # When the card is declined, and then another one is not
    fan.get_by_label("Card number").fill(DECLINED)
    fan.get_by_role("button", name="Pay", exact=True).click()
    expect(fan.get_by_role("alert")).to_contain_text("declined")
    fan.get_by_label("Card number").fill("4242 4242 4242 4242")
    fan.get_by_role("button", name="Pay", exact=True).click()

    # Then the page that waits for the truth says that the tokens are here
    expect(fan).to_have_url(re.compile("/wallet/purchases/pur_"))
    expect(fan.get_by_role("heading", name="Your tokens are here")).to_be_visible()
    fan.get_by_role("link", name="To the wallet").click()
    expect(fan.locator("#figures")).to_contain_text("1,000")

    # When 400 of them are given back
    fan.get_by_role("button", name=re.compile("^Give back")).click()
    dialog = fan.get_by_role("dialog", name="Give tokens back")
    expect(dialog).to_contain_text("$48.00")
    dialog.get_by_role("spinbutton", name="Tokens").fill("1001")
    expect(dialog.get_by_role("button", name="Give back", exact=True)).to_be_disabled()
    dialog.get_by_role("spinbutton", name="Tokens").fill("400")
    dialog.get_by_role("button", name="Give back for $19.20").click()

    # Then the money has moved at Stripe and the page says so
    expect(fan.locator("#figures")).to_contain_text("600")
    expect(fan.locator("#purchases")).to_contain_text("on its way to your card")
    assert [amount for what, amount in stripe.world.moved if what == "refund"] == [-1_920]
    assert_clean(house)


def test_the_page_waits_when_the_answer_is_late_and_closes_correctly(
    house: House, stripe: StripeServer, new_context: NewContext
) -> None:
    # Given a payment of which no webhook comes, while Stripe does not answer questions
    fan = enter(house, new_context, "otto")
    url, stripe.webhook_url = stripe.webhook_url, None
    try:
        pay(fan, house, "200")
        stripe.away = True
        fan.get_by_role("button", name="Pay", exact=True).click()
        # When the fan is back, then nobody knows yet, and the page says that
        expect(fan.get_by_role("heading", name="Waiting for your payment")).to_be_visible()
        # When Stripe answers again, then the page finds out by itself
        stripe.away = False
        expect(fan.get_by_role("heading", name="Your tokens are here")).to_be_visible()
    finally:
        stripe.away, stripe.webhook_url = False, url
    # And the late webhook changes nothing
    (late,) = [
        event
        for event in stripe.world.all("event", type="checkout.session.completed")
        if event["data"]["object"]["amount_total"] == 1_000
    ]
    assert stripe.deliver(late) == 200
    assert stripe.deliver(late) == 200
    fan.goto(f"{house.environment['PUBLIC_URL']}/wallet")
    expect(fan.locator("#figures")).to_contain_text("200")


def test_a_dispute_ends_a_live_call(house: House, stripe: StripeServer, new_context: NewContext) -> None:
    # Given a live call, paid with tokens of a card whose owner does not know of it yet
    creator, fan = enter(house, new_context, "mila"), enter(house, new_context, "vera")
    pay(fan, house)
    fan.get_by_role("button", name="Pay", exact=True).click()
    expect(fan.get_by_role("heading", name="Your tokens are here")).to_be_visible()
    go_live(creator, house)
    fan.goto(f"{house.environment['PUBLIC_URL']}/models/mila")
    frames_grow(fan, "video")
    ask(fan, 8)
    creator.get_by_role("button", name="Accept", exact=True).click()
    expect(fan).to_have_url(re.compile("/call/"))
    for side in (fan, creator):
        frames_grow(side, "#remote-video")
    session_id = fan.url.rsplit("/", 1)[1]

    # When every payment of this card is disputed
    for intent in stripe.world.all("payment_intent", status="succeeded"):
        if intent["amount"] == 4_800:
            stripe.world.dispute(intent["id"])

    # Then the call is cut, and the fan reads why
    expect(fan).to_have_url(re.compile("/models\\?"))
    banner = fan.get_by_role("alert").filter(has_text="Your private call has ended").first
    expect(banner).to_be_visible()
    expect(banner).to_contain_text(re.compile("payment", re.IGNORECASE))

    # And the receipt charges nothing for what bad tokens would have paid
    fan.goto(f"{house.environment['PUBLIC_URL']}/history/{session_id}")
    expect(fan.locator("main")).to_contain_text(re.compile("payment", re.IGNORECASE))

    # And spending is frozen, which the wallet explains
    fan.goto(f"{house.environment['PUBLIC_URL']}/wallet")
    expect(fan.locator("#frozen")).to_contain_text("Spending is frozen")
    expect(fan.get_by_role("button", name=re.compile("^Pay "))).to_have_count(0)
    expect(fan.locator("#purchases")).to_contain_text("Disputed")
    expect(fan.get_by_role("button", name=re.compile("^Give back"))).to_have_count(0)
    token = fan.context.request.get(f"{house.environment['PUBLIC_URL']}/api/wallet").json()
    assert (token["available"], token["held"]) == (0, 0)

    # And the creator, who is told as well, has nothing left that was not earned
    expect(creator.get_by_text(re.compile("ended", re.IGNORECASE)).first).to_be_visible()
    assert_clean(house)

    # When the bank decides for us, then the tokens and the freedom to spend them are back
    for dispute in stripe.world.all("dispute"):
        stripe.world.close_dispute(dispute["id"], won=True)
    expect(fan.locator("#frozen")).not_to_contain_text("Spending is frozen")
    # And tokens can be bought again on the page that was made while they could not
    expect(fan.get_by_role("button", name=re.compile("^Pay "))).to_be_visible()
    assert_clean(house)
