"""The subscription's card and the account's forms, as the server writes them: in every state, without a script."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session
from web_people import PASSWORD, People, Someone

from models.clock import utc_now
from models.config import Settings
from models.services import offers, spending, subscriptions
from models.services.subscriptions import SubscriptionView
from models.subscriptions import SubscriptionRow


@pytest.fixture
def creator(people: People) -> Someone:
    """Offers a month for 300 tokens with 20 minutes and 10 percent off."""
    made = people.creator()
    options = offers.CreatorOptions(
        subscription_price=300, subscription_minutes=20, subscriber_discount_percent=10
    )
    people.database.run(lambda tx: offers.put_options(tx, made.user_id, options))
    return made


@pytest.fixture
def fan(client: FlaskClient, people: People, csrf: Any) -> Someone:
    """Signed in to the client."""
    made = people.fan(tokens=1_000)
    answer = client.post("/login", data={"email": made.email, "password": PASSWORD}, headers=csrf(client))
    assert answer.status_code == 303
    return made


def subscribe(people: People, settings: Settings, fan: Someone, creator: Someone) -> SubscriptionView:
    return people.database.run(
        lambda tx: subscriptions.subscribe(
            tx, fan=fan.person, creator_id=creator.user_id, now=utc_now(), settings=settings, cause_id="test"
        )
    )


def card(client: FlaskClient, creator: Someone) -> str:
    page = client.get(f"/models/{creator.person.handle}?part=subscription")
    assert page.status_code == 200
    assert "<html" not in page.text
    assert page.text.strip() in client.get(f"/models/{creator.person.handle}").text
    return " ".join(page.text.split())


def test_the_offer_for_everybody(client: FlaskClient, people: People, creator: Someone) -> None:
    text = card(client, creator)
    assert "<b>300</b> tokens a month" in text
    assert "about $15.00" in text
    assert "20 private minutes each month" in text
    assert "10% off" in text
    assert "Sign in to subscribe" in text
    assert card(client, people.creator()) == ""


def test_a_subscription_in_each_state(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, settings: Settings
) -> None:
    assert "data-subscribe" in card(client, creator)
    view = subscribe(people, settings, fan, creator)
    active = card(client, creator)
    assert "Active" in active
    assert "20 of 20" in active
    assert "data-cancel" in active
    people.database.run(
        lambda tx: subscriptions.cancel(tx, view.subscription_id, fan_id=fan.user_id, now=utc_now())
    )
    ending = card(client, creator)
    assert "Cancelled" in ending
    assert "data-resume" in ending

    def overdue(tx: Session) -> None:
        long_ago = {"period_start": utc_now() - timedelta(days=40), "period_end": utc_now() - timedelta(days=1)}
        tx.execute(update(SubscriptionRow).values(cancel_at_period_end=False, **long_ago))

    people.database.run(overdue)
    unpaid = card(client, creator)
    assert "The last payment did not go through." in unpaid
    assert "Subscribe again" in unpaid


def test_the_account_cancels_and_resumes_without_a_script(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, settings: Settings, csrf: Any
) -> None:
    view = subscribe(people, settings, fan, creator)
    headers, one = csrf(client), f"/account/subscriptions/{view.subscription_id}"
    assert "300 tokens ($15.00)" in client.get("/account").text
    done = client.post(f"{one}/cancel", headers=headers, follow_redirects=True)
    assert f"Your subscription to {creator.person.display_name} is cancelled." in done.text
    assert "Nothing more is paid." in done.text
    again = client.post(f"{one}/resume", headers=headers, follow_redirects=True)
    assert "goes on." in again.text
    # and nobody's else
    theirs = subscribe(people, settings, people.fan(), creator)
    other = f"/account/subscriptions/{theirs.subscription_id}/cancel"
    assert "There is no such" in client.post(other, headers=headers, follow_redirects=True).text
    assert client.post(f"{one}/cancel").status_code == 400, "without the form's token"


@pytest.mark.parametrize("typed", ["-1", "1.5", "ten", "٣", "9" * 16])
def test_a_limit_that_is_none_changes_nothing(
    client: FlaskClient, people: People, fan: Someone, csrf: Any, typed: str
) -> None:
    headers, address = csrf(client), "/account/spending-cap"
    client.post(address, data={"daily_cap": "500"}, headers=headers)
    answer = client.post(address, data={"daily_cap": typed}, headers=headers, follow_redirects=True)
    assert "A limit is 0 or more tokens" in answer.text
    with people.database.reading() as tx:
        assert spending.cap_of(tx, fan.user_id, utc_now()).daily_cap_tokens == 500


def test_a_higher_limit_says_when_it_holds(client: FlaskClient, fan: Someone, csrf: Any) -> None:
    headers = csrf(client)
    assert "there is no limit" in client.get("/account").text
    client.post("/account/spending-cap", data={"daily_cap": "500"}, headers=headers)
    answer = client.post("/account/spending-cap", data={"daily_cap": ""}, headers=headers, follow_redirects=True)
    assert "It holds from the next day (0:00 UTC)." in answer.text
    assert "of 500 tokens ($25.00)" in answer.text
    assert "Save today’s limit again to take that back." in answer.text


def test_creators_have_no_limit_of_their_own(client: FlaskClient, creator: Someone, csrf: Any) -> None:
    client.post("/login", data={"email": creator.email, "password": PASSWORD}, headers=csrf(client))
    assert "Daily limit" not in client.get("/account").text
    assert client.post("/account/spending-cap", data={"daily_cap": "5"}, headers=csrf(client)).status_code == 403
