"""What an m-line says about pictures and sound: codecs, simulcast layers. Text in, text out; no connection.

Simulcast is RFC 8853 (``a=simulcast``), RFC 8851 (``a=rid``) and RFC 8852 (the header extensions that say which
layer a packet is of); the older ``a=ssrc-group:SIM`` needs no words of ours.
"""

from __future__ import annotations

import re

from media.codecs import VIDEO
from media.layers import MOST_LAYERS

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID_URI = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID_URI = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
LAYER_URIS = (RID_URI, REPAIRED_RID_URI)
OPUS = {"useinbandfec": 1, "usedtx": 1}
"""Loss is concealed out of the next packet, and a silent microphone sends one packet in 400 ms."""
_RID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_OFFERED = {"VP9": "profile-id=0", "AV1": ""}
_FIRST_TYPE = 110
"""Payload types for what aiortc does not know; its own begin at 96."""


def masked(sdp: str) -> str:
    """``sdp`` as aiortc understands it: codecs and profiles that it does not know go by the name of one that it
    does."""
    text = re.sub(r"^(a=rtpmap:\d+) (?:VP9|AV1)/90000", r"\1 VP8/90000", sdp, flags=re.M)
    return re.sub(r"(profile-level-id=)(?:4d|64)[0-9a-f]{4}", r"\g<1>42e01f", text, flags=re.I)


def simulcast(sdp: str) -> dict[str, tuple[str, ...]]:
    """The layers that an offer wants to send, by mid; of alternatives the first, of many the first three."""
    found: dict[str, tuple[str, ...]] = {}
    for section in re.split(r"^m=", sdp, flags=re.M)[1:]:
        mid = re.search(r"^a=mid:(\S+)", section, re.M)
        wish = re.search(r"^a=simulcast:(?:recv \S+ )?send (\S+)", section, re.M)
        if mid is None or wish is None:
            continue
        described = set(re.findall(r"^a=rid:(\S+) send\b", section, re.M))
        names = [choice.split(",")[0].removeprefix("~") for choice in wish[1].split(";")]
        rids = tuple(dict.fromkeys(name for name in names if name in described and _RID.fullmatch(name)))
        if len(rids) > 1:
            found[mid[1]] = rids[:MOST_LAYERS]
    return found


def with_simulcast(answer: str, layers: dict[str, tuple[str, ...]], ids: dict[str, int]) -> str:
    """An answer that takes these layers; ``ids``: of the header extensions, by URI."""
    lines: list[str] = []
    for line in answer.splitlines():
        lines.append(line)
        rids = layers.get(line.removeprefix("a=mid:")) if line.startswith("a=mid:") else None
        if rids:
            lines += [f"a=extmap:{identifier} {uri}" for uri, identifier in ids.items() if identifier]
            lines += [f"a=rid:{rid} recv" for rid in rids]
            lines.append(f"a=simulcast:recv {';'.join(rids)}")
    return "\r\n".join(lines) + "\r\n"


def with_more_codecs(offer: str) -> str:
    """Our offer with the codecs that aiortc does not know on every video m-line, each with retransmission."""
    more: list[str] = []
    types: list[str] = []
    for number, codec in enumerate(name for name in VIDEO if name in _OFFERED):
        media, repair = _FIRST_TYPE + 2 * number, _FIRST_TYPE + 2 * number + 1
        types += [str(media), str(repair)]
        more += [f"a=rtpmap:{media} {codec}/90000", f"a=rtcp-fb:{media} nack", f"a=rtcp-fb:{media} nack pli"]
        if _OFFERED[codec]:
            more.append(f"a=fmtp:{media} {_OFFERED[codec]}")
        more += [f"a=rtpmap:{repair} rtx/90000", f"a=fmtp:{repair} apt={media}"]
    lines: list[str] = []
    video = False
    for line in offer.splitlines():
        if line.startswith("m="):
            video = line.startswith("m=video ")
            line = " ".join([line, *types]) if video else line
        lines.append(line)
        if video and line.startswith("a=mid:"):
            lines += more
    return "\r\n".join(lines) + "\r\n"


def with_sound_repair(sdp: str) -> str:
    """Our offer of sound that is sent again on request (RFC 4585 section 6.2.1): under its own number, as browsers
    know no retransmission stream (RFC 4588) for it. They ask if their own description says so, too."""
    return re.sub(r"^(a=rtpmap:(\d+) opus/48000/2)(\r?)$", r"\1\3\na=rtcp-fb:\2 nack\3", sdp, flags=re.M | re.I)
