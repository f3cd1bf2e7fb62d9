"""Recordings over HTTP: consent in the call, the file for two people and nobody else; and who else tries."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from filmed import finish, lease, row
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from stage import Call, Stage
from web_people import People, Someone, code_of

from models import receipt_check
from models.books import LotUseRow
from models.config import Settings
from models.payments import PurchaseRow
from models.recordings import RecordingRow
from models.services import recording_sales, recording_work
from web.api import recordings as recordings_api
from web.crowd import MOST_FILMS_EACH

OFFER = "/api/streaming/recording-offer"
CONSENT = "/api/streaming/recording-consent"
WITHDRAW = "/api/streaming/recording-withdraw"
TERMS = {"price": 200, "shared": True, "keepDays": 30, "textVersion": 1}
FILM = bytes(range(256)) * 40


class Play:
    """A call on the stage, and both its people with bearer tokens."""

    def __init__(self, client: FlaskClient, stage: Stage, people: People, call: Call) -> None:
        self.client, self.stage, self.call = client, stage, call
        self.fan, self.creator = people.signed_in(call.fan.user_id), people.signed_in(call.creator.user_id)

    def seen(self, who: Someone) -> dict[str, Any]:
        address = f"/api/streaming/private-sessions/{self.call.session_id}/recording"
        return dict(self.client.get(address, headers=who.headers()).json)

    def agree(self, who: Someone, **changed: Any) -> Any:
        body = {"sessionId": self.call.session_id, **TERMS, **changed}
        return self.client.post(CONSENT, json=body, headers=who.headers())

    def withdraw(self, who: Someone) -> Any:
        return self.client.post(WITHDRAW, json={"sessionId": self.call.session_id}, headers=who.headers())

    def address(self, what: str = "") -> str:
        return f"/api/streaming/recordings/{row(self.stage, self.call).id}{what}"

    def file(self, who: Someone, **more: str) -> Any:
        return self.client.get(self.address("/file"), headers=who.headers(**more), buffered=True)

    def buy(self, who: Someone, price: int = 200, key: str = "k") -> Any:
        headers = who.headers(idempotency_key=key)
        return self.client.post(self.address("/buy"), json={"price": price}, headers=headers)


@pytest.fixture
def play(client: FlaskClient, stage: Stage, people: People) -> Play:
    made = Play(client, stage, people, stage.running(tokens=3_000))
    offer = {"offered": True, "price": 200, "shared": True}
    assert client.put(OFFER, json=offer, headers=made.creator.headers()).json == offer
    return made


@pytest.fixture
def kept(play: Play, settings: Settings) -> Play:
    """A call that is over, and its film in the place where a worker puts it."""
    for side in (play.fan, play.creator):
        assert play.agree(side).status_code == 200
    held = lease(play.stage, play.call)
    assert held is not None
    play.stage.run(lambda tx: recording_work.ready(tx, held.work_id, held.epoch, play.stage.now))
    play.stage.end(play.call.session_id, play.call.fan)
    play.stage.call_ended(play.call.session_id, "closed", 60_000)
    directory = settings.recordings_dir / held.work_id
    directory.mkdir(parents=True)
    (directory / "recording.mp4").write_bytes(FILM)
    finish(play.stage, held, size=len(FILM))
    return play


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {"VAR_DIR": str(tmp_path / "var"), "RECORDINGS_FREE_MB": "1"}


def test_a_disk_that_will_not_come_back_is_declared_lost_and_paid_back(
    kept: Play, app: Flask, settings: Settings
) -> None:
    def command(*words: str) -> tuple[int, str]:
        done = app.test_cli_runner().invoke(args=["recordings", *words])
        return done.exit_code, done.output

    assert kept.buy(kept.fan).status_code == 200
    had = kept.stage.balances(kept.call.fan)["wallet"]
    [film] = settings.recordings_dir.glob("*/recording.mp4")
    for words, disk_id in ((("--unnamed",), None), (("disk_a",), "disk_a")):
        # given a recording on that disk, that can be seen
        film.touch()
        named = update(RecordingRow).values(disk_id=disk_id)
        kept.stage.run(lambda tx, named=named: tx.execute(named))  # type: ignore[misc]
        assert f"{words[0]} 1 kept, 0 not here" in command("disks")[1]
        assert command("lost", *words, "--yes")[0] == 0
        assert kept.seen(kept.fan)["status"] == "kept"
        # when it cannot
        film.unlink()
        status, said = command("lost", *words)
        assert (status, "1 of 1" in said, "--yes" in said) == (1, True, True)
        assert kept.seen(kept.fan)["status"] == "kept"
    assert command("lost", "disk_b", "--yes")[0] == command("lost", "--unnamed", "--yes")[0] == 1
    assert command("lost", "--yes")[0] == command("lost", "disk_a", "--unnamed", "--yes")[0] == 2
    assert kept.seen(kept.fan)["status"] == "kept"
    # and it is said to be lost
    assert command("lost", "disk_a", "--yes")[0] == 0
    assert (kept.seen(kept.fan)["status"], kept.seen(kept.fan)["refund"]) == ("gone", "due")
    kept.stage.run(lambda tx: recording_sales.refund_due(tx, kept.stage.now))
    assert kept.stage.balances(kept.call.fan)["wallet"] == had + 200
    assert "No recordings" in command("disks")[1]


def test_two_keys_over_http(play: Play, people: People, client: FlaskClient) -> None:
    first = play.seen(play.fan)
    assert (first["status"], first["offered"], first["mine"], first["terms"]) == ("none", True, False, TERMS)
    assert any("200 tokens" in line for line in first["text"])
    # when
    assert play.agree(play.fan).json["status"] == "asked"
    assert (play.seen(play.creator)["theirs"], play.seen(play.creator)["mine"]) == (True, False)
    assert play.agree(play.creator).json["status"] == "wanted"
    # then a withdrawal is recorded although the node cannot be reached
    back = play.withdraw(play.fan)
    assert back.status_code == 200
    assert back.json["recording"]["status"] == "gone"
    assert code_of(play.agree(play.creator)) == (409, "RECORDING_OVER")
    # and both may take the records away, to be checked offline by anybody
    address = f"/api/streaming/private-sessions/{play.call.session_id}/recording-consents"
    records = client.get(address, headers=play.creator.headers())
    keys = client.get("/.well-known/greenroom-receipt-keys.json").data
    verdict = receipt_check.check(records.data, receipt_check.read_keys(keys))
    assert verdict.problems == ()
    assert [fact.partition(" ")[2] for fact in verdict.facts] == [
        "fan: consent given", "creator: consent given", "fan: consent withdrawn"
    ]  # fmt: skip
    lines = records.data.splitlines()
    assert receipt_check.check(lines[0], receipt_check.read_keys(keys)).problems == ()
    assert receipt_check.check(b"\n".join(lines[1:]), receipt_check.read_keys(keys)).problems
    forged = json.loads(lines[0]) | {"act": "withdrawn"}
    assert receipt_check.check(json.dumps(forged).encode(), receipt_check.read_keys(keys)).problems
    other = people.fan()
    assert code_of(client.get(address, headers=other.headers())) == (404, "NOT_FOUND")


def test_terms_that_were_not_seen_are_not_signed(play: Play) -> None:
    refusal = play.agree(play.fan, price=100)
    assert code_of(refusal) == (409, "RECORDING_TERMS_CHANGED")
    assert (refusal.json["price"], refusal.json["shared"], refusal.json["keepDays"]) == (200, True, 30)
    for changed in ({"shared": False}, {"keepDays": 31}, {"textVersion": 2}):
        assert code_of(play.agree(play.fan, **changed)) == (409, "RECORDING_TERMS_CHANGED")
    assert code_of(play.agree(play.fan, price=-1)) == (422, "INVALID")


def test_without_room_on_the_disk_nobody_is_asked_to_agree(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Full", (), {"free": 999_999})
    monkeypatch.setattr(recordings_api.shutil, "disk_usage", lambda path: full)
    assert code_of(play.agree(play.fan)) == (503, "NO_RECORDING_SPACE")
    assert play.seen(play.fan)["status"] == "none"


def test_nobody_else_gets_at_any_of_it(kept: Play, client: FlaskClient, people: People, admin: Someone) -> None:
    strangers = [people.fan().headers(), people.creator().headers(), admin.headers()]
    for headers in strangers:
        assert code_of(client.get(kept.address("/file"), headers=headers)) == (404, "NOT_FOUND")
        assert code_of(client.delete(kept.address(), headers=headers)) == (404, "NOT_FOUND")
        address = f"/api/streaming/private-sessions/{kept.call.session_id}/recording"
        assert code_of(client.get(address, headers=headers)) == (404, "NOT_FOUND")
        for wish in (CONSENT, WITHDRAW):
            body = {"sessionId": kept.call.session_id, **TERMS}
            assert code_of(client.post(wish, json=body, headers=headers)) == (404, "NOT_FOUND")
    program = people.integrator("rooms:write", "rtc:terminate")
    assert client.get(kept.address("/file"), headers=program).status_code == 403
    assert client.get(kept.address("/file")).status_code == 401
    assert client.get("/api/streaming/recordings/rec_guessed/file", headers=admin.headers()).status_code == 404


def test_the_creator_watches_free_and_the_fan_pays_first(kept: Play) -> None:
    mine = kept.file(kept.creator)
    assert (mine.status_code, mine.data, mine.content_type) == (200, FILM, "video/mp4")
    assert mine.headers["Cache-Control"] == "no-store"
    assert mine.headers["X-Accel-Buffering"] == "no"
    assert "attachment" not in mine.headers["Content-Disposition"]
    refusal = kept.file(kept.fan)
    assert code_of(refusal) == (402, "RECORDING_UNPAID")
    assert code_of(kept.buy(kept.fan, 199)) == (409, "PRICE_CHANGED")
    assert code_of(kept.buy(kept.creator)) == (403, "FORBIDDEN")
    assert kept.buy(kept.fan).json["mayWatch"] is True
    assert kept.buy(kept.fan).headers["Idempotent-Replayed"] == "true"
    assert kept.file(kept.fan).data == FILM
    headers = kept.fan.headers()
    assert kept.client.post(kept.address("/buy"), json={"price": 200}, headers=headers).status_code == 428
    kept.stage.audit()


def test_it_is_served_in_ranges(kept: Play) -> None:
    part = kept.file(kept.creator, range="bytes=100-199")
    assert (part.status_code, part.data) == (206, FILM[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(FILM)}"
    assert part.headers["Cache-Control"] == "no-store"
    assert kept.file(kept.creator, range=f"bytes={len(FILM)}-").status_code == 416
    download = kept.client.get(
        kept.address("/file?download"), headers=kept.creator.headers(), buffered=True
    )
    assert download.headers["Content-Disposition"].startswith("attachment; filename=2")


def test_what_was_deleted_is_gone_at_once_and_paid_back(kept: Play) -> None:
    kept.buy(kept.fan)
    gone = kept.client.delete(kept.address(), headers=kept.creator.headers())
    assert (gone.json["status"], gone.json["goneReason"], gone.json["goneByMe"]) == ("gone", "deleted", True)
    for side in (kept.fan, kept.creator):
        assert code_of(kept.file(side)) == (410, "RECORDING_GONE")
    assert kept.seen(kept.fan)["refund"] == "due"
    assert code_of(kept.buy(kept.fan, key="again")) == (410, "RECORDING_GONE")


def test_who_fetches_slowly_holds_few_places_and_gives_them_back(kept: Play) -> None:
    def begin() -> Any:
        return kept.client.get(kept.address("/file"), headers=kept.creator.headers(range="bytes=0-"))

    # given as many answers that nobody has taken in as one person may have
    open_ones = [begin() for _ in range(MOST_FILMS_EACH)]
    assert {answer.status_code for answer in open_ones} == {206}
    # then there is no other, until one of them is over, however it ends
    assert code_of(begin()) == (429, "RATE_LIMITED")
    open_ones.pop().close()
    assert kept.file(kept.creator).data == FILM
    assert kept.file(kept.creator, range=f"bytes={len(FILM)}-").status_code == 416
    head = kept.client.head(kept.address("/file"), headers=kept.creator.headers(), buffered=True)
    assert head.status_code == 200
    again = begin()
    assert again.status_code == 206
    for answer in (*open_ones, again):
        answer.close()


def test_nobody_pays_for_a_file_that_cannot_be_reached(kept: Play, settings: Settings) -> None:
    [film] = settings.recordings_dir.glob("*/recording.mp4")
    film.unlink()
    assert code_of(kept.file(kept.creator)) == (503, "RECORDING_UNAVAILABLE")
    assert code_of(kept.buy(kept.fan)) == (503, "RECORDING_UNAVAILABLE")
    assert kept.seen(kept.fan)["paid"] is False
    kept.stage.audit()


def test_one_that_the_creator_keeps(play: Play, client: FlaskClient) -> None:
    offer = {"offered": True, "price": 200, "shared": False}
    client.put(OFFER, json=offer, headers=play.creator.headers())
    for side in (play.fan, play.creator):
        assert play.agree(side, shared=False).status_code == 200
    held = lease(play.stage, play.call)
    assert held is not None
    finish(play.stage, held)
    assert code_of(play.file(play.fan)) == (403, "RECORDING_NOT_SHARED")
    assert code_of(play.buy(play.fan)) == (403, "RECORDING_NOT_SHARED")


def test_only_creators_offer(client: FlaskClient, fan: Someone, creator: Someone) -> None:
    assert client.get(OFFER, headers=creator.headers()).json == {"offered": False, "price": 0, "shared": False}
    body = {"offered": True, "price": 5, "shared": True}
    assert code_of(client.put(OFFER, json=body, headers=fan.headers())) == (403, "FORBIDDEN")
    for price in (-1, 1_000_001):
        refusal = client.put(OFFER, json=body | {"price": price}, headers=creator.headers())
        assert code_of(refusal) == (422, "INVALID")


def test_a_bank_is_shown_what_its_customer_signed(
    kept: Play, client: FlaskClient, admin: Someone, people: People
) -> None:
    # given that the recording alone was paid for with a purchase that its buyer disputes
    kept.buy(kept.fan)
    with people.database.reading() as tx:
        uses = tx.scalars(select(LotUseRow.lot_id).where(LotUseRow.reference == row(kept.stage, kept.call).id))
        [purchase_id] = uses.all()
    bought = PurchaseRow(
        id=purchase_id, user_id=kept.fan.user_id, idempotency_key="k", package_id="tokens-5000", tokens=3_000,
        price_minor=15_000, currency="USD", gateway="sandbox", status="succeeded", cause_id="t",
        created_at=kept.stage.now, succeeded_at=kept.stage.now,
    )  # fmt: skip
    people.database.run(lambda tx: tx.add(bought))
    packed = zipfile.ZipFile(
        io.BytesIO(client.get(f"/api/receipts/evidence/{purchase_id}", headers=admin.headers()).data)
    )
    records = packed.read("service_documentation_recording_consents.jsonl")
    keys = receipt_check.read_keys(client.get("/.well-known/greenroom-receipt-keys.json").data)
    assert receipt_check.check(records, keys).problems == ()
    said = packed.read("access_activity_log.txt").decode()
    assert said.count("consent to being recorded given, signed") == 1
    assert "recording of a private stream paid: wallet -200" in said


def page(play: Play, who: Someone) -> str:
    """The receipt, as that side's browser gets it."""
    with play.client.session_transaction() as cookie:
        cookie.clear()
    return str(play.client.get(f"/history/{play.call.session_id}", headers=who.headers()).get_data(as_text=True))


def test_the_receipt_shows_it_to_each_side_as_agreed(kept: Play) -> None:
    assert "<video" in page(kept, kept.creator)
    before = page(kept, kept.fan)
    assert "<video" not in before
    assert "Pay 200 tokens and watch" in before
    assert "about $10.00" in before
    kept.buy(kept.fan)
    assert "<video" in page(kept, kept.fan)
    kept.client.delete(kept.address(), headers=kept.creator.headers())
    gone = page(kept, kept.fan)
    assert "<video" not in gone
    assert "deleted it. What was paid for it is on its way back." in gone
