"""Public ids: opaque, unguessable, with a prefix that says what they name.

128 random bits, base 32 without padding, so that an id fits a URL, a file name and a queue name.
"""

from __future__ import annotations

import base64
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
MESSAGE = "msg"
BOOT = "boot"
SLOT = "slt"
BOOKING = "bkg"
PAYOUT = "pyt"
COMPLAINT = "cpl"
AMENDMENT = "amd"


def new_id(prefix: str) -> str:
    """A fresh id such as ``req_4zq3m…``: the prefix and 26 characters of base 32 (128 bits)."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


def live_room(stream_id: str) -> str:
    """The public room of a stream."""
    return f"live-{stream_id}"


def private_room(session_id: str) -> str:
    """The room of a private session."""
    return f"private-{session_id}"
