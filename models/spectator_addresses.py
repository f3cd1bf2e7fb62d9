"""Signed addresses for spectators: who watches which broadcast, in which tier, until when: in the path.

``/live/<roomId>/<broadcastId>/<expires>.<tier>.<viewer>.<mac>/…``: relative addresses in playlists inherit
it, in every player and at a CDN's edge, where cookies and queries get lost. HMAC-SHA-256, cut to 128 bits
(RFC 2104 section 5). Whoever holds the key checks one without asking anybody: nginx does (deploy/nginx).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

from models.errors import Forbidden
from models.ladder import TIERS, Tier

KEY_PURPOSE = "spectators"
"""``settings.key(KEY_PURPOSE)`` is the key."""
BARRED = "barred"
"""Directory below HLS_DIR: an empty file for each viewer who is barred, for the app and nginx to look for."""
_MAC_BYTES = 16
_VIEWER_CHARACTERS = 20
_LONGEST = 120


class Spectator(NamedTuple):
    """Somebody who may watch one broadcast until ``expires`` (Unix seconds)."""

    room_id: str
    broadcast_id: str
    viewer_id: str
    tier: Tier
    expires: int


def viewer_id(broadcast_id: str, subject: str, key: bytes) -> str:
    """A pseudonym of ``subject`` (a person's id, or a nameless visitor's) for this one broadcast."""
    digest = hmac.new(key, f"viewer\n{broadcast_id}\n{subject}".encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().lower()[:_VIEWER_CHARACTERS]


def prefix(spectator: Spectator, key: bytes) -> str:
    """The signed path below which everything of the broadcast is; without a slash at its end."""
    text = f"{spectator.expires}.{spectator.tier}.{spectator.viewer_id}"
    where = f"{spectator.room_id}/{spectator.broadcast_id}"
    return f"/live/{where}/{text}.{_mac(f'{where}/{text}', key)}"


def verify(room_id: str, broadcast_id: str, signed: str, key: bytes, now: float) -> Spectator:
    """Whom the path speaks of. Raises Forbidden: forged, malformed, another's broadcast, or ADDRESS_EXPIRED."""
    text, _, mac = signed.rpartition(".")
    words = text.split(".")
    if len(signed) > _LONGEST or not signed.isascii() or len(words) != 3 or not words[0].isdigit():
        raise Forbidden("This is not an address of ours.")
    if not hmac.compare_digest(_mac(f"{room_id}/{broadcast_id}/{text}", key), mac):
        raise Forbidden("This address is not ours, or for another stream.")
    expires, tier, viewer = words
    if tier not in TIERS:
        raise Forbidden("This address is for a tier that there is no more.")
    if now >= int(expires):
        raise Forbidden("This address has expired.", code="ADDRESS_EXPIRED")
    return Spectator(room_id, broadcast_id, viewer, tier, int(expires))


def barred_name(broadcast_id: str, viewer: str) -> str:
    """Name of the file that shuts this viewer out."""
    return f"{broadcast_id}.{viewer}"


def _mac(text: str, key: bytes) -> str:
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()[:_MAC_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
