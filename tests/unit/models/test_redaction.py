"""What an operator may read: secrets are hidden wherever they stand, the rest is left alone."""

from __future__ import annotations

import msgspec
import pytest

from models.redaction import HIDDEN, redacted, redacted_json


@pytest.mark.parametrize(
    "secret",
    [
        "somebody@people.test",
        "203.0.113.7",
        "2001:db8:0:0:0:0:0:1",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "sk_test_4eC39HqLyjWDarjtT1",
        "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH",
        "Bearer abcdefgh12345678",
        "q" * 43,
        "guest:guest",
    ],
)
def test_a_secret_in_any_text_is_hidden(secret: str) -> None:
    text = f"amqp://{secret}@host/" if ":guest" in secret else f"it says {secret} here"
    assert secret not in redacted(text)
    assert HIDDEN in redacted(text)


def test_ids_figures_and_words_stay() -> None:
    text = "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa has 1200 tokens at 21:14:05, ZeroDivisionError in models/ledger.py:177"
    assert redacted(text) == text


def test_names_hide_their_values_in_packed_json_too() -> None:
    event = {"type": "RoomOpened", "paid_ms": 5, "grant": "abc", "tokens": 500, "user": {"email": "x"}}
    body = msgspec.json.encode({"args": [msgspec.json.encode(event).decode()], "price": 4}).decode()
    shown = msgspec.json.decode(redacted_json(body))
    assert shown == {
        "args": [{"type": "RoomOpened", "paid_ms": 5, "grant": HIDDEN, "tokens": 500, "user": {"email": HIDDEN}}],
        "price": 4,
    }
    assert redacted_json("no json of a@b.test") == f"no json of {HIDDEN}"
