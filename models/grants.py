"""Grants: short-lived, signed permissions to join one room as one user in one role.

HMAC-SHA-256 over a JSON payload, both base64url (RFC 4648 section 5): ``<payload>.<mac>``. The web app
signs, the media process verifies; neither asks the other. "One join each" is the media process's part:
it remembers each ``jti`` until it expires and refuses grants issued before it booted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Literal

import msgspec

from models.errors import Forbidden

LIFETIME_SECONDS = 60
# Far above any real grant; keeps a hostile one from costing anything.
LONGEST_GRANT = 2048


class Grant(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is permitted. Times are Unix seconds."""

    jti: str
    room_id: str
    user_id: str
    display_name: str
    role: Literal["participant", "spectator"]
    publish: bool
    issued_at: float
    expires_at: float
    stream_url: str = ""
    """Where this user may watch the room without a seat; empty: nowhere."""
    key_id: str = ""
    """The stream key that this stands on (WHIP): it ends with that. Empty: none."""


_decode_payload = msgspec.json.Decoder(Grant).decode


def sign(grant: Grant, key: bytes) -> str:
    """The text that travels in JOIN_ROOM."""
    payload = base64.urlsafe_b64encode(msgspec.json.encode(grant)).rstrip(b"=")
    return f"{payload.decode()}.{_mac(payload, key)}"


def verify(text: str, key: bytes, now: float | None) -> Grant:
    """The grant that ``text`` carries; raises Forbidden when forged, malformed or expired (None: never)."""
    if len(text) > LONGEST_GRANT or not text.isascii():
        raise Forbidden("This is not a grant.")
    payload, _, mac = text.partition(".")
    if not hmac.compare_digest(_mac(payload.encode(), key), mac):
        raise Forbidden("The grant is not ours.")
    try:
        grant = _decode_payload(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, msgspec.DecodeError) as error:
        raise Forbidden("The grant cannot be read.") from error
    if now is not None and not grant.issued_at - LIFETIME_SECONDS <= now < grant.expires_at:
        raise Forbidden("The grant has expired.")
    return grant


def _mac(payload: bytes, key: bytes) -> str:
    digest = hmac.new(key, payload, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
