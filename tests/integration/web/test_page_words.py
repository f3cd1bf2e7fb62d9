"""The server-rendered pages: readable without script, forms with their words, refusals in the house's style."""

from __future__ import annotations

import re
from html import unescape

import pytest
from flask.testing import FlaskClient
from web_people import PASSWORD, People, Someone

from models.clock import utc_now
from models.config import Settings
from models.services import accounts, private_streams, sessions
from models.services.settling import settle
from models.sessions import SessionRow
from models.settlement import EndFacts


def words(client: FlaskClient, path: str, status: int = 200) -> str:
    """The page's text, without its markup."""
    answer = client.get(path)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return text_of(answer.get_data(as_text=True))


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def token_of(client: FlaskClient, path: str) -> str:
    page = client.get(path).get_data(as_text=True)
    return page.split('name="csrf-token" content="', 1)[1].split('"', 1)[0]


def post(client: FlaskClient, path: str, on: str = "/login", **form: str) -> tuple[int, str, str]:
    """A form as a browser sends it: (status, where it leads, text)."""
    answer = client.post(path, data={"csrf_token": token_of(client, on), **form})
    return answer.status_code, answer.headers.get("Location", ""), text_of(answer.get_data(as_text=True))


def signed_in(client: FlaskClient, someone: Someone) -> FlaskClient:
    status, _, text = post(client, "/login", email=someone.email, password=PASSWORD)
    assert status == 303, text
    return client


def ended_call(people: People, settings: Settings, creator: Someone, fan: Someone) -> str:
    """Ten minutes held; after 5:22 delivered and 18 s of pause the fan leaves. The session's id."""
    stream, now = people.live(creator), utc_now()
    people.present(fan)
    run = people.database.run
    request = run(
        lambda tx: private_streams.request(
            tx,
            fan=fan.person,
            creator_id=creator.user_id,
            stream_id=stream.stream_id,
            minutes=10,
            now=now,
            settings=settings,
            cause_id="test",
        )
    )
    accepted = run(
        lambda tx: private_streams.accept(tx, request.request_id, creator_id=creator.user_id, now=now)
    )

    def finish(tx: object) -> None:
        row = tx.get_one(SessionRow, accepted.session_id)  # type: ignore[attr-defined]
        row.delivered_ms, row.acknowledged_ms, row.creator_pause_ms = 322_000, row.paid_ms, 18_000
        row.status, row.live_at, row.opened_at = "live", now, now
        tx.flush()  # type: ignore[attr-defined]
        facts = EndFacts(fact="fan_left", creator_connected=True, fan_connected=True, creator_pause_ms=18_000)
        settle(tx, row, facts, now)  # type: ignore[arg-type]

    run(finish)
    return accepted.session_id


def test_the_front_page_shows_the_whole_end_table_to_anybody(client: FlaskClient) -> None:
    text = words(client, "/")
    for line in (
        "What you pay if…",
        "The time runs out All of it.",
        "You never connect The minimum, 500 tokens ($25.00).",
    ):
        assert line in text


def test_a_sign_in_leads_back_and_never_elsewhere(client: FlaskClient, people: People) -> None:
    fan = people.fan()
    # When somebody signs in from a creator's page, they return to it
    form = {"email": fan.email, "password": PASSWORD}
    assert post(client, "/login", **form, next="/wallet?need=5")[:2] == (303, "/wallet?need=5")
    # And an address elsewhere is not followed
    post(client, "/logout", on="/models")
    assert post(client, "/login", **form, next="https://elsewhere.example/")[:2] == (303, "/models")


def test_a_wrong_password_says_so_above_the_form_and_keeps_the_email(client: FlaskClient, people: People) -> None:
    fan = people.fan()
    answer = client.post(
        "/login", data={"csrf_token": token_of(client, "/login"), "email": fan.email, "password": "not it at all"}
    )
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert "The e-mail or the password is wrong." in page
    assert f'value="{fan.email}"' in page
    assert 'role="alert"' in page


def test_a_form_without_its_token_changes_nothing(client: FlaskClient, people: People) -> None:
    fan = people.fan()
    answer = client.post("/login", data={"email": fan.email, "password": PASSWORD})
    assert answer.status_code == 400
    assert "This form is too old" in answer.get_data(as_text=True)
    assert client.get("/wallet").status_code == 302


def test_signing_up_as_a_creator_leads_to_the_studio(client: FlaskClient) -> None:
    form = {"email": "new@people.test", "handle": "newcomer", "display_name": "New Comer", "password": PASSWORD}
    assert post(client, "/signup", **form, role="creator")[:2] == (303, "/studio")
    assert "New Comer" in words(client, "/models")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"handle": "a b"}, "A handle has 3 to 30 letters, digits or underscores."),
        ({"password": "short"}, "A password has 10 to 200 characters."),
        ({"handle": "taken_one"}, "This handle is taken. Choose another."),
        ({"email": "taken@people.test"}, "This e-mail has an account already."),
    ],
)
def test_a_signup_that_does_not_fit_says_what_is_right(
    client: FlaskClient, changed: dict[str, str], said: str
) -> None:
    form = {"email": "a@people.test", "handle": "somebody", "display_name": "S", "password": PASSWORD}
    # Given an account that is there already
    post(client, "/signup", **form | {"email": "taken@people.test", "handle": "taken_one"})
    post(client, "/logout", on="/models")
    # When another sign-up does not fit
    status, _, text = post(client, "/signup", **form | changed)
    # Then the form says what would
    assert status == 422
    assert said in text


def test_creators_are_listed_live_first_without_telling_more_than_may_be_told(
    client: FlaskClient, people: People
) -> None:
    live, away = people.creator(), people.creator()
    assert "Nobody is live right now" in words(client, "/models")
    people.live(live)
    text = words(client, "/models")
    assert "1 live now" in text
    first, heading, last = live.person.display_name, "Not live right now", away.person.display_name
    assert text.index(first) < text.index(heading) < text.index(last)


def test_the_end_of_a_call_is_said_again_with_bill_and_receipt(
    client: FlaskClient, people: People, settings: Settings
) -> None:
    creator, fan = people.creator(), people.fan()
    session_id = ended_call(people, settings, creator, fan)
    signed_in(client, fan)
    page = client.get(f"/models?ended=PAYMENT_FAILED&session={session_id}").get_data(as_text=True)
    text = text_of(page)
    assert "Your private call has ended. Reason: PAYMENT FAILED" in text
    assert "You paid 600 tokens for 6 minutes. 400 tokens came back." in text
    assert f'href="/history/{session_id}"' in page


def test_somebody_elses_session_gives_no_bill_and_no_link(
    client: FlaskClient, people: People, settings: Settings
) -> None:
    session_id = ended_call(people, settings, people.creator(), people.fan())
    signed_in(client, people.fan())
    page = client.get(f"/models?ended=TIME_EXPIRED&session={session_id}").get_data(as_text=True)
    assert "Reason: TIME EXPIRED" in page
    assert session_id not in page
    # And the receipt itself is no page of theirs
    assert "There is no such" in words(client, f"/history/{session_id}", 404)


def test_an_invented_reason_is_not_repeated(client: FlaskClient) -> None:
    assert "has ended" not in words(client, "/models?ended=YOU_WON_A_PRIZE")


def test_a_receipt_in_words_and_numbers_for_each_side(
    client: FlaskClient, people: People, settings: Settings
) -> None:
    creator, fan = people.creator(), people.fan()
    session_id = ended_call(people, settings, creator, fan)
    # The fan reads what was paid, why, and what came back
    text = words(signed_in(client, fan), f"/history/{session_id}")
    for line in (
        "You paid 600 tokens for 6 minutes . 400 tokens of the 1,000 held came back.",
        "The call ran 5 min 22 s",
        "Another 18 s without it are not counted.",
        "1,000 held = 480 earned + 120 commission + 400 back. That adds up.",
        "Came back to your wallet 400 tokens about $20.00",
    ):
        assert line in text
    # And may take it away exactly as the API gives it
    file = client.get(f"/history/{session_id}.json")
    assert "attachment" in file.headers["Content-Disposition"]
    assert file.get_json() == client.get(f"/api/streaming/private-sessions/{session_id}").get_json()
    # The creator reads what was earned
    post(client, "/logout", on="/models")
    text = words(signed_in(client, creator), f"/history/{session_id}")
    assert "You earned 480 tokens for 6 minutes ." in text
    assert fan.person.display_name in words(client, "/history")


def test_the_wallet_tells_each_movement_in_words(client: FlaskClient, people: People, settings: Settings) -> None:
    creator, fan = people.creator(), people.fan(tokens=2_000)
    ended_call(people, settings, creator, fan)
    name = creator.person.display_name
    text = words(signed_in(client, fan), "/wallet")
    assert "Free to spend 1,400 tokens about $70.00" in text
    assert f"Private stream with {name}: 600 paid, 400 came back" in text
    assert f"Held for 10 minutes with {name}" in text
    # The creator sees earnings, and no shop: creators buy no tokens
    post(client, "/logout", on="/models")
    text = words(signed_in(client, creator), "/wallet")
    assert "Earned, clearing for 30 days 480 tokens" in text
    assert "Get tokens" not in text


def test_the_wallet_offers_the_package_that_covers_what_is_missing(client: FlaskClient, people: People) -> None:
    signed_in(client, people.fan(tokens=20))
    page = client.get("/wallet?need=430&next=/models/somebody").get_data(as_text=True)
    assert re.search(r'value="tokens-500"[^>]* checked', page)
    assert "Pay $25.00" in page
    assert 'href="/models/somebody"' in page
    assert "elsewhere" not in client.get("/wallet?next=//elsewhere.example").get_data(as_text=True)


def test_held_tokens_say_what_they_are_for(client: FlaskClient, people: People, settings: Settings) -> None:
    creator, fan = people.creator(), people.fan()
    stream = people.live(creator)
    people.database.run(
        lambda tx: private_streams.request(
            tx,
            fan=fan.person,
            creator_id=creator.user_id,
            stream_id=stream.stream_id,
            minutes=7,
            now=utc_now(),
            settings=settings,
            cause_id="test",
        )
    )
    signed_in(client, fan)
    assert f"Held for 7 minutes with {creator.person.display_name}." in words(client, "/wallet")
    # And the creator's page waits with them, also after a reload
    page = client.get(f"/models/{creator.person.handle}").get_data(as_text=True)
    assert unescape(page).count('"state":"waiting"') == 1


def test_a_creators_page_knows_who_looks(client: FlaskClient, people: People) -> None:
    creator, fan = people.creator(), people.fan()
    people.live(creator)
    path = f"/models/{creator.person.handle}"
    assert "Sign in to watch" in words(client, path)
    signed_in(client, creator)
    assert "You are live" in words(client, path)
    post(client, "/logout", on="/models")
    page = signed_in(client, fan).get(path).get_data(as_text=True)
    assert "Private Stream" in text_of(page)
    # Nothing of the creator that is nobody's business
    assert creator.email not in page


def test_signing_out_everywhere_ends_the_programs_too(client: FlaskClient, people: People) -> None:
    fan = people.fan()
    signed_in(client, fan)
    assert post(client, "/account/sign-out-everywhere", on="/account")[0] == 303
    assert client.get("/wallet").status_code == 302
    assert client.get("/api/auth/me", headers=fan.headers()).status_code == 401


def test_a_new_password_keeps_this_browser_and_needs_the_old_one(client: FlaskClient, people: People) -> None:
    fan = people.fan()
    signed_in(client, fan)
    form = {"email": fan.email, "password": "a quite different one"}
    status, _, text = post(client, "/account/password", on="/account", **form, current="not it at all")
    assert status == 422
    assert "not your e-mail and present password" in text
    assert post(client, "/account/password", on="/account", **form, current=PASSWORD)[0] == 303
    assert "Your password is changed." in words(client, "/account")


def test_a_creator_blocks_and_unblocks_by_handle(client: FlaskClient, people: People) -> None:
    creator, fan = people.creator(), people.fan()
    signed_in(client, creator)
    assert post(client, "/account/block", on="/account", handle=fan.person.handle)[0] == 303
    assert fan.person.handle in words(client, "/account")
    assert "Nobody has this handle." in post(client, "/account/block", on="/account", handle="nobody_at_all")[2]
    assert post(client, "/account/unblock", on="/account", fan_id=fan.user_id)[0] == 303
    with people.database.reading() as tx:
        assert accounts.blocked(tx, creator.user_id) == []
    # A fan has no such list
    post(client, "/logout", on="/models")
    signed_in(client, fan)
    assert "This page is not yours" in post(client, "/account/block", on="/account", handle="x")[2]


def test_pages_that_are_not_there_say_so_in_the_houses_style(client: FlaskClient, people: People) -> None:
    people.fan()
    for path in ("/nowhere", "/models/nobody_at_all", "/models/fan_0"):
        text = words(client, path, 404)
        assert "There is no such page" in text
        assert "Greenroom" in text


def test_no_page_needs_inline_script_or_style(client: FlaskClient, people: People, settings: Settings) -> None:
    # Given a fan with something on every page
    creator, fan = people.creator(), people.fan()
    session_id = ended_call(people, settings, creator, fan)
    people.live(people.creator())
    signed_in(client, fan)
    paths = ("/", "/models", f"/models/{creator.person.handle}", "/wallet", "/history", f"/history/{session_id}",
             "/account", "/nowhere")  # fmt: skip
    for path in paths:
        page = client.get(path).get_data(as_text=True)
        # Then the strict CSP stops nothing of it
        assert " style=" not in page, path
        assert not re.search(r"<style|\son\w+=|javascript:", page), path
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), path
        # And every page has one way in for a keyboard
        assert 'href="#main"' in page
        assert page.count('id="main"') == 1


def test_a_running_session_is_one_press_away_on_every_page(
    client: FlaskClient, people: People, settings: Settings
) -> None:
    creator, fan = people.creator(), people.fan()
    stream = people.live(creator)
    people.present(fan)
    now = utc_now()
    request = people.database.run(
        lambda tx: private_streams.request(
            tx,
            fan=fan.person,
            creator_id=creator.user_id,
            stream_id=stream.stream_id,
            minutes=5,
            now=now,
            settings=settings,
            cause_id="test",
        )
    )
    people.database.run(
        lambda tx: private_streams.accept(tx, request.request_id, creator_id=creator.user_id, now=now)
    )
    with people.database.reading() as tx:
        session_id = sessions.current_session_of(tx, fan.user_id)
    signed_in(client, fan)
    assert f'href="/call/{session_id}"' in client.get("/models").get_data(as_text=True)
    assert "The call is still running" in words(client, f"/history/{session_id}")
