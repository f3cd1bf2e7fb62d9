"""What the pages say of the ways to pay before anything is held: the end table of exactly this wish."""

from __future__ import annotations

import re
from html import unescape

import pytest
from flask.testing import FlaskClient
from test_page_words import signed_in
from web_people import People, Someone

from models.clock import utc_now
from models.config import Settings
from models.services import offers, subscriptions
from models.services.offers import CreatorOptions


@pytest.fixture
def creator(people: People) -> Someone:
    creator = people.creator()
    options = CreatorOptions(
        per_minute=True,
        instant_unlock_price=250,
        subscription_price=300,
        subscription_minutes=3,
        subscriber_discount_percent=20,
    )
    people.database.run(lambda tx: offers.put_options(tx, creator.user_id, options))
    return creator


def terms(client: FlaskClient, creator: Someone, wish: str = "") -> dict[str, str]:
    """Cause → what the fan pays, as the dialog fetches it."""
    page = client.get(f"/models/{creator.person.handle}?part=terms{wish}").get_data(as_text=True)
    rows = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    return {unescape(cause): unescape(pays) for cause, pays in rows}


def test_the_terms_are_those_of_the_wish(client: FlaskClient, creator: Someone, fan: Someone) -> None:
    signed_in(client, fan)
    plain = terms(client, creator, "&minutes=10")
    assert plain["You never connect"] == "The minimum, 500 tokens ($25.00). The rest comes back."
    assert "Your tokens run out" not in plain
    assert not any("unlock" in words for words in plain.values())
    minute = terms(client, creator, "&way=per_minute&unlock=1")
    assert minute["Your tokens run out"] == "The minutes paid so far, and the unlock price."
    assert minute["The creator leaves"].startswith("Whole minutes delivered, no minimum, no unlock price.")


def test_a_subscriber_reads_the_own_price(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, settings: Settings
) -> None:
    people.database.run(
        lambda tx: subscriptions.subscribe(
            tx, fan=fan.person, creator_id=creator.user_id, now=utc_now(), settings=settings, cause_id="test"
        )
    )
    signed_in(client, fan)
    # 80 tokens after the discount; 3 of the 5 minutes are included.
    assert terms(client, creator)["You never connect"].startswith("The minimum, 160 tokens ($8.00).")
    assert terms(client, creator)["The creator leaves"].endswith("So do all included minutes.")


@pytest.mark.parametrize(
    "wish", ["&minutes=0", "&minutes=-4", "&minutes=99999999999", "&minutes=x", "&way=&unlock=2"]
)
def test_an_odd_address_is_the_plain_wish(client: FlaskClient, creator: Someone, fan: Someone, wish: str) -> None:
    signed_in(client, fan)
    assert "The time runs out" in terms(client, creator, wish)


def test_who_is_not_signed_in_reads_the_plain_table(client: FlaskClient, creator: Someone) -> None:
    assert "The time runs out" in terms(client, creator, "&way=per_minute&unlock=1")


def test_the_studio_shows_what_is_offered(client: FlaskClient, creator: Someone) -> None:
    signed_in(client, creator)
    page = client.get("/studio?tab=settings").get_data(as_text=True)
    for label in (
        "Rate (tokens per minute)",
        "Minimum minutes",
        "Auto-accept",
        "Show Private Stream button",
        "Payment by the minute",
        "Instant unlock price (tokens)",
        "Let requests wait in a queue",
        "Who comes first",
        "Subscription price (tokens per month)",
        "Included private minutes per month",
        "Subscriber discount (percent)",
    ):
        identifier = re.search(rf'<label[^>]*for="([\w-]+)"[^>]*>{re.escape(label)}</label>', page)
        assert identifier, label
        assert f'id="{identifier.group(1)}"' in page
        assert page.count(f'id="{identifier.group(1)}"') == 1, label  # or the label names another element
    assert re.search(r'id="unlock-price"[^>]*value="250"', page)
    assert "0 subscribers" in page
    assert re.search(r'id="per-minute"[^>]* checked', page)
