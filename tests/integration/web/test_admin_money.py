"""What an admin decides about money, over REST: a complaint once, a refund once for each key, both recorded."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import select
from stage import Call, Stage
from web_people import People, Someone

from models.operations import AdminActRow
from models.services import complaints

WHY = "The picture was black"


def post(client: FlaskClient, someone: Someone, path: str, body: Any, key: str = "") -> Any:
    more = {"idempotency_key": key} if key else {}
    return client.post(path, json=body, headers=someone.headers(**more))


def acts(people: People) -> list[tuple[str, str, str]]:
    with people.database.reading() as tx:
        return [(act.act, act.subject, act.reason) for act in tx.scalars(select(AdminActRow))]


def test_a_complaint_is_decided_once(
    client: FlaskClient, people: People, admin: Someone, stage: Stage, ended: Call
) -> None:
    # given a complaint of the fan
    made = stage.run(
        lambda tx: complaints.complain(
            tx, ended.session_id, by_id=ended.fan.user_id, reason="It was black all along", now=stage.now
        )
    )
    path = f"/api/admin/complaints/{made.complaint_id}/decide"
    body = {"refundTokens": 400, "reason": WHY}
    # when it is decided, with and without a key, and again
    assert post(client, admin, path, body).status_code == 428
    first = post(client, admin, path, body, "decide-1234567890")
    again = post(client, admin, path, body, "decide-1234567890")
    other = post(client, admin, path, body | {"refundTokens": 0}, "decide-another-one")
    # then the fan has it back once, and the record says who decided and why
    assert (first.status_code, first.json["status"]) == (200, "refunded")
    assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")
    assert (other.status_code, other.json["code"]) == (409, "COMPLAINT_DECIDED")
    assert stage.balances(ended.fan)["wallet"] == 400
    assert acts(people) == [("complaint_refunded", made.complaint_id, WHY)]
    stage.audit()


def test_a_refund_moves_once_for_each_key(
    client: FlaskClient, people: People, admin: Someone, stage: Stage, ended: Call
) -> None:
    path, body = f"/api/admin/sessions/{ended.session_id}/refund", {"tokens": 100, "reason": WHY}
    assert post(client, admin, path, body).status_code == 428
    for _ in range(2):
        assert post(client, admin, path, body, "refund-1234567890").json["tokens"] == 100
    assert stage.balances(ended.fan)["wallet"] == 100
    # and all that is left, but never more
    rest = post(client, admin, path, {"reason": WHY}, "refund-the-rest-1")
    assert rest.json["tokens"] == 900
    refused = post(client, admin, path, body, "refund-too-much-1")
    assert (refused.status_code, refused.json["code"]) == (409, "NOT_REVERSIBLE")
    assert [act for act, _, _ in acts(people)] == ["session_refunded"] * 2
    stage.audit()


def test_black_and_silence_are_shown_beside_the_complaint_and_as_flags(
    client: FlaskClient, people: People, admin: Someone, stage: Stage
) -> None:
    # given a session whose picture was black for a while and whose sound was silent, and a complaint
    call = stage.running()
    stage.call_ended(call.session_id, "time_expired", 600_000, black_ms=312_000, silent_ms=595_000)
    stage.run(
        lambda tx: complaints.complain(
            tx, call.session_id, by_id=call.fan.user_id, reason="Nothing to be seen", now=stage.now
        )
    )
    # when an admin looks
    page = client.get("/admin/complaints", headers=admin.headers()).get_data(as_text=True)
    # then both say so, in figures
    figures = "By packet sizes: picture black for 5:12, sound silent for 9:55 of 10:00"
    assert page.count(figures) == 3
    assert "picture was black" in page
    assert "sound was silent" in page
