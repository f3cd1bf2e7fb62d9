"""Public ids: opaque, unguessable, with a prefix that says what they name.

26 random letters and digits of base 32 (130 bits), so that an id fits a URL, a file name and a queue name.
"""

from __future__ import annotations

import secrets

PERSON = "usr"
STREAM = "str"
REQUEST = "req"
SESSION = "ses"
TRANSFER = "trf"
PURCHASE = "pur"
DISPUTE = "dsp"
REFUND = "rfd"
SUBSCRIPTION = "sub"
TIP = "tip"
DAY = "pas"
BATTLE = "bat"
BATTLE_TIP = "btp"
MESSAGE = "msg"
BOOT = "boot"
SLOT = "slt"
BOOKING = "bkg"
PAYOUT = "pyt"
COMPLAINT = "cpl"
AMENDMENT = "amd"
BROADCAST = "brd"
RECORDING = "rec"
CONSENT = "con"
STREAM_KEY = "sky"


# Each of 32 characters (RFC 4648 section 6, in lower case) for eight of 256 values: all are equally likely.
_BASE_32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def new_id(prefix: str) -> str:
    """A fresh id such as ``req_4zq3m…``: the prefix and 26 characters of base 32."""
    return f"{prefix}_{secrets.token_bytes(26).translate(_BASE_32).decode()}"


def live_room(stream_id: str) -> str:
    """The public room of a stream."""
    return f"live-{stream_id}"


def private_room(session_id: str) -> str:
    """The room of a private session."""
    return f"private-{session_id}"


def battle_room(battle_id: str) -> str:
    """The room of a battle."""
    return f"battle-{battle_id}"
