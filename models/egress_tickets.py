"""Egress tickets: short-lived, signed permissions to read one room's encoded media from its node.

HMAC-SHA-256 over the room id and the moment it expires: ``<expires>.<mac>``. A transcode child signs its own
with its room's key, and is given no other: it opens no room but that one, whatever it decodes. Supervisors and
the node derive that key from theirs. A ticket is for connecting: what is connected stays connected. Knows nothing
of rooms' states; whether a room may be read is the node's decision.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from models.errors import Forbidden

LIFETIME_SECONDS = 60
KEY_PURPOSE = "egress"
"""``settings.key(KEY_PURPOSE)`` is the key that rooms' keys are derived from."""
_LONGEST_TICKET = 80


def room_key(key: bytes, room_id: str) -> bytes:
    """The key of this room's tickets alone; ``key`` is the settings'. 32 bytes."""
    return hmac.digest(key, room_id.encode(), "sha256")


def sign(room_id: str, key: bytes, now: float) -> str:
    """The text for ``Authorization: Bearer``; ``key`` is the room's, ``now`` is Unix seconds."""
    expires = str(int(now) + LIFETIME_SECONDS)
    return f"{expires}.{_mac(room_id, expires, key)}"


def verify(ticket: str, room_id: str, key: bytes, now: float) -> None:
    """Raises Forbidden when the ticket is forged, malformed, expired or another room's; ``key`` is the room's."""
    expires, _, mac = ticket.partition(".")
    if len(ticket) > _LONGEST_TICKET or not ticket.isascii() or not expires.isdigit():
        raise Forbidden("This is not an egress ticket.")
    if not hmac.compare_digest(_mac(room_id, expires, key), mac):
        raise Forbidden("The egress ticket is not ours, or not for this room.")
    if now >= int(expires):
        raise Forbidden("The egress ticket has expired.")


def _mac(room_id: str, expires: str, key: bytes) -> str:
    digest = hmac.new(key, f"{expires}\n{room_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
