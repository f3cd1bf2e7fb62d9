"""RFC 8785: one value, one sequence of bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.canonical import LARGEST, NotCanonical, decode, encode

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_strings_and_literals_as_section_3_2_2_writes_them() -> None:
    """RFC 8785, section 3.2.2, without its numbers that are no whole ones."""
    value = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False]}

    expected = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert encode(value) == expected.encode()


def test_members_are_sorted_by_utf_16_code_units() -> None:
    """RFC 8785, section 3.2.3: the example whose order differs from that of code points."""
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    order = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]
    assert list(json.loads(encode(value)).values()) == order


def test_control_characters_have_their_short_forms_or_lower_case_hex() -> None:
    assert encode("\b\t\n\f\r\x00\x1f\x7f") == b'"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f"'


@given(values)
def test_it_reads_back_as_the_same_value_and_the_same_bytes(value: Any) -> None:
    raw = encode(value)
    assert json.loads(raw) == value
    assert decode(raw) == value
    assert encode(decode(raw)) == raw


@given(values)
def test_layout_is_no_part_of_a_value(value: Any) -> None:
    for laid_out in (json.dumps(value, indent=3), json.dumps(value, ensure_ascii=True)):
        assert encode(decode(laid_out.encode())) == encode(value)


@pytest.mark.parametrize("value", [1.5, LARGEST + 1, -LARGEST - 1, b"x", {1: 2}, "\ud800", {"a": {2.0}}, object()])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        encode(value)


@pytest.mark.parametrize(
    "raw",
    [b"1.0", b"1e2", b"NaN", b"Infinity", b'{"a":1,"a":1}', b"{", b"", b"\xff", b"9007199254740992", b'"\\ud800"',
     b"[" * 500 + b"]" * 500, b"[" * 100_000, b"{} {}", b"'a'"],
)  # fmt: skip
def test_what_readers_may_disagree_about_is_refused(raw: bytes) -> None:
    with pytest.raises(NotCanonical):
        decode(raw)
