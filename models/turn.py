"""Time-limited TURN credentials, as coturn checks them with its ``static-auth-secret``.

The server needs no account for anybody: the name says until when it is good and for whom, the password is
made of it with a shared secret (draft-uberti-behave-turn-rest-00, coturn's ``use-auth-secret``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from models.config import IceServer, Settings

LIFETIME_SECONDS = 12 * 3600
"""A relay that was allocated goes on beyond it; a page that stays open longer restarts its ICE without TURN."""


def ice_servers(settings: Settings, user_id: str, now: float) -> tuple[IceServer, ...]:
    """What this user's browser is told: ``ICE_SERVERS``, and the TURN servers with credentials of its own.

    ``now`` in seconds since 1970."""
    if not settings.turn_urls:
        return settings.ice_servers
    name = f"{int(now) + LIFETIME_SECONDS}:{user_id}"
    return (
        *settings.ice_servers,
        IceServer(urls=list(settings.turn_urls), username=name, credential=credential(settings.turn_secret, name)),
    )


def credential(secret: str, name: str) -> str:
    """The password that goes with ``name``."""
    return base64.b64encode(hmac.digest(secret.encode(), name.encode(), hashlib.sha1)).decode()
