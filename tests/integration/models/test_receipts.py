"""Receipts: signed once each, chained without a gap, checked offline; what comes later is an amendment."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from stage import MINUTE, Call, Stage

from models import receipt_check
from models.canonical import encode
from models.db import Database
from models.earnings import AmendmentRow
from models.people import PersonRow
from models.receipt_check import check, read_keys
from models.receipt_keys import SigningKey, signing_key
from models.receipt_seal import seal, seal_head
from models.receipts import ReceiptRow
from models.services import complaints, receipt_chain, receipts, refunds
from models.sessions import SessionRow


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    return made


@pytest.fixture
def key(stage: Stage) -> SigningKey:
    return signing_key(stage.settings)


def ended(stage: Stage, delivered_ms: int = 4 * MINUTE + 38_000, fact: str = "fan_left") -> Call:
    call = stage.running()
    stage.call_ended(call.session_id, fact, delivered_ms)
    return call


def another(stage: Stage, before: Call, delivered_ms: int = 3 * MINUTE) -> Call:
    """The next session of the same creator."""
    stage.resume(before.stream, before.creator)
    fan = stage.fan()
    request = stage.ask(fan, before.stream, 10)
    accepted = stage.accept(request.request_id, before.creator)
    call = Call(fan, before.creator, before.stream, request.request_id, accepted.session_id, accepted.room_id)
    stage.opened(call.session_id)
    stage.delivered(call.session_id, 1, 0)
    stage.later(seconds=1)
    stage.call_ended(call.session_id, "fan_left", delivered_ms)
    return call


def issue(stage: Stage, key: SigningKey) -> int:
    return stage.run(lambda tx: receipt_chain.issue_due(tx, key, stage.now))


def give(stage: Stage, call: Call, tokens: int | None, key: str = "k1") -> refunds.RefundView:
    return stage.run(
        lambda tx: refunds.give(
            tx,
            call.session_id,
            by_id=call.creator.user_id,
            side="creator",
            tokens=tokens,
            reason="The sound was bad.",
            key=key,
            cause_id="test",
            now=stage.now,
        )
    )


def document(stage: Stage, call: Call) -> bytes:
    with stage.database.reading() as tx:
        found = receipts.document_of(tx, call.session_id)
    assert found is not None
    return found.encode()


def export(stage: Stage, call: Call, key: SigningKey) -> bytes:
    with stage.database.reading() as tx:
        return "".join(receipt_chain.export(tx, call.creator.user_id, key, stage.now)).encode()


def keys(stage: Stage, key: SigningKey) -> receipt_check.Keys:
    with stage.database.reading() as tx:
        return read_keys(msgspec.json.encode(receipt_chain.published_keys(tx, key)))


def test_a_receipt_is_signed_once_and_holds_offline(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)
    assert "signature" not in json.loads(encode(_builtins(stage.receipt(call.session_id))))

    assert (issue(stage, key), issue(stage, key)) == (1, 0)
    verdict = check(document(stage, call), keys(stage, key))
    assert verdict.problems == ()
    assert verdict.what == f"receipt 1 of {call.creator.user_id}"
    assert stage.told(call.fan, "RECEIPT_ISSUED") == stage.told(call.fan, "RECEIPT_ISSUED")[:1]


def _builtins(receipt: receipts.Receipt) -> Any:
    return msgspec.to_builtins(receipt)


def test_what_the_api_gives_is_what_was_signed(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)
    issue(stage, key)

    assert encode(_builtins(stage.receipt(call.session_id))) == document(stage, call)


def test_numbers_follow_one_another_for_each_creator(stage: Stage, key: SigningKey) -> None:
    first = ended(stage)
    issue(stage, key)
    second = another(stage, first)
    other = ended(stage)
    issue(stage, key)

    one, two, apart = (json.loads(document(stage, call))["signature"] for call in (first, second, other))
    assert (one["number"], one["previousHash"]) == (1, None)
    assert (two["number"], two["previousHash"]) == (2, one["hash"])
    assert (apart["number"], apart["previousHash"]) == (1, None)
    verdict = check(export(stage, first, key), keys(stage, key))
    assert (verdict.problems, verdict.facts) == ((), ("2 documents in one chain, none missing",))


@pytest.mark.parametrize(
    ("fact", "delivered_ms"),
    [
        ("time_expired", 10 * MINUTE),
        ("creator_left", 3 * MINUTE + 1),
        ("creator_never_connected", 0),
        ("fan_never_connected", 0),
        ("node_pause_used_up", 2 * MINUTE),
    ],
)
def test_every_end_gives_a_receipt_that_holds(stage: Stage, key: SigningKey, fact: str, delivered_ms: int) -> None:
    call = stage.running()
    never = {"creator_connected": "creator_never" not in fact, "fan_connected": "never" not in fact}
    stage.call_ended(call.session_id, fact, delivered_ms, **never)
    issue(stage, key)

    assert check(document(stage, call), keys(stage, key)).problems == ()


def test_two_clocks_sign_each_receipt_once(stage: Stage, key: SigningKey) -> None:
    first = ended(stage)
    second = another(stage, first)
    counts: list[int] = []
    clocks = [threading.Thread(target=lambda: counts.append(issue(stage, key))) for _ in range(4)]
    for clock in clocks:
        clock.start()
    for clock in clocks:
        clock.join()

    assert sum(counts) == 2
    assert check(export(stage, second, key), keys(stage, key)).problems == ()


def test_a_round_that_is_rolled_back_leaves_nothing_and_is_made_up_for(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)

    def killed(tx: Any) -> None:
        receipt_chain.issue_due(tx, key, stage.now)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.run(killed)
    assert issue(stage, key) == 1
    assert json.loads(document(stage, call))["signature"]["number"] == 1


@pytest.mark.parametrize("verb", ["UPDATE receipts SET document = '{}'", "DELETE FROM receipts"])
def test_the_database_lets_nobody_change_what_was_issued(stage: Stage, key: SigningKey, verb: str) -> None:
    ended(stage)
    issue(stage, key)

    with pytest.raises(DBAPIError, match="append-only"):
        stage.run(lambda tx: tx.execute(text(verb)))


def test_no_name_is_in_the_chain_so_a_person_can_be_erased(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)
    give(stage, call, 100)
    issue(stage, key)
    before = export(stage, call, key)
    for name in (call.fan.handle, call.creator.handle, "The sound was bad"):
        assert name.encode() not in before

    erase = update(PersonRow).where(PersonRow.id == call.fan.user_id)
    stage.run(lambda tx: tx.execute(erase.values(display_name="", handle="erased", email="erased")))
    assert check(export(stage, call, key), keys(stage, key)).problems == ()


def test_a_new_key_signs_on_and_old_receipts_still_hold(stage: Stage, key: SigningKey) -> None:
    first = ended(stage)
    issue(stage, key)
    other = SigningKey(Ed25519PrivateKey.generate())
    another(stage, first)
    issue(stage, other)

    assert check(export(stage, first, other), keys(stage, other)).problems == ()
    assert other.key_id != key.key_id
    alone = read_keys(json.dumps({"keys": [json.loads(_jwk(other))]}).encode())
    assert "not among the keys" in " ".join(check(document(stage, first), alone).problems)


def _jwk(key: SigningKey) -> bytes:
    return msgspec.json.encode(key.jwk)


def test_refunds_and_decisions_are_amendments_in_the_same_chain(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)
    issue(stage, key)
    complaint = stage.run(
        lambda tx: complaints.complain(
            tx, call.session_id, by_id=call.fan.user_id, reason="No sound.", now=stage.now
        )
    )
    give(stage, call, 100)
    admin = stage.person("admin")
    stage.run(
        lambda tx: complaints.decide(
            tx,
            complaint.complaint_id,
            admin_id=admin.user_id,
            refund_tokens=50,
            reason="Half a minute had none.",
            cause_id="test",
            now=stage.now + timedelta(seconds=1),
        )
    )
    assert issue(stage, key) == 2

    raw = export(stage, call, key)
    assert check(raw, keys(stage, key)).problems == ()
    lines = [json.loads(line) for line in raw.splitlines()]
    assert [line.get("document") for line in lines] == [None, "amendment", "amendment", "head"]
    assert [line["tokens"] for line in lines[1:3]] == [100, 50]
    assert lines[2]["complaint"]["outcome"] == "refunded"
    stage.audit()


def test_an_amendment_waits_for_its_receipt(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)
    give(stage, call, None)
    assert issue(stage, key) == 2

    with stage.database.reading() as tx:
        kinds = list(tx.scalars(select(ReceiptRow.kind).order_by(ReceiptRow.number)))
        waiting = tx.scalars(select(AmendmentRow).where(AmendmentRow.issued_at.is_(None))).all()
        session = tx.get_one(SessionRow, call.session_id)
    assert (kinds, list(waiting), session.receipt_at) == (["receipt", "amendment"], [], stage.now)


# --- tampering ---------------------------------------------------------------------------------------


@pytest.fixture
def chain(stage: Stage, key: SigningKey) -> tuple[bytes, receipt_check.Keys]:
    call = ended(stage)
    another(stage, call)
    give(stage, call, 120)
    issue(stage, key)
    return export(stage, call, key), keys(stage, key)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_any_changed_byte_of_an_export_is_found(
    chain: tuple[bytes, receipt_check.Keys], data: st.DataObject
) -> None:
    raw, known = chain
    position = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != raw[position]))
    changed = raw[:position] + bytes([byte]) + raw[position + 1 :]

    assert check(changed, known).problems


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_any_changed_byte_of_a_receipt_is_found(
    chain: tuple[bytes, receipt_check.Keys], data: st.DataObject
) -> None:
    """Or it reads the same: a blank for a blank between two members."""
    raw = json.dumps(json.loads(chain[0].splitlines()[0]), indent=2).encode()
    position = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != raw[position]))
    changed = raw[:position] + bytes([byte]) + raw[position + 1 :]

    assert check(changed, chain[1]).problems or json.loads(changed) == json.loads(raw)


@pytest.mark.parametrize("gone", [[0], [1], [2], [3], [2, 3], [0, 1]])
def test_a_missing_line_is_found(chain: tuple[bytes, receipt_check.Keys], gone: list[int]) -> None:
    lines = chain[0].splitlines(keepends=True)
    left = b"".join(line for index, line in enumerate(lines) if index not in gone)

    assert len(lines) == 4
    assert check(left, chain[1]).problems


def test_lines_in_another_order_are_found(chain: tuple[bytes, receipt_check.Keys]) -> None:
    one, two, three, head = chain[0].splitlines(keepends=True)

    assert check(two + one + three + head, chain[1]).problems
    assert check(one + one + two + three + head, chain[1]).problems


def test_another_layout_of_a_line_is_found_though_it_says_the_same(
    chain: tuple[bytes, receipt_check.Keys],
) -> None:
    one, rest = chain[0].split(b"\n", 1)
    for changed in (
        one.replace(b",", b", ", 1),
        json.dumps(json.loads(one), separators=(",", ":")).encode() + b" ",
    ):
        said = " ".join(check(changed + b"\n" + rest, chain[1]).problems)
        assert "not in canonical form" in said


def test_a_head_that_counts_otherwise_is_found_though_signed(stage: Stage, key: SigningKey) -> None:
    call = ended(stage)
    issue(stage, key)
    receipt = document(stage, call).decode()
    digest, creator_id = json.loads(receipt)["signature"]["hash"], call.creator.user_id
    at = "2026-01-02T12:00:00.000Z"
    for count, last_hash, owner, holds in (
        (1, digest, creator_id, True),
        (2, digest, creator_id, False),
        (1, None, creator_id, False),
        (1, digest, "usr_other", False),
    ):
        head = seal_head(owner, at, count, last_hash, key)
        assert (check(f"{receipt}\n{head}\n".encode(), keys(stage, key)).problems == ()) == holds


def resigned(raw: bytes, key: SigningKey, **changed: Any) -> bytes:
    """A receipt with other figures, signed by the house itself: only its arithmetic can tell."""
    body = {**json.loads(raw), **changed}
    place = body.pop("signature")
    return seal(body, key, number=place["number"], previous_hash=place["previousHash"]).text.encode()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"earnings": 401}, "held is not earned + commission + back"),
        ({"earnings": 300, "commission": 200}, "other amounts than it says"),
        ({"billedMinutes": 6}, "it comes to 5 minutes"),
        ({"deliveredMs": 5 * MINUTE + 1}, "it comes to 6 minutes"),
        ({"endReason": "TIME_EXPIRED"}, "ends by ENDED_BY_FAN"),
        ({"endRow": "no_such_row"}, "there is no row"),
        ({"minuteMs": 0}, "no bill can be made"),
        ({"ratePerMinute": 0}, "no bill can be made"),
        ({"refunded": -500, "totalHeld": 0}, "below zero"),
        ({"transfers": []}, "settled 0 times"),
        ({"fanId": "usr_other"}, "other amounts than it says"),
    ],
)
def test_a_bill_that_the_rules_do_not_give_is_found_though_signed(
    stage: Stage, key: SigningKey, changed: dict[str, Any], said: str
) -> None:
    call = ended(stage)
    issue(stage, key)
    assert check(resigned(document(stage, call), key), keys(stage, key)).problems == ()

    problems = check(resigned(document(stage, call), key, **changed), keys(stage, key)).problems
    assert said in " ".join(problems)
