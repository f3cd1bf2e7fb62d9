"""Earnings, payouts, receipts, complaints and refunds over REST: whose they are, and what hostile calls get."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from test_page_words import ended_call, signed_in, words
from web_people import People, Someone, code_of

from models.clock import utc_now
from models.config import Settings, load_settings
from models.payments import PurchaseRow
from models.receipt_check import check, read_keys, run
from models.receipt_keys import signing_key
from models.services import earnings, receipt_chain
from web import create_app
from web.api.earnings import csv_line

CREATORS_CALLS = (
    ("GET", "/api/earnings"),
    ("GET", "/api/earnings/statement"),
    ("GET", "/api/receipts/export"),
    ("POST", "/api/earnings/account/check"),
)
KEYS = "/.well-known/greenroom-receipt-keys.json"


class Scene:
    """A creator who was paid 480 of 600 tokens, the fan, and the receipt, signed."""

    def __init__(self, people: People, settings: Settings) -> None:
        self.people, self.settings = people, settings
        self.creator, self.fan = people.creator(), people.fan()
        self.session_id = ended_call(people, settings, self.creator, self.fan)
        self.sign()

    def sign(self) -> None:
        key = signing_key(self.settings)
        self.people.database.run(lambda tx: receipt_chain.issue_due(tx, key, utc_now()))

    def clear(self) -> None:
        later = utc_now() + timedelta(days=30)
        self.people.database.run(lambda tx: earnings.clear_due(tx, later, clearing_days=30))


@pytest.fixture
def scene(people: People, settings: Settings) -> Scene:
    return Scene(people, settings)


def refund(client: FlaskClient, scene: Scene, who: Someone, key: str = "k1", **body: Any) -> Any:
    body = {"reason": "Sorry."} | body
    path = f"/api/receipts/{scene.session_id}/refund"
    return client.post(path, json=body, headers=who.headers(idempotency_key=key))


# --- earnings and payouts -----------------------------------------------------------------------------


def test_earnings_are_told_with_their_arithmetic(client: FlaskClient, scene: Scene) -> None:
    found = client.get("/api/earnings", headers=scene.creator.headers()).json
    assert (found["pending"], found["payable"]["tokens"], found["blocked"]) == (480, 0, "BELOW_MINIMUM")
    assert found["nextClearings"][0]["tokens"] == 480

    scene.clear()
    found = client.get("/api/earnings", headers=scene.creator.headers()).json
    assert found["payable"] == {
        "cleared": 480, "clearedRecently": 480, "reserve": 48, "debt": 0, "tokens": 432, "amountMinor": 2160,
    }  # fmt: skip


def test_a_payout_from_setting_up_to_the_request(environment: dict[str, str], password_hash: str) -> None:
    made = create_app(load_settings(environment | {"PAYOUT_MINIMUM_TOKENS": "100"}))
    client, people = made.test_client(), People(made.extensions["database"], password_hash)
    scene = Scene(people, made.extensions["settings"])
    scene.clear()
    headers = scene.creator.headers(idempotency_key="p1")

    assert code_of(client.post("/api/earnings/payouts", json={"tokens": 432}, headers=headers)) == (
        409, "NO_PAYOUT_ACCOUNT")  # fmt: skip
    begun = client.post("/api/earnings/account", json={"account": "unready"}, headers=scene.creator.headers())
    assert begun.json["url"].endswith("/studio?tab=earnings")
    checked = client.post("/api/earnings/account/check", headers=scene.creator.headers())
    assert checked.json == {"account": "unfinished"}
    client.post("/api/earnings/account", json={"account": "pays"}, headers=scene.creator.headers())

    first = client.post("/api/earnings/payouts", json={"tokens": 432}, headers=headers)
    again = client.post("/api/earnings/payouts", json={"tokens": 432}, headers=headers)
    assert (first.status_code, first.json["amountMinor"]) == (201, 2_160)
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    other = client.post("/api/earnings/payouts", json={"tokens": 100}, headers=headers)
    assert code_of(other) == (422, "IDEMPOTENCY_KEY_REUSED")
    made.extensions["greenroom"].rpc.close()
    made.extensions["database"].close()


def test_only_creators_have_earnings(client: FlaskClient, scene: Scene) -> None:
    for method, path in CREATORS_CALLS:
        assert code_of(client.open(path, method=method)) == (401, "UNAUTHENTICATED")
        assert code_of(client.open(path, method=method, headers=scene.fan.headers())) == (403, "FORBIDDEN")


@pytest.mark.parametrize("tokens", [0, -5, 1.5, "100", True, None, 2**53, [], {}])
def test_a_payout_of_no_amount_of_tokens_is_refused(client: FlaskClient, scene: Scene, tokens: Any) -> None:
    headers = scene.creator.headers(idempotency_key="k")
    answer = client.post("/api/earnings/payouts", json={"tokens": tokens}, headers=headers)
    assert code_of(answer) == (422, "INVALID")


def test_moving_tokens_needs_a_key(client: FlaskClient, scene: Scene) -> None:
    headers = scene.creator.headers()
    paths = ("/api/earnings/payouts", f"/api/receipts/{scene.session_id}/refund")
    for path, body in zip(paths, ({"tokens": 1}, {"reason": "x"}), strict=True):
        assert code_of(client.post(path, json=body, headers=headers)) == (428, "IDEMPOTENCY_KEY_REQUIRED")


def test_the_statement_is_csv_by_rfc_4180(client: FlaskClient, scene: Scene) -> None:
    scene.clear()
    answer = client.get("/api/earnings/statement", headers=scene.creator.headers())
    text = answer.get_data(as_text=True)
    assert answer.content_type.startswith("text/csv")
    assert text.count("\r\n") == text.count("\n") == 2
    (settled,) = csv.DictReader(io.StringIO(text))
    assert (settled["Movement"], settled["Pending"], settled["Cleared"]) == ("Private stream", "480", "0")

    now = utc_now()
    path = f"/api/earnings/statement?year={now.year}&month={now.month}"
    month = client.get(path, headers=scene.creator.headers())
    assert month.get_data(as_text=True) == text
    assert f"{now.year}-{now.month:02d}.csv" in month.headers["Content-Disposition"]


@pytest.mark.parametrize("query", ["year=2026", "month=1", "year=2026&month=13", "year=1&month=1", "year=x"])
def test_a_month_that_is_none_is_refused(client: FlaskClient, scene: Scene, query: str) -> None:
    answer = client.get(f"/api/earnings/statement?{query}", headers=scene.creator.headers())
    assert code_of(answer) == (422, "INVALID")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_of_a_statement_is_a_formula(cell: str) -> None:
    (read,) = csv.reader(io.StringIO(csv_line((cell, -5, "a,b", 'say "x"')), newline=""))
    assert read == [f"'{cell}", "-5", "a,b", 'say "x"']


# --- receipts -----------------------------------------------------------------------------------------


def test_the_receipt_of_the_api_holds_with_the_published_keys(client: FlaskClient, scene: Scene) -> None:
    published = client.get(KEYS)
    assert published.headers["Access-Control-Allow-Origin"] == "*"
    keys = read_keys(published.data)
    for who in (scene.fan, scene.creator):
        path = f"/api/streaming/private-sessions/{scene.session_id}"
        raw = client.get(path, headers=who.headers()).data
        assert check(raw, keys).problems == ()
        assert json.loads(raw)["signature"]["algorithm"] == "EdDSA"


def test_the_download_is_what_was_signed_and_holds(client: FlaskClient, scene: Scene, tmp_path: Path) -> None:
    file, keys = tmp_path / "receipt.json", tmp_path / "greenroom-receipt-keys.json"
    file.write_bytes(signed_in(client, scene.fan).get(f"/history/{scene.session_id}.json").data)
    keys.write_bytes(client.get(KEYS).data)
    code, said = run(file)
    assert (code, said[0]) == (0, f"VALID: receipt 1 of {scene.creator.user_id}")


def test_a_creators_export_proves_the_chain_and_is_nobody_elses(client: FlaskClient, scene: Scene) -> None:
    refund(client, scene, scene.creator, tokens=100)
    scene.sign()
    raw = client.get("/api/receipts/export", headers=scene.creator.headers())
    keys = read_keys(client.get(KEYS).data)
    assert check(raw.data, keys).facts == ("2 documents in one chain, none missing",)
    other = client.get("/api/receipts/export", headers=scene.people.creator().headers()).data
    assert check(other, keys).facts == ("0 documents in one chain, none missing",)
    assert scene.session_id.encode() not in other


# --- refunds and complaints ---------------------------------------------------------------------------


def test_a_refund_is_quoted_given_once_and_seen_by_both(client: FlaskClient, scene: Scene) -> None:
    path = f"/api/receipts/{scene.session_id}/refund"
    quote = client.get(f"{path}?tokens=101", headers=scene.creator.headers()).json
    assert quote == {"tokens": 101, "fromEarnings": 81, "fromCommission": 20, "most": 600}
    first, again = (refund(client, scene, scene.creator, tokens=101) for _ in range(2))
    assert (first.status_code, again.json) == (201, first.json)

    for who in (scene.fan, scene.creator):
        later = client.get(f"/api/receipts/{scene.session_id}/later", headers=who.headers()).json
        assert [line["tokens"] for line in later["refunds"]] == [101]
    assert client.get(path, headers=scene.creator.headers()).json["most"] == 499


def test_nobody_else_gives_or_sees(client: FlaskClient, scene: Scene) -> None:
    stranger, path = scene.people.creator(), f"/api/receipts/{scene.session_id}"
    assert code_of(refund(client, scene, stranger)) == (404, "NOT_FOUND")
    assert code_of(refund(client, scene, scene.fan)) == (403, "FORBIDDEN")
    none = "/api/receipts/ses_none"
    for call in (f"{path}/refund", f"{path}/later", f"{none}/later", f"{none}/refund"):
        assert code_of(client.get(call, headers=stranger.headers())) == (404, "NOT_FOUND")
    answer = client.post(f"{path}/complaint", json={"reason": "x"}, headers=stranger.headers())
    assert code_of(answer) == (404, "NOT_FOUND")


@pytest.mark.parametrize("body", [{"tokens": 601}, {"tokens": 0}, {"tokens": -1}, {"tokens": "1"}, {"reason": " "},
                                  {"reason": ""}, {"reason": "x" * 1001}, {"reason": 5}])  # fmt: skip
def test_a_refund_that_does_not_fit_moves_nothing(client: FlaskClient, scene: Scene, body: dict[str, Any]) -> None:
    assert refund(client, scene, scene.creator, **body).status_code == 422
    wallet = client.get("/api/wallet", headers=scene.fan.headers()).json
    assert wallet["available"] == 4_400


def test_a_complaint_is_made_once(client: FlaskClient, scene: Scene) -> None:
    path, headers = f"/api/receipts/{scene.session_id}/complaint", scene.fan.headers()
    first = client.post(path, json={"reason": "No sound."}, headers=headers)
    assert (first.status_code, first.json["status"], first.json["side"]) == (201, "open", "fan")
    assert code_of(client.post(path, json={"reason": "x"}, headers=headers)) == (409, "COMPLAINT_MADE")
    seen = client.get(f"/api/receipts/{scene.session_id}/later", headers=scene.creator.headers()).json
    assert (seen["complaints"][0]["reason"], seen["complainUntil"] is None) == ("", False)


# --- evidence -----------------------------------------------------------------------------------------


def test_the_evidence_has_stripes_fields_and_is_for_admins(client: FlaskClient, scene: Scene) -> None:
    purchase_id = f"pur_{scene.fan.person.handle}"
    bought = PurchaseRow(
        id=purchase_id,
        user_id=scene.fan.user_id,
        idempotency_key="k",
        package_id="tokens-5000",
        tokens=5_000,
        price_minor=25_000,
        currency="USD",
        gateway="sandbox",
        status="succeeded",
        cause_id="t",
        created_at=utc_now() - timedelta(hours=1),
        succeeded_at=utc_now(),
    )
    scene.people.database.run(lambda tx: tx.add(bought))
    path = f"/api/receipts/evidence/{purchase_id}"
    assert code_of(client.get(path)) == (401, "UNAUTHENTICATED")
    assert code_of(client.get(path, headers=scene.creator.headers())) == (403, "FORBIDDEN")
    admin = scene.people.make("admin").headers()
    assert code_of(client.get("/api/receipts/evidence/pur_none", headers=admin)) == (404, "NOT_FOUND")

    answer = client.get(path, headers=admin)
    packed = zipfile.ZipFile(io.BytesIO(answer.data))
    assert set(packed.namelist()) == {
        "evidence.json", "access_activity_log.txt", "service_date.txt", "service_documentation.txt",
        "service_documentation_receipts.jsonl", "customer_communication.txt",
    }  # fmt: skip
    log = packed.read("access_activity_log.txt").decode()
    for said in ("signed in", "asked for 10 minutes and confirmed 1000 tokens", "meter ran", "322 s delivered"):
        assert said in log
    assert "600 tokens; 400 tokens came back" in packed.read("service_documentation.txt").decode()
    keys = read_keys(client.get(KEYS).data)
    assert check(packed.read("service_documentation_receipts.jsonl").strip(), keys).problems == ()
    assert client.get(path, headers=admin).data == answer.data
    assert scene.fan.email.encode() not in b"".join(packed.read(name) for name in packed.namelist())


# --- pages --------------------------------------------------------------------------------------------


def test_the_studio_says_what_is_pending_and_why_nothing_is_payable(client: FlaskClient, scene: Scene) -> None:
    text = words(signed_in(client, scene.creator), "/studio?tab=earnings")
    assert "480 tokens about $24.00" in text
    assert "The smallest payout is 1,000 tokens: 1,000 tokens to go." in text
    part = words(client, "/studio?part=earnings")
    assert "When it clears" in part


def test_the_receipt_page_offers_what_each_side_may_do(app: Flask, client: FlaskClient, scene: Scene) -> None:
    refund(client, scene, scene.creator, tokens=100, reason="<b>Sorry</b>")
    path = f"/history/{scene.session_id}"
    seen = words(signed_in(client, scene.fan), path)
    assert "Make a complaint" in seen
    assert "Give a refund" not in seen
    assert "gave 100 tokens back" in seen
    assert "&lt;b&gt;Sorry&lt;/b&gt;" in client.get(path).get_data(as_text=True)
    assert "Give a refund" in words(signed_in(app.test_client(), scene.creator), path)
