"""Bodies that do not fit are refused with the field that is to blame; what is no JSON with BAD_JSON."""

from __future__ import annotations

import pytest

from models.errors import Invalid
from web.api.errors import Refusal
from web.api.schema import decode
from web.api.streaming import RequestBody, SettingsBody

GOOD = b'{"creatorId":"usr_a","streamId":"str_b","minutes":5}'


def test_a_good_body_is_read() -> None:
    body = decode(GOOD, RequestBody)

    assert (body.creator_id, body.stream_id, body.minutes, body.max_total_cost) == ("usr_a", "str_b", 5, None)


@pytest.mark.parametrize(
    ("minutes", "why"),
    [
        (b"-1", "negative"),
        (b"0", "none"),
        (b"2.5", "fractional"),
        (b"5.0", "a float"),
        (b'"5"', "text"),
        (b"true", "a boolean"),
        (b"null", "null"),
        (b"241", "over 240"),
        (b"1441", "over 24 h"),
        (b"18446744073709551616", "over 64 bits"),
        (b"1" + b"0" * 5000, "five thousand digits"),
        (b"1e400", "beyond any float"),
    ],
)
def test_minutes_that_are_none_are_refused_by_name(minutes: bytes, why: str) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(GOOD.replace(b"5}", minutes + b"}"), RequestBody)

    assert refusal.value.fields["field"] == "minutes", why


@pytest.mark.parametrize("tokens", [b"-1", b"9223372036854775808", b"1.5", b'"1"', b"1" + b"0" * 30])
def test_tokens_outside_64_bits_are_refused_by_name(tokens: bytes) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(GOOD[:-1] + b',"maxTotalCost":' + tokens + b"}", RequestBody)

    assert refusal.value.fields["field"] == "maxTotalCost"


def test_a_missing_member_is_named() -> None:
    with pytest.raises(Invalid) as refusal:
        decode(b'{"streamId":"s","minutes":5}', RequestBody)

    assert refusal.value.fields["field"] == "creatorId"


@pytest.mark.parametrize("rate", [b"0", b"100001", b"-5"])
def test_a_rate_outside_1_to_100000_is_refused(rate: bytes) -> None:
    body = b'{"enabled":true,"ratePerMinute":%b,"minMinutes":5,"autoAccept":"manual"}' % rate
    with pytest.raises(Invalid) as refusal:
        decode(body, SettingsBody)

    assert refusal.value.fields["field"] == "ratePerMinute"


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        decode(b'{"enabled":true,"ratePerMinute":5,"minMinutes":5,"autoAccept":"maybe"}', SettingsBody)

    assert refusal.value.fields["field"] == "autoAccept"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"minutes=5",
        b"\xff\xfe{}",
        b'{"creatorId":"\xff","streamId":"s","minutes":5}',
        b'{"creatorId":"\xed\xa0\x80","streamId":"s","minutes":5}',
        b'{"minutes":NaN}',
        GOOD + b"x",
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_what_is_no_json_is_bad_json(raw: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        decode(raw, RequestBody)

    assert (refusal.value.status, refusal.value.code) == (400, "BAD_JSON")


@pytest.mark.parametrize("raw", [b"[]", b"5", b"null", b'"text"'])
def test_json_of_another_shape_is_invalid(raw: bytes) -> None:
    with pytest.raises(Invalid):
        decode(raw, RequestBody)
