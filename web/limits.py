"""How often one may: the numbers, and the one place that counts.

Counted in a transaction of its own, before the work. Addresses are kept as a keyed hash, never in clear.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Literal

from flask import request
from sqlalchemy.orm import Session

from models import rate_limits
from models.clock import utc_now
from web.context import greenroom

Per = Literal["address", "caller", "account"]


@dataclass(frozen=True, slots=True)
class Limit:
    """``count`` times in ``seconds`` for each address, caller, or account that is being signed in to."""

    name: str
    count: int
    seconds: int
    per: Per


SIGN_IN_ADDRESS = Limit("sign-in", 60, 60, "address")
# Twice, so that a burst by a forgetful owner passes and guessing day and night does not.
SIGN_IN_ACCOUNT = Limit("sign-in", 20, 60, "account")
SIGN_IN_ACCOUNT_LONG = Limit("sign-in-long", 100, 3600, "account")
SIGN_UP = Limit("sign-up", 30, 3600, "address")
PASSWORD = Limit("password", 10, 60, "caller")
SIGNALING = Limit("signaling", 120, 60, "address")
EVENTS = Limit("events", 120, 60, "address")
PRIVATE_REQUEST = Limit("private-request", 60, 60, "caller")
PRIVATE_EXTEND = Limit("private-extend", 60, 60, "caller")
# An encoder that lost its connection tries again every other second; a house may have several.
WHIP = Limit("whip", 240, 60, "address")
WHIP_KEY = Limit("whip-key", 60, 60, "caller")
STREAM_KEYS = Limit("stream-keys", 30, 60, "caller")
GRANTS = Limit("grants", 60, 60, "caller")
SPECTATE = Limit("spectate", 600, 60, "address")
"""A whole house behind one address, each renewing twice a minute."""
ADMIN_ACTS = Limit("admin-acts", 120, 60, "caller")
TOP_UP = Limit("top-up", 20, 60, "caller")
TIP = Limit("tip", 30, 60, "caller")
SUBSCRIBE = Limit("subscribe", 20, 60, "caller")
PASS = Limit("pass", 20, 60, "caller")
BATTLE = Limit("battle", 30, 60, "caller")
RECORDING = Limit("recording", 30, 60, "caller")
# A player asks for a range at each jump.
RECORDING_FILE = Limit("recording-file", 600, 60, "caller")
PAYOUT = Limit("payout", 20, 60, "caller")
COMPLAINT = Limit("complaint", 20, 3600, "caller")
PURCHASE_REFRESH = Limit("purchase-refresh", 60, 60, "caller")
REFUND = Limit("refund", 60, 60, "caller")
# Whole histories: each one reads all there is.
DOWNLOAD = Limit("download", 20, 60, "caller")

SLOTS = Limit("slots", 60, 60, "caller")
BOOKING = Limit("booking", 30, 60, "caller")


def enforce(*hits: tuple[Limit, str]) -> None:
    """Count each subject once; raises RateLimited with ``retry_after_seconds`` when one is over."""
    if not hits:
        return
    now = utc_now()
    house = greenroom()
    key = house.settings.key("rate-limits")

    def count(tx: Session) -> None:
        for limit, subject in hits:
            digest = hmac.new(key, f"{limit.per}\0{subject}".encode(), hashlib.sha256).hexdigest()[:32]
            rate_limits.hit(
                tx, f"{limit.name}:{digest}", limit=limit.count, window_seconds=limit.seconds, now=now
            )

    house.database.run(count)


def client_address() -> str:
    """Where the request came from, behind the proxies that ``TRUSTED_PROXIES`` lets us believe.

    An IPv6 client has a whole /64 to come from (RFC 6177): that is one address here.
    """
    return one_place(request.remote_addr or "unknown")


def one_place(address: str) -> str:
    """The address, or for IPv6 its /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
