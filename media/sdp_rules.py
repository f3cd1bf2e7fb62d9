"""What an SDP from outside must satisfy before any parser of ours or aiortc's sees it: pure text rules.

Knows nothing of connections. Everything that is wrong with a description is one error, ``BadSdp``.
"""

from __future__ import annotations

import re

MAX_BYTES = 64 * 1024
MAX_MEDIA = 64
_CODEC_LINE = re.compile(r"^a=rtpmap:(\d+) ([A-Za-z0-9_-]+)/(\d+)", re.MULTILINE)


class BadSdp(Exception):
    """The description cannot be used; nothing changed. Signaling answers ``BAD_MESSAGE``."""


def check(sdp: str, *, most_media: int = MAX_MEDIA) -> str:
    """``sdp`` without its candidates, or BadSdp.

    Candidates go because nothing is ever sent to an address that a client merely named (RFC 8445
    section 15; they would also make the ICE agent resolve ``.local`` names).
    """
    if len(sdp.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise BadSdp("longer than 64 KiB")
    if not sdp.isascii() and not sdp.isprintable() and "\x00" in sdp:
        raise BadSdp("not text")
    lines = sdp.splitlines()
    media = sum(1 for line in lines if line.startswith("m="))
    if not 1 <= media <= most_media:
        raise BadSdp(f"{media} m-lines; 1 to {most_media} are allowed")
    if any(line.startswith("m=") and not line.startswith(("m=audio ", "m=video ")) for line in lines):
        raise BadSdp("only audio and video are carried")
    kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    return "\r\n".join(kept) + "\r\n"
