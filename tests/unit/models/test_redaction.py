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


@pytest.mark.parametrize("body", ["[" * 100_000, "[" * 3_000 + "]" * 3_000, '{"a":' * 900 + "1" + "}" * 900])
def test_what_is_nested_too_deep_is_shown_as_text(body: str) -> None:
    """One letter that somebody put there by hand must not be one that nobody can read."""
    assert redacted_json(f"{body} fan@people.test") == f"{body} (hidden)"
    assert len(redacted_json(body)) >= len(body)


@pytest.mark.parametrize("address", ["2001:db8::1", "fe80::", "2001:db8::ff00:42:8329"])
def test_a_short_ipv6_address_is_hidden(address: str) -> None:
    assert redacted(f"from [{address}]:5000 at 08:19:33") == "from [(hidden)]:5000 at 08:19:33"
