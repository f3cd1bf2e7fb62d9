"""What no call may get past: credentials, CSRF, origins, sizes, types; and what each answer carries."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from web_people import PASSWORD, People, code_of

from models.config import Settings, load_settings
from web import create_app

CREATOR_CALLS = [
    ("GET", "/api/streaming/private-requests"),
    ("PUT", "/api/streaming/private-settings"),
    ("POST", "/api/streaming/private-accept"),
    ("POST", "/api/streaming/private-decline"),
    ("POST", "/api/streaming/streams"),
    ("GET", "/api/streaming/blocks"),
]


def sign_in(client: FlaskClient, people: People, csrf: Any, role: str = "fan") -> dict[str, str]:
    """A browser that is signed in; returns the headers of its scripts."""
    someone = people.make(role)
    answer = client.post(
        "/api/auth/sign-in", json={"email": someone.email, "password": PASSWORD}, headers=csrf(client)
    )
    assert answer.status_code == 200, answer.json
    headers: dict[str, str] = csrf(client)
    return headers


# --- addresses and methods --------------------------------------------------------------------------


def test_an_unknown_address_is_a_problem(client: FlaskClient) -> None:
    assert code_of(client.get("/api/nothing")) == (404, "NOT_FOUND")
    assert code_of(client.post("/api/streaming/private-request/x")) == (404, "NOT_FOUND")


def test_another_method_is_refused_with_the_allowed_ones(client: FlaskClient) -> None:
    refused = client.put("/api/streaming/private-request")

    assert code_of(refused) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in refused.headers["Allow"]


def test_a_socket_address_without_a_handshake_is_a_problem(client: FlaskClient) -> None:
    assert code_of(client.get("/api/rtc/signaling")) == (400, "BAD_REQUEST")
    assert code_of(client.get("/api/events")) == (400, "BAD_REQUEST")


# --- bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"\xff", b"", b'{"a":' + b"[" * 100_000])
def test_malformed_json_is_400(client: FlaskClient, people: People, body: bytes) -> None:
    headers = people.fan().headers(content_type="application/json", idempotency_key="k")

    assert code_of(client.post("/api/streaming/private-request", data=body, headers=headers)) == (400, "BAD_JSON")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_another_content_type_is_415(client: FlaskClient, people: People, content_type: str) -> None:
    headers = people.fan().headers(idempotency_key="k")

    refused = client.post(
        "/api/streaming/private-request", data=b"{}", headers=headers, content_type=content_type
    )
    assert code_of(refused) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_ten_megabytes_are_413_on_every_call(client: FlaskClient, people: People) -> None:
    huge = b'{"a":"' + b"x" * 10_000_000 + b'"}'
    headers = people.fan().headers(content_type="application/json", idempotency_key="k")

    for address in ("/api/streaming/private-request", "/api/auth/sign-out", "/api/nothing"):
        assert code_of(client.post(address, data=huge, headers=headers)) == (413, "BODY_TOO_LARGE")


def test_one_byte_over_the_limit_is_413_and_the_limit_is_not(client: FlaskClient, people: People) -> None:
    headers = people.fan().headers(content_type="application/json", idempotency_key="k")
    exactly = b" " * (256 * 1024 - 2) + b"{}"

    assert code_of(client.post("/api/streaming/private-request", data=exactly, headers=headers))[0] == 422
    refused = client.post("/api/streaming/private-request", data=exactly + b" ", headers=headers)
    assert code_of(refused) == (413, "BODY_TOO_LARGE")


def test_wrong_types_name_their_field(client: FlaskClient, people: People) -> None:
    headers = people.fan().headers(idempotency_key="k")
    body = {"creatorId": ["usr"], "streamId": "s", "minutes": 5}

    refused = client.post("/api/streaming/private-request", json=body, headers=headers)
    assert code_of(refused) == (422, "INVALID")
    assert refused.json["field"] == "creatorId"


# --- who asks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "address"), CREATOR_CALLS)
def test_creators_calls_are_for_creators(client: FlaskClient, people: People, method: str, address: str) -> None:
    nobody = client.open(address, method=method, json={})
    assert code_of(nobody) == (401, "UNAUTHENTICATED")
    assert nobody.headers["WWW-Authenticate"] == "Bearer"
    fan = client.open(address, method=method, json={}, headers=people.fan().headers())
    assert code_of(fan) == (403, "FORBIDDEN")
    program = client.open(address, method=method, json={}, headers=people.integrator("rtc:terminate"))
    assert code_of(program) == (403, "FORBIDDEN")


@pytest.mark.parametrize("value", ["Bearer nonsense", "Bearer ", "Bearer " + "x" * 10_000, "bearer a b c"])
def test_an_invalid_bearer_is_refused_even_beside_a_good_cookie(
    client: FlaskClient, people: People, csrf: Any, value: str
) -> None:
    sign_in(client, people, csrf)

    assert client.get("/api/auth/me").status_code == 200
    assert code_of(client.get("/api/auth/me", headers={"Authorization": value})) == (401, "UNAUTHENTICATED")


def test_a_token_is_given_for_the_right_password_alone(client: FlaskClient, people: People) -> None:
    someone = people.fan()
    right = {"email": someone.email.upper(), "password": PASSWORD}

    given = client.post("/api/auth/token", json=right)
    assert given.status_code == 200
    assert given.json["userId"] == someone.user_id
    assert "Set-Cookie" not in given.headers
    me = client.get("/api/auth/me", headers={"Authorization": f"Bearer {given.json['token']}"}).json
    assert (me["userId"], me["roles"]) == (someone.user_id, ["fan"])
    wrong = client.post("/api/auth/token", json=right | {"password": "wrong"})
    unknown = client.post("/api/auth/token", json=right | {"email": "nobody@people.test"})
    assert code_of(wrong) == code_of(unknown) == (401, "UNAUTHENTICATED")
    assert wrong.json["detail"] == unknown.json["detail"]


@pytest.mark.usefixtures("still_window")
def test_guessing_is_limited_for_each_account(app: Flask, people: People) -> None:
    client, someone = app.test_client(), people.fan()
    guess = {"email": someone.email, "password": "wrong"}
    answers = [client.post("/api/auth/token", json=guess).status_code for _ in range(21)]

    assert answers == [401] * 20 + [429]
    # The right password does not open a door that is being hammered at; another account's still opens.
    assert client.post("/api/auth/token", json=guess | {"password": PASSWORD}).status_code == 429
    other = {"email": people.fan().email, "password": PASSWORD}
    assert client.post("/api/auth/token", json=other).status_code == 200


# --- browsers ---------------------------------------------------------------------------------------


def test_a_browser_signs_in_with_a_cookie_that_scripts_cannot_read(
    client: FlaskClient, people: People, csrf: Any
) -> None:
    someone = people.fan()
    answer = client.post(
        "/api/auth/sign-in", json={"email": someone.email, "password": PASSWORD}, headers=csrf(client)
    )

    cookies = [cookie for cookie in answer.headers.getlist("Set-Cookie") if cookie.startswith("greenroom=")]
    assert len(cookies) == 1
    assert "HttpOnly" in cookies[0]
    assert "SameSite=Lax" in cookies[0]
    assert "Secure" not in cookies[0]
    assert client.get("/api/auth/me").json["userId"] == someone.user_id


def test_over_https_cookies_are_secure_and_transport_is_strict(environment: dict[str, str]) -> None:
    made = create_app(load_settings(environment | {"PUBLIC_URL": "https://stream.example"}))
    try:
        page = made.test_client().get("/login", base_url="https://stream.example")
        assert "max-age" in page.headers["Strict-Transport-Security"]
        assert all("Secure" in cookie for cookie in page.headers.getlist("Set-Cookie"))
        assert page.headers.getlist("Set-Cookie")
    finally:
        made.extensions["database"].close()


def test_signing_in_begins_a_new_session(client: FlaskClient, people: People, csrf: Any) -> None:
    before = csrf(client)
    after = sign_in(client, people, csrf)

    assert before != after
    # The token from before the sign-in is worth nothing now.
    assert code_of(client.post("/api/auth/sign-out", headers=before)) == (403, "CSRF_FAILED")


def test_a_second_sign_in_ends_the_first(client: FlaskClient, people: People, csrf: Any) -> None:
    sign_in(client, people, csrf)
    first = client.get_cookie("greenroom")
    assert first is not None
    sign_in(client, people, csrf)

    assert client.get("/api/auth/me", headers={"Authorization": f"Bearer {first.value}"}).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"X-CSRFToken": "forged"}])
def test_a_browser_must_send_its_csrf_token(
    client: FlaskClient, people: People, csrf: Any, headers: dict[str, str]
) -> None:
    sign_in(client, people, csrf, "creator")

    assert code_of(client.post("/api/streaming/streams", json={}, headers=headers)) == (403, "CSRF_FAILED")
    assert code_of(client.post("/api/auth/sign-in", json={}, headers=headers)) == (403, "CSRF_FAILED")


def test_with_its_token_a_browser_may_act(client: FlaskClient, people: People, csrf: Any) -> None:
    headers = sign_in(client, people, csrf, "creator")
    people.node()

    assert client.post("/api/streaming/streams", json={}, headers=headers).status_code == 201


def test_forms_of_pages_need_the_token_too(client: FlaskClient, people: People) -> None:
    someone = people.fan()
    refused = client.post("/login", data={"email": someone.email, "password": PASSWORD})

    assert refused.status_code == 400
    assert client.get_cookie("greenroom") is None


def test_signing_out_ends_it_here_and_everywhere(
    app: Flask, client: FlaskClient, people: People, csrf: Any
) -> None:
    someone = people.fan()
    program = someone.headers()
    credentials = {"email": someone.email, "password": PASSWORD}
    browsers = [app.test_client(), app.test_client()]
    for browser in browsers:
        assert browser.post("/api/auth/sign-in", json=credentials, headers=csrf(browser)).status_code == 200

    assert browsers[0].post("/api/auth/sign-out", headers=csrf(browsers[0])).status_code == 200
    assert browsers[0].get("/api/auth/me").status_code == 401
    assert browsers[1].get("/api/auth/me").status_code == 200
    everywhere = browsers[1].post("/api/auth/sign-out-everywhere", headers=csrf(browsers[1]))
    assert everywhere.status_code == 200
    assert browsers[1].get("/api/auth/me").status_code == 401
    assert client.get("/api/auth/me", headers=program).status_code == 401


def test_a_new_password_ends_every_sign_in(client: FlaskClient, people: People) -> None:
    someone = people.fan()
    change = {"email": someone.email, "currentPassword": "wrong", "newPassword": "a new long password"}
    refused = client.post("/api/auth/password", json=change, headers=someone.headers())
    assert code_of(refused) == (422, "INVALID")
    assert refused.json["field"] == "currentPassword"

    change["currentPassword"] = PASSWORD
    assert client.post("/api/auth/password", json=change, headers=someone.headers()).status_code == 200
    assert client.get("/api/auth/me", headers=someone.headers()).status_code == 401
    old = client.post("/api/auth/token", json={"email": someone.email, "password": PASSWORD})
    new = client.post("/api/auth/token", json={"email": someone.email, "password": "a new long password"})
    assert (old.status_code, new.status_code) == (401, 200)


def test_signing_up_makes_a_person_and_signs_the_browser_in(client: FlaskClient, csrf: Any) -> None:
    wanted = {
        "email": "New@People.test",
        "password": "a long enough password",
        "handle": "newcomer",
        "displayName": "New Comer",
        "role": "creator",
    }
    made = client.post("/api/auth/signup", json=wanted, headers=csrf(client))
    assert (made.status_code, made.json["roles"]) == (201, ["creator"])
    assert client.get("/api/auth/me").json["handle"] == "newcomer"
    again = client.post("/api/auth/signup", json=wanted, headers=csrf(client))
    assert code_of(again) == (409, "EMAIL_TAKEN")
    admin = client.post("/api/auth/signup", json=wanted | {"role": "admin"}, headers=csrf(client))
    assert (code_of(admin), admin.json["field"]) == ((422, "INVALID"), "role")
    short = client.post("/api/auth/signup", json=wanted | {"password": "short"}, headers=csrf(client))
    assert (code_of(short), short.json["field"]) == ((422, "INVALID"), "password")


# --- origins ----------------------------------------------------------------------------------------


def test_pages_of_other_origins_are_refused(client: FlaskClient, people: People) -> None:
    for origin in ("https://evil.example", "null"):
        headers = people.fan().headers(origin=origin)
        assert code_of(client.get("/api/wallet", headers=headers)) == (403, "ORIGIN_REFUSED")
        assert client.post("/login", data={}, headers={"Origin": origin}).status_code == 403


def test_listed_origins_may_call_with_cors(client: FlaskClient, people: People) -> None:
    origin = "https://partner.example"
    asked = client.options(
        "/api/streaming/private-request",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, idempotency-key",
        },
    )
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in asked.headers
    answer = client.get("/api/wallet", headers=people.fan().headers(origin=origin))
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)
    stranger = client.options(
        "/api/wallet", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    )
    assert "Access-Control-Allow-Origin" not in stranger.headers
    assert "Access-Control-Allow-Origin" not in client.get("/login", headers={"Origin": origin}).headers


def test_our_own_origin_may_call(client: FlaskClient, people: People) -> None:
    answer = client.get("/api/wallet", headers=people.fan().headers(origin="http://localhost:8080"))

    assert answer.status_code == 200


# --- behind proxies ---------------------------------------------------------------------------------


def addresses_seen(settings: Settings, forwarded: str | None) -> str:
    made = create_app(settings)
    made.add_url_rule("/seen", "seen", lambda: request.remote_addr or "")
    try:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return made.test_client().get("/seen", headers=headers).get_data(as_text=True)
    finally:
        made.extensions["database"].close()


@pytest.mark.parametrize(
    ("hops", "forwarded", "seen"),
    [
        ("0", "203.0.113.9", "127.0.0.1"),
        ("1", None, "127.0.0.1"),
        ("1", "203.0.113.9", "203.0.113.9"),
        ("1", "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("2", "203.0.113.9, 198.51.100.2", "203.0.113.9"),
    ],
)
def test_only_trusted_proxies_say_where_a_client_is(
    environment: dict[str, str], hops: str, forwarded: str | None, seen: str
) -> None:
    assert addresses_seen(load_settings(environment | {"TRUSTED_PROXIES": hops}), forwarded) == seen


# --- what every answer carries ----------------------------------------------------------------------


@pytest.mark.parametrize("address", ["/", "/login", "/api/streaming/streams", "/api/nothing", "/nothing"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, address: str) -> None:
    headers = client.get(address).headers

    assert headers["Content-Security-Policy"].startswith("default-src 'self'; connect-src 'self' ws://localhost:8080;")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "camera=(self), microphone=(self)" in headers["Permissions-Policy"]
    assert "Strict-Transport-Security" not in headers


def test_answers_of_the_api_are_not_stored(client: FlaskClient, people: People) -> None:
    assert client.get("/api/wallet", headers=people.fan().headers()).headers["Cache-Control"] == "no-store"


def test_one_id_follows_a_request(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer = client.get("/api/streaming/streams", headers={"X-Request-Id": "mine-1234"})

    assert answer.headers["X-Request-Id"] == "mine-1234"
    assert "cause_id=mine-1234" in caplog.text


@pytest.mark.parametrize("offered", ["short", "x" * 65, "a b c d e f g h", "<script>alert</script>"])
def test_an_id_that_is_none_is_replaced(client: FlaskClient, offered: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-Id": offered})

    assert answer.headers["X-Request-Id"].startswith("cau_")


def test_logs_hold_no_secret(client: FlaskClient, people: People, caplog: pytest.LogCaptureFixture) -> None:
    someone = people.fan()
    with caplog.at_level(logging.DEBUG):
        given = client.post("/api/auth/token", json={"email": someone.email, "password": PASSWORD}).json
        client.post("/api/auth/token", json={"email": someone.email, "password": "not it"})
        client.get("/api/wallet", headers=someone.headers())

    for secret in (given["token"], someone.token, PASSWORD, "not it", someone.email, "127.0.0.1"):
        assert secret not in caplog.text


def test_our_mistakes_say_nothing_about_themselves(app: Flask, client: FlaskClient) -> None:
    def broken() -> str:
        raise RuntimeError("a secret detail")

    app.add_url_rule("/api/broken", "broken", broken)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = client.get("/api/broken")

    assert code_of(answer) == (500, "INTERNAL")
    assert "secret" not in answer.get_data(as_text=True)


# --- operators --------------------------------------------------------------------------------------


def test_health_and_readiness(client: FlaskClient) -> None:
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json == {"status": "unavailable", "database": "ok", "broker": "down", "media": "down"}


def test_metrics_are_for_this_machine_and_for_admins(client: FlaskClient, people: People) -> None:
    local = client.get("/metrics")
    assert local.status_code == 200
    assert b"greenroom_http_requests_total" in local.data
    for forwarded in ({"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        assert code_of(client.get("/metrics", headers=forwarded)) == (403, "FORBIDDEN")
    outside = {"REMOTE_ADDR": "203.0.113.9"}
    assert client.get("/metrics", environ_base=outside).status_code == 403
    fan, admin = people.fan(), people.make("admin")
    assert client.get("/metrics", environ_base=outside, headers=fan.headers()).status_code == 403
    assert client.get("/metrics", environ_base=outside, headers=admin.headers()).status_code == 200


def test_the_description_and_its_page_are_served(client: FlaskClient) -> None:
    assert client.get("/api/openapi.json").json["openapi"] == "3.1.0"
    page = client.get("/developers")
    assert page.status_code == 200
    assert "/api/rtc/terminate-stream" in page.get_data(as_text=True)
