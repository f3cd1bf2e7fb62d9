"""/api/admin and /admin: nobody but admins, every act recorded, nothing done twice, no admin locked out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError
from web_people import PASSWORD, People, Someone

from models.clock import utc_now
from models.operations import AdminActRow
from models.plumbing import OutboxRow
from models.services import accounts, audits, dead_letters, queues
from models.services.dead_letters import Corpse
from models.services.queues import Sample
from web.api import admin as admin_api
from web.api.schema import openapi_path
from web.metrics import HouseFigures
from workers.auditor import Auditor

Page = Callable[[FlaskClient], dict[str, str]]
WHY = "Somebody asked for it"
PAGES = (
    "/admin", "/admin/queues", "/admin/dead-letters", "/admin/dead-letters/msg_1", "/admin/rooms",
    "/admin/rooms/room_1", "/admin/sessions", "/admin/ledger", "/admin/trace", "/admin/payments",
    "/admin/payments/pur_1", "/admin/complaints", "/admin/people", "/admin/people/usr_1",
    "/admin/integrators", "/admin/acts",
)  # fmt: skip
ENDPOINTS = [
    (endpoint.method, re.sub(r"<[a-z_]+>", "some_id", endpoint.path)) for endpoint, _ in admin_api.api.endpoints
]


def send(client: FlaskClient, someone: Someone, method: str, path: str, body: Any = None, **more: str) -> Any:
    return client.open(path, method=method, headers=someone.headers(**more), json=body)


def acts(people: People) -> list[AdminActRow]:
    with people.database.reading() as tx:
        return list(tx.scalars(select(AdminActRow).order_by(AdminActRow.at, AdminActRow.id)))


def dead_letter(people: People, message_id: str = "msg_1") -> str:
    body = {
        "queue_name": "rules", "actor_name": "apply_auto_accept", "args": ["req_1"], "kwargs": {},
        "options": {}, "message_id": message_id, "message_timestamp": 1,
    }  # fmt: skip
    corpse = Corpse(
        queue="rules", message_id=message_id, body=msgspec.json.encode(body), why="rejected", died_at=utc_now()
    )
    people.database.run(lambda tx: dead_letters.take_in(tx, corpse, utc_now()))
    return message_id


@pytest.mark.parametrize(("method", "path"), ENDPOINTS, ids=lambda value: str(value).rsplit("/", 1)[-1])
def test_every_call_is_for_admins_alone(client: FlaskClient, people: People, method: str, path: str) -> None:
    body = {} if method != "GET" else None
    for somebody in (people.fan(), people.creator(), people.make("fan", "creator")):
        refused = send(client, somebody, method, path, body, idempotency_key="k" * 16)
        assert (refused.status_code, refused.json["code"]) == (403, "FORBIDDEN")
    integrator = client.open(path, method=method, headers=people.integrator(*accounts.SCOPES), json=body)
    assert integrator.status_code == 403
    assert client.open(path, method=method, json=body).status_code == 401
    assert acts(people) == []


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_for_admins_alone(client: FlaskClient, people: People, path: str) -> None:
    for somebody in (people.fan(), people.creator()):
        assert client.get(path, headers=somebody.headers()).status_code == 403
        assert client.get(f"{path}?part=1", headers=somebody.headers()).status_code == 403
    assert client.get(path).status_code == 302


@pytest.mark.parametrize("path", PAGES)
def test_every_page_speaks_html_for_an_admin(
    client: FlaskClient, people: People, admin: Someone, path: str
) -> None:
    dead_letter(people)
    answer = client.get(path, headers=admin.headers())
    assert answer.status_code == (404 if path.endswith(("pur_1", "usr_1", "room_1")) else 200)
    assert "style=" not in answer.get_data(as_text=True)


def test_a_browser_needs_the_csrf_token(client: FlaskClient, people: People, admin: Someone, csrf: Page) -> None:
    form = {"email": admin.email, "password": PASSWORD, **_token(client, csrf)}
    assert client.post("/login", data=form).status_code == 303
    fan = people.fan()
    path, body = f"/api/admin/people/{fan.user_id}/freeze", {"reason": WHY}
    assert client.post(path, json=body).json["code"] == "CSRF_FAILED"
    assert client.post(path, json=body, headers=csrf_of(client)).status_code == 200


def _token(client: FlaskClient, csrf: Page) -> dict[str, str]:
    return {"csrf_token": csrf(client)["X-CSRFToken"]}


def csrf_of(client: FlaskClient) -> dict[str, str]:
    page = client.get("/admin").get_data(as_text=True)
    return {"X-CSRFToken": page.split('name="csrf-token" content="', 1)[1].split('"', 1)[0]}


def test_a_letter_runs_again_and_the_record_says_who_wanted_that(
    client: FlaskClient, people: People, admin: Someone
) -> None:
    message_id = dead_letter(people)
    body = {"messageIds": [message_id], "reason": WHY}
    # when it is sent again twice
    first = send(client, admin, "POST", "/api/admin/dead-letters/requeue", body)
    again = send(client, admin, "POST", "/api/admin/dead-letters/requeue", body)
    # then it is in the outbox once, under its own id
    assert (first.json, again.json) == ({"messageIds": [message_id]}, {"messageIds": []})
    with people.database.reading() as tx:
        [row] = tx.scalars(select(OutboxRow).where(OutboxRow.kind == "actor"))
        assert (row.message_id, row.destination, row.actor, row.body) == (
            message_id, "rules", "apply_auto_accept", '["req_1"]',
        )  # fmt: skip
    [act] = acts(people)
    assert (act.admin_id, act.act, act.subject, act.reason) == (admin.user_id, "letter_requeued", message_id, WHY)
    # and what is on its way is not thrown away
    refused = send(client, admin, "POST", "/api/admin/dead-letters/discard", body)
    assert (refused.status_code, refused.json["code"]) == (409, "LETTER_REQUEUED")


@pytest.mark.parametrize("reason", ["", "  ", "no", "x" * 501])
def test_no_act_without_a_reason(client: FlaskClient, people: People, admin: Someone, reason: str) -> None:
    fan, message_id = people.fan(), dead_letter(people)
    for path, body in (
        (f"/api/admin/people/{fan.user_id}/freeze", {}),
        (f"/api/admin/people/{fan.user_id}/lock", {}),
        ("/api/admin/dead-letters/discard", {"messageIds": [message_id]}),
        ("/api/admin/integrators", {"name": "Partner", "scopes": ["rooms:write"]}),
    ):
        refused = send(client, admin, "POST", path, body | {"reason": reason})
        assert refused.status_code == 422
        assert refused.json["field"] == "reason"
    # then nothing has happened
    assert send(client, admin, "GET", f"/api/admin/people/{fan.user_id}").json["spendingFrozenAt"] is None
    assert acts(people) == []
    with people.database.reading() as tx:
        assert tx.execute(text("SELECT COUNT(*) FROM api_tokens")).scalar() == 0


def test_a_person_is_locked_out_everywhere_and_let_in_again(
    client: FlaskClient, people: People, admin: Someone
) -> None:
    fan = people.fan()
    sign_in = {"email": fan.email, "password": PASSWORD}
    path = f"/api/admin/people/{fan.user_id}"
    assert send(client, admin, "POST", f"{path}/lock", {"reason": WHY}).json["lockedAt"] is not None
    # then no token of theirs works, and no password
    assert client.get("/api/auth/me", headers=fan.headers()).status_code == 401
    assert client.post("/api/auth/token", json=sign_in).json["code"] == "ACCOUNT_LOCKED"
    wrong = client.post("/api/auth/token", json=sign_in | {"password": "not this one"})
    assert wrong.json["code"] == "UNAUTHENTICATED"
    # and unlocked they sign in, while the old token stays dead
    assert send(client, admin, "POST", f"{path}/unlock", {"reason": WHY}).json["lockedAt"] is None
    assert client.post("/api/auth/token", json=sign_in).status_code == 200
    assert client.get("/api/auth/me", headers=fan.headers()).status_code == 401
    assert [act.act for act in acts(people)] == ["sign_in_locked", "sign_in_unlocked"]


def test_frozen_nothing_is_spent(client: FlaskClient, people: People, admin: Someone) -> None:
    fan, creator = people.fan(), people.creator()
    stream = people.live(creator)
    people.present(fan)
    ask = {"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 5}
    asked = send(client, fan, "POST", "/api/streaming/private-request", ask, idempotency_key="first-request-1")
    assert asked.status_code == 201
    path = f"/api/admin/people/{fan.user_id}"
    # when
    send(client, admin, "POST", f"{path}/freeze", {"reason": WHY})
    # then the open request is closed, its tokens are back, and no other begins
    wallet = send(client, fan, "GET", "/api/wallet").json
    assert (wallet["available"], wallet["held"]) == (5_000, 0)
    refused = send(client, fan, "POST", "/api/streaming/private-request", ask, idempotency_key="another-one-22")
    assert refused.json["code"] == "SPENDING_FROZEN"
    # and thawed it goes on
    send(client, admin, "POST", f"{path}/unfreeze", {"reason": WHY})
    assert send(client, admin, "GET", path).json["spendingFrozenAt"] is None


def test_no_admin_removes_themselves_and_the_last_one_stays(
    client: FlaskClient, people: People, admin: Someone
) -> None:
    own, other = f"/api/admin/people/{admin.user_id}", people.make("admin")
    for method, path, body in (
        ("POST", f"{own}/lock", {"reason": WHY}),
        ("PUT", f"{own}/roles", {"roles": ["fan"], "reason": WHY}),
    ):
        refused = send(client, admin, method, path, body)
        assert (refused.status_code, refused.json["code"]) == (403, "OWN_ACCOUNT")
    # an admin may give the other's role away, and that one is an admin no more, at once
    given = send(
        client, admin, "PUT", f"/api/admin/people/{other.user_id}/roles", {"roles": ["fan"], "reason": WHY}
    )
    assert given.json["roles"] == ["fan"]
    assert send(client, other, "GET", "/api/admin/queues").status_code == 403
    # other roles one may give oneself
    more = send(client, admin, "PUT", f"{own}/roles", {"roles": ["admin", "fan"], "reason": WHY})
    assert more.json["roles"] == ["fan", "admin"]
    for roles in ([], ["owner"]):
        refused = send(client, admin, "PUT", f"{own}/roles", {"roles": roles, "reason": WHY})
        assert refused.status_code == 422


def test_a_role_in_use_stays(client: FlaskClient, people: People, admin: Someone) -> None:
    creator = people.creator()
    people.live(creator)
    path = f"/api/admin/people/{creator.user_id}/roles"
    refused = send(client, admin, "PUT", path, {"roles": ["fan"], "reason": WHY})
    assert (refused.status_code, refused.json["code"]) == (409, "PERSON_BUSY")
    assert acts(people) == []


def test_a_token_is_shown_once_and_kept_nowhere(client: FlaskClient, people: People, admin: Someone) -> None:
    body = {"name": "Partner", "scopes": ["rtc:terminate"], "reason": WHY}
    made = send(client, admin, "POST", "/api/admin/integrators", body, idempotency_key="made-once-12345")
    assert made.status_code == 201
    token = made.json["token"]
    # then no table has it, the answers that are kept for repeats neither
    with people.database.reading() as tx:
        names = tx.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        for name in names:
            for row in tx.execute(text(f"SELECT * FROM {name}")):
                assert token not in str(row)
    refused = client.post("/api/rtc/terminate-stream", json={}, headers={"Authorization": f"Bearer {token}"})
    assert refused.status_code == 422
    path = f"/api/admin/integrators/{made.json['tokenId']}/revoke"
    assert send(client, admin, "POST", path, {"reason": WHY}).status_code == 200
    refused = client.post("/api/rtc/terminate-stream", json={}, headers={"Authorization": f"Bearer {token}"})
    assert refused.status_code == 401
    assert [act.act for act in acts(people)] == ["integrator_created", "integrator_revoked"]


def test_a_cut_by_an_admin_is_recorded(client: FlaskClient, people: People, admin: Someone) -> None:
    stream, viewer = people.live(people.creator()), people.fan()
    body = {
        "roomId": stream.room_id, "userId": viewer.user_id, "reason": "MODERATION", "note": "Shouted at everybody",
    }  # fmt: skip
    # No broker: it is recorded, and will be carried out.
    answer = send(client, admin, "POST", "/api/rtc/terminate-stream", body)
    assert (answer.status_code, answer.json["code"]) == (504, "UNCONFIRMED")
    [act] = acts(people)
    assert (act.act, act.subject, act.reason) == ("participant_cut", stream.room_id, "Shouted at everybody")
    assert viewer.user_id in (act.after or "")


def test_the_record_of_acts_cannot_be_changed(client: FlaskClient, people: People, admin: Someone) -> None:
    send(client, admin, "POST", f"/api/admin/people/{people.fan().user_id}/freeze", {"reason": WHY})
    for statement in ("UPDATE admin_acts SET reason = 'none'", "DELETE FROM admin_acts"):
        with pytest.raises(DatabaseError, match="append-only"):
            people.database.run(lambda tx, each=statement: tx.execute(text(each)))  # type: ignore[misc]
    [shown] = send(client, admin, "GET", "/api/admin/acts").json["acts"]
    assert (shown["handle"], shown["act"], shown["reason"]) == (admin.person.handle, "spending_frozen", WHY)


def test_an_audit_is_asked_for_once_and_its_result_is_there(
    client: FlaskClient, people: People, admin: Someone
) -> None:
    first = send(client, admin, "POST", "/api/admin/audits")
    again = send(client, admin, "POST", "/api/admin/audits")
    assert (first.status_code, first.json["status"]) == (202, "asked")
    assert again.json["auditId"] == first.json["auditId"]
    # when the clock has run it
    assert Auditor(people.database).step() == 0.0
    found = send(client, admin, "GET", f"/api/admin/audits/{first.json['auditId']}").json
    assert (found["status"], found["ok"], found["problems"]) == ("done", True, [])
    with people.database.reading() as tx:
        assert audits.due(tx, utc_now()) is None


def test_one_wish_is_followed_by_any_of_its_ids(client: FlaskClient, people: People, admin: Someone) -> None:
    fan, creator = people.fan(), people.creator()
    stream = people.live(creator)
    people.present(fan)
    ask = {"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 5}
    asked = send(
        client, fan, "POST", "/api/streaming/private-request", ask, idempotency_key="trace-me-12345",
        x_request_id="cau_trace_me_1234",
    )  # fmt: skip
    request_id = asked.json["requestId"]
    accepted = send(client, creator, "POST", "/api/streaming/private-accept", {"requestId": request_id})
    session_id = accepted.json["sessionId"]
    for reference in (request_id, session_id, f"private-{session_id}", "cau_trace_me_1234"):
        found = send(client, admin, "GET", f"/api/admin/trace/{reference}").json
        assert (found["requestId"], found["sessionId"]) == (request_id, session_id)
        assert found["causeIds"] == ["cau_trace_me_1234"]
        stages = {moment["stage"] for moment in found["moments"]}
        assert {"request", "message", "session", "ledger"} <= stages
        assert [moment["at"] for moment in found["moments"]] == sorted(moment["at"] for moment in found["moments"])
    assert send(client, admin, "GET", "/api/admin/trace/nothing-of-ours").json["moments"] == []


def test_the_queues_are_told_with_what_nobody_knows_as_null(
    client: FlaskClient, people: People, admin: Someone
) -> None:
    sample = Sample(
        queue="rules", declared=True, managed=False, ready=3, unacked=None, delayed=None, consumers=1,
        in_rate=None, out_rate=None, oldest_ms=1500, dead=0,
    )  # fmt: skip
    people.database.run(lambda tx: queues.keep(tx, [sample], utc_now()))
    dead_letter(people)
    found = send(client, admin, "GET", "/api/admin/queues").json
    [rules] = found["queues"]
    assert (rules["ready"], rules["unacked"], rules["state"]) == (3, None, "keeping_up")
    assert (len(rules["points"]), rules["points"][-1]) == (60, 3)
    assert found["deadLetters"] == {"waiting": 1, "requeued": 0, "discarded": 0}


def test_metrics_have_the_whole_house(client: FlaskClient, people: People, admin: Someone) -> None:
    # given a house with something of everything
    fan, creator = people.fan(), people.creator()
    stream = people.live(creator)
    people.present(fan)
    ask = {"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 5}
    send(client, fan, "POST", "/api/streaming/private-request", ask, idempotency_key="metrics-12345678")
    dead_letter(people)
    # when
    told = client.get("/metrics", headers=admin.headers()).get_data(as_text=True)
    # then
    for line in (
        'greenroom_requests{status="pending"} 1.0',
        'greenroom_held_tokens{for="requests"} 500.0',
        'greenroom_ledger_tokens{kind="held"} 500.0',
        'greenroom_ledger_tokens{kind="wallet"} 4500.0',
        'greenroom_dead_letters{status="waiting"} 1.0',
        'greenroom_rooms{kind="live",status="opening"} 1.0',
        'greenroom_media_node_up{node="media-1"} 1.0',
        'greenroom_purchases{status="succeeded"} 0.0',
        "greenroom_database_up 1.0",
    ):
        assert line in told
    for name in ("outbox_unpublished", "payouts", "disputes", "purchase_refunds", "receipts_waiting", "processes"):
        assert f"greenroom_{name}" in told
    # and who comes from elsewhere and is no operator is told nothing
    proxied = fan.headers() | {"X-Forwarded-For": "203.0.113.9"}
    assert client.get("/metrics", headers=proxied).status_code == 403


def test_metrics_say_so_when_the_database_is_away() -> None:
    class Away:
        def reading(self) -> Any:
            raise ConnectionError("away")

    [found] = HouseFigures(Away()).collect()  # type: ignore[arg-type]
    assert (found.name, found.samples[0].value) == ("greenroom_database_up", 0)


def test_a_look_right_after_another_costs_nothing(people: People) -> None:
    figures = HouseFigures(people.database)
    assert figures.collect() is figures.collect()


def test_every_path_is_declared_in_openapi(client: FlaskClient) -> None:
    described = client.get("/api/openapi.json").json["paths"]
    for endpoint, _ in admin_api.api.endpoints:
        assert endpoint.method.lower() in described[openapi_path(endpoint.path)]
