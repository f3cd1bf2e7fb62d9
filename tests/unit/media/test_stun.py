"""STUN that strangers send is read or refused, never an error; what we write is read back by another reader."""

from __future__ import annotations

import ipaddress

import pytest
from aioice import stun as other
from hypothesis import example, given
from hypothesis import strategies as st

from media import stun

KEY = b"a password of twenty-two"
TRANSACTION = bytes(range(12))
# The request of RFC 5769 section 2.1, with SOFTWARE, PRIORITY, ICE-CONTROLLED and a USERNAME padded with spaces.
RFC_5769 = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff"
    "80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1"
    "b571a280280004e57a3bcf"
)
RFC_5769_KEY = b"VOkJxbRl1RmTxUk/WvJxBt"
numbers = st.integers(1, 0xFFFF)


def a_request(**more: bytes) -> bytes:
    attributes = {stun.USERNAME: b"ours:theirs", stun.PRIORITY: bytes(4)}
    attributes |= {getattr(stun, name): value for name, value in more.items()}
    return stun.encode(stun.REQUEST, TRANSACTION, attributes, KEY)


def test_the_request_of_the_rfc_is_read_and_authentic() -> None:
    message = stun.parse(RFC_5769)
    assert message is not None
    assert message.kind == stun.REQUEST
    assert message.fragments == ("evtj", "h6vY")
    assert message.attributes[stun.PRIORITY] == bytes.fromhex("6e0001ff")
    assert stun.ICE_CONTROLLED in message.attributes
    assert message.not_understood == []
    assert stun.is_authentic(message, RFC_5769_KEY)
    assert not stun.is_authentic(message, RFC_5769_KEY + b"x")


@given(st.dictionaries(numbers.filter(lambda n: n not in (8, 0x8028)), st.binary(max_size=40), max_size=10))
def test_what_is_written_is_read_again(attributes: dict[int, bytes]) -> None:
    message = stun.parse(stun.encode(stun.REQUEST, TRANSACTION, attributes, KEY))
    assert message is not None
    assert stun.is_authentic(message, KEY)
    assert (message.kind, message.transaction) == (stun.REQUEST, TRANSACTION)
    assert {kind: value for kind, value in message.attributes.items() if kind != 8} == attributes


@given(st.binary(max_size=200))
@example(b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(16))
@example(b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\xff\xff" + bytes(4))
def test_noise_is_no_message(data: bytes) -> None:
    stun.parse(data)
    message = stun.parse(b"\x00\x01" + len(data).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TRANSACTION + data)
    assert message is None or (message.fragments and message.error >= 0 and not stun.is_authentic(message, KEY))


@given(st.integers(0, len(RFC_5769) - 9), st.integers(1, 255))
def test_one_byte_changed_is_not_authentic(at: int, by: int) -> None:
    data = bytearray(RFC_5769)
    data[at] ^= by
    message = stun.parse(bytes(data))
    assert message is None or not stun.is_authentic(message, RFC_5769_KEY)


@given(st.integers(0, len(RFC_5769) - 1))
def test_what_is_cut_short_is_no_message(size: int) -> None:
    assert stun.parse(RFC_5769[:size]) is None
    assert stun.parse(RFC_5769 + bytes(size % 7 + 1)) is None


def test_without_a_signature_nothing_is_authentic_and_what_follows_it_is_not_read() -> None:
    bare = stun.parse(b"\x00\x01\x00\x04\x21\x12\xa4\x42" + TRANSACTION + b"\x00\x25\x00\x00")
    assert bare is not None
    assert stun.USE_CANDIDATE in bare.attributes
    assert not stun.is_authentic(bare, KEY)
    # Somebody on the way adds a nomination behind the signature, and leaves the fingerprint out
    text = a_request()[:-8] + b"\x00\x25\x00\x00"
    forged = stun.parse(text[:2] + (len(text) - 20).to_bytes(2, "big") + text[4:])
    assert forged is not None
    assert stun.is_authentic(forged, KEY)
    assert stun.USE_CANDIDATE not in forged.attributes


@pytest.mark.parametrize(("host", "port"), [("192.0.2.7", 50000), ("2001:db8::7", 1), ("::1", 65535)])
def test_another_reader_reads_our_answers(host: str, port: int) -> None:
    request = stun.parse(a_request())
    assert request is not None
    answer = other.parse_message(stun.success(request, host, port, KEY))
    assert answer.message_class == other.Class.RESPONSE
    assert answer.transaction_id == TRANSACTION
    assert answer.check_message_integrity(KEY)
    found, found_port = answer.attributes["XOR-MAPPED-ADDRESS"]
    assert (ipaddress.ip_address(found), found_port) == (ipaddress.ip_address(host), port)


def test_refusals_say_why() -> None:
    request = stun.parse(stun.encode(stun.REQUEST, TRANSACTION, {0x0033: b"", 0x8033: b""}, KEY))
    assert request is not None
    assert request.not_understood == [0x0033]
    answer = stun.parse(stun.refusal(request, stun.UNKNOWN_ATTRIBUTE, KEY))
    assert answer is not None
    assert answer.attributes[stun.UNKNOWN_ATTRIBUTES] == b"\x00\x33"
    assert (answer.kind, answer.error) == (stun.ERROR, 420)
    conflict = other.parse_message(stun.refusal(request, stun.ROLE_CONFLICT, KEY))
    assert conflict.check_message_integrity(KEY)
    assert conflict.attributes["ERROR-CODE"][0] == 487
