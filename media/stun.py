"""STUN as ICE needs it: binding requests and their answers, written and read strictly (RFC 8489, RFC 8445).

Reads bytes that strangers sent: what is not a well-formed binding message is None, never an error. Knows no
sockets and no connections.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import struct
import zlib
from typing import NamedTuple

COOKIE = 0x2112A442
REQUEST, INDICATION, SUCCESS, ERROR = 0x0001, 0x0011, 0x0101, 0x0111
"""Message types with the method Binding (RFC 8489 section 5)."""

USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
XOR_MAPPED_ADDRESS = 0x0020
PRIORITY = 0x0024
USE_CANDIDATE = 0x0025
FINGERPRINT = 0x8028
ICE_CONTROLLED = 0x8029
ICE_CONTROLLING = 0x802A

ROLE_CONFLICT = 487
UNKNOWN_ATTRIBUTE = 420

LARGEST = 1_280
"""No check needs more; reading goes through every attribute."""
MOST_ATTRIBUTES = 32

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_UNDERSTOOD = frozenset(
    {USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE}
)
_FINGERPRINT_XOR = 0x5354554E
_INTEGRITY_BYTES = 24


class Message(NamedTuple):
    """A binding message as it came. Nothing of it is to be believed before :func:`is_authentic` said so."""

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    """By type; of several of one type the first (RFC 8489 section 14)."""
    signed: bytes
    """What MESSAGE-INTEGRITY stands for; empty without one."""

    @property
    def fragments(self) -> tuple[str, str]:
        """USERNAME of a request: whom it is for and who asks (RFC 8445 section 7.2.2); empty if there is none."""
        text = self.attributes.get(USERNAME, b"").decode("ascii", "replace")
        ours, _, theirs = text.partition(":")
        return ours, theirs

    @property
    def error(self) -> int:
        """The number of an error response, 0 if it has none."""
        value = self.attributes.get(ERROR_CODE, b"")
        return (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0

    @property
    def not_understood(self) -> list[int]:
        """Attributes without which it cannot be understood, and that we do not know (RFC 8489 section 6.3)."""
        return [kind for kind in self.attributes if kind < 0x8000 and kind not in _UNDERSTOOD]


def new_transaction() -> bytes:
    """A transaction id that cannot be guessed."""
    return os.urandom(12)


def parse(data: bytes) -> Message | None:
    """The message, or None: truncated, too long, another method, a wrong fingerprint, or no STUN at all."""
    size = len(data)
    if not 20 <= size <= LARGEST or size % 4:
        return None
    kind, length, cookie, transaction = _HEADER.unpack_from(data)
    if cookie != COOKIE or length != size - 20 or kind not in (REQUEST, INDICATION, SUCCESS, ERROR):
        return None
    attributes: dict[int, bytes] = {}
    signed, at = b"", 20
    for _ in range(MOST_ATTRIBUTES):
        if at == size:
            return Message(kind, transaction, attributes, signed)
        attribute, length = _ATTRIBUTE.unpack_from(data, at)
        end = at + 4 + length
        if end > size:
            return None
        if attribute == FINGERPRINT:
            if end != size or data[at + 4 : end] != _fingerprint(data[:at]):
                return None
        elif not signed:  # what follows the signature is not signed, and not for us (RFC 8489 section 14.5)
            if attribute == MESSAGE_INTEGRITY:
                if length != 20:
                    return None
                signed = _with_length(data[:at], at + _INTEGRITY_BYTES)
            attributes.setdefault(attribute, data[at + 4 : end])
        at = end + -length % 4
    return None


def is_authentic(message: Message, password: bytes) -> bool:
    """Whether MESSAGE-INTEGRITY is there and was made with ``password`` (short-term credentials, HMAC-SHA1)."""
    if not message.signed:
        return False
    made = hmac.digest(password, message.signed, hashlib.sha1)
    return hmac.compare_digest(made, message.attributes[MESSAGE_INTEGRITY])


def encode(kind: int, transaction: bytes, attributes: dict[int, bytes], password: bytes) -> bytes:
    """A message with MESSAGE-INTEGRITY and FINGERPRINT, as every ICE check and answer has them."""
    body = b"".join(
        _ATTRIBUTE.pack(attribute, len(value)) + value + bytes(-len(value) % 4)
        for attribute, value in attributes.items()
    )
    text = _HEADER.pack(kind, len(body), COOKIE, transaction) + body
    text = _with_length(text, len(text) + _INTEGRITY_BYTES)
    text += _ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20) + hmac.digest(password, text, hashlib.sha1)
    text = _with_length(text, len(text) + 8)
    return text + _ATTRIBUTE.pack(FINGERPRINT, 4) + _fingerprint(text)


def success(request: Message, host: str, port: int, password: bytes) -> bytes:
    """The answer to a check: where it came from."""
    mapped = {XOR_MAPPED_ADDRESS: mapped_address(host, port, request.transaction)}
    return encode(SUCCESS, request.transaction, mapped, password)


def refusal(request: Message, number: int, password: bytes) -> bytes:
    """An error response: 487 for a role conflict, 420 with what was not understood."""
    attributes = {ERROR_CODE: bytes([0, 0, number // 100, number % 100])}
    if number == UNKNOWN_ATTRIBUTE:
        attributes[UNKNOWN_ATTRIBUTES] = b"".join(kind.to_bytes(2, "big") for kind in request.not_understood)
    return encode(ERROR, request.transaction, attributes, password)


def mapped_address(host: str, port: int, transaction: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS (RFC 8489 section 14.2); ``host`` in digits, maybe with a zone."""
    address = ipaddress.ip_address(host.partition("%")[0])
    key = COOKIE.to_bytes(4, "big") + transaction
    hidden = bytes(a ^ b for a, b in zip(address.packed, key, strict=False))
    return bytes([0, 1 if address.version == 4 else 2]) + (port ^ (COOKIE >> 16)).to_bytes(2, "big") + hidden


def _with_length(text: bytes, size: int) -> bytes:
    """``text`` as the beginning of a message of ``size`` bytes."""
    return text[:2] + (size - 20).to_bytes(2, "big") + text[4:]


def _fingerprint(text: bytes) -> bytes:
    return (zlib.crc32(text) ^ _FINGERPRINT_XOR).to_bytes(4, "big")
