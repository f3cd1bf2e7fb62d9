"""Signed consents: whole, in words, checkable with the published keys alone, and by nobody's good will."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from models import consents
from models.config import load_settings
from models.consents import Record, Terms
from models.receipt_keys import SigningKey, public_keys, signing_key

TERMS = Terms(price=500, shared=True, keep_days=30)


@pytest.fixture
def key() -> SigningKey:
    return signing_key(load_settings({"SECRET_KEY": "s" * 32, "TESTING": "1"}))


def record(**changed: Any) -> Record:
    terms = changed.get("terms", TERMS)
    usual = {
        "consent_id": "con_one",
        "recording_id": "rec_one",
        "session_id": "ses_one",
        "person_id": "usr_fan",
        "side": "fan",
        "act": "given",
        "at": "2026-01-02T12:00:00.000Z",
        "terms": terms,
        "text": consents.words(terms),
    }
    return Record(**(usual | changed))


def problems(text: str, key: SigningKey) -> list[str]:
    return consents.problems(text, public_keys([key.jwk]))


def test_a_record_holds_the_whole_text_and_can_be_checked(key: SigningKey) -> None:
    sealed = consents.sign(record(), key, number=1, previous_hash=None)
    said = json.loads(sealed.text)
    assert said["text"] == list(consents.words(TERMS))
    assert (said["side"], said["act"], said["terms"]["price"], said["terms"]["textVersion"]) == (
        "fan",
        "given",
        500,
        1,
    )
    assert problems(sealed.text, key) == []
    second = consents.sign(record(act="withdrawn"), key, number=2, previous_hash=sealed.hash)
    assert json.loads(second.text)["signature"]["previousHash"] == sealed.hash
    assert problems(second.text, key) == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("personId", "usr_other"),
        ("sessionId", "ses_other"),
        ("act", "withdrawn"),
        ("at", "2026-01-03T12:00:00.000Z"),
    ],
)
def test_whatever_is_changed_afterwards_shows(key: SigningKey, member: str, value: str) -> None:
    said = json.loads(consents.sign(record(), key, number=1, previous_hash=None).text)
    assert said[member] != value
    said[member] = value
    assert "its signature does not fit what it says" in problems(json.dumps(said), key)


def test_a_text_that_was_never_shown_shows_although_it_is_signed(key: SigningKey) -> None:
    other = record(text=("The fan agrees to everything.",))
    sealed = consents.sign(other, key, number=1, previous_hash=None)
    assert problems(sealed.text, key) == ["its text is not the text of that version"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"document": "receipt"}', "\ud800"[:0] + "not json"])
def test_what_is_no_record_is_said_to_be_none(key: SigningKey, text: str) -> None:
    assert problems(text, key)


def test_another_key_is_not_ours(key: SigningKey) -> None:
    sealed = consents.sign(record(), key, number=1, previous_hash=None)
    other = signing_key(load_settings({"SECRET_KEY": "t" * 32, "TESTING": "1"}))
    assert problems(sealed.text, other) == ["it is signed with a key that is not among the keys"]


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (TERMS, "The fan can watch and download it for 500 tokens."),
        (msgspec.structs.replace(TERMS, price=1), "The fan can watch and download it for 1 token."),
        (msgspec.structs.replace(TERMS, price=0), "The fan can watch and download it free of charge."),
        (msgspec.structs.replace(TERMS, shared=False), "The fan cannot watch the recording."),
    ],
)
def test_the_text_says_what_it_costs_and_who_sees_it(terms: Terms, sentence: str) -> None:
    text = consents.words(terms)
    assert sentence in text
    assert any("30 days" in line for line in text)
    assert any("withdraw" in line for line in text)
