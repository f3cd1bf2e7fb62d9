"""What an operator may read of a message or a traceback: everything but secrets, addresses and media descriptions.

Pure functions from text to text. Better too much hidden than too little: the whole letter stays in its row.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

HIDDEN = "(hidden)"
_SECRET_NAME = re.compile(
    r"token|secret|password|passwd|grant|sdp|authori[sz]ation|cookie|e-?mail|card|credential|candidate|signature"
    r"|address|^ip$|ice_?servers",
    re.IGNORECASE,
)
_SECRET_VALUES = (
    # E-mail addresses; what stands between a scheme and a host; JSON web tokens; keys of payment providers.
    re.compile(r"[^\s@\"'<>:/]{1,64}@[^\s@\"'<>/]{1,189}\.[a-zA-Z]{2,24}"),
    re.compile(r"(?<=://)[^\s/@\"']+:[^\s/@\"']+(?=@)"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.?[\w-]*"),
    re.compile(r"\b(?:sk|rk|pk|whsec)_[A-Za-z0-9_]{8,}"),
    re.compile(r"(?i)\bbearer\s+[\w.~+/-]{8,}=*"),
    # Network addresses: IPv4, and IPv6 in its long forms and with its zeros left out (RFC 4291 section 2.2).
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"),
    re.compile(r"\b(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{0,4}\b"),
    re.compile(r"\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4})*::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4})*)?"),
    # Random texts of 256 bits, as our tokens are; public ids have a prefix and an underscore.
    re.compile(r"(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-])"),
    re.compile(r"v=0\r?\\?n?o=[^\"]*"),
)


def redacted(text: str) -> str:
    """``text`` without what looks like a secret, wherever it stands."""
    for pattern in _SECRET_VALUES:
        text = pattern.sub(HIDDEN, text)
    return text


def redacted_json(body: str) -> str:
    """A JSON body, indented, without values whose name or look says that they are secret; other text as it is.

    JSON that is packed into a string of the body (a media event, say) is opened and treated alike.
    """
    try:
        cleaned = _clean(msgspec.json.decode(body))
        return msgspec.json.format(msgspec.json.encode(cleaned), indent=2).decode()
    except (msgspec.DecodeError, RecursionError):
        # No JSON, or nested deeper than anything of ours.
        return redacted(body)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if _is_secret(name, held) else _clean(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, str):
        return _opened(value)
    return value


def _is_secret(name: str, value: Any) -> bool:
    """Numbers are counts and amounts: ``tokens: 500`` is none."""
    return not isinstance(value, int | float | None) and _SECRET_NAME.search(name) is not None


def _opened(value: str) -> Any:
    if value[:1] in "{[" and len(value) > 1:
        try:
            return _clean(msgspec.json.decode(value))
        except msgspec.DecodeError:
            return redacted(value)
    return redacted(value)
