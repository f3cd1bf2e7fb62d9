"""What an SDP from outside must satisfy, and what we change in our own: text rules, no connection.

Everything that is wrong with a description is one error, ``BadSdp``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiortc.sdp import SessionDescription

    from media.tracks import Kind

MAX_BYTES = 64 * 1024
MAX_MEDIA = 64
# Chromium's longest m-line has some 130. Reading thousands holds up everybody's packets.
MAX_LINES_PER_MEDIA = 250
_LINE = re.compile(r"[a-z]=")
_FRAGMENT = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_START_BITRATE = "x-google-start-bitrate=1800"
AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_DIGESTS = ("sha-256", "sha-384", "sha-512")
_NAMES = {name.lower(): name for name in ("VP8", "H264", "VP9", "AV1", "opus", "rtx")}


class BadSdp(Exception):
    """The description cannot be used; signaling answers ``BAD_MESSAGE``."""


def check(sdp: str, *, most_media: int = MAX_MEDIA) -> str:
    """``sdp`` without its candidates and groups, codecs by the names that we know them under, or BadSdp.

    Candidates go because nothing is ever sent to an address that a client merely named; groups because
    there is one transport anyway, and a forged group would take it apart. Upper and lower case are one in the
    name of a codec (RFC 4855 section 3), and not everybody writes it as browsers do.
    """
    try:
        size = len(sdp.encode())
    except UnicodeEncodeError as error:
        raise BadSdp("not text") from error
    if size > MAX_BYTES:
        raise BadSdp("longer than 64 KiB")
    lines = [line for line in sdp.splitlines() if line]
    if not all(_LINE.match(line) for line in lines):
        raise BadSdp("a line that is none of a description")
    if sum(line.startswith("v=") for line in lines) > 1:
        raise BadSdp("more than one description")
    media = [line for line in lines if line.startswith("m=")]
    if not 1 <= len(media) <= most_media:
        raise BadSdp(f"{len(media)} m-lines; 1 to {most_media} are allowed")
    if len(lines) > (len(media) + 1) * MAX_LINES_PER_MEDIA:
        raise BadSdp(f"{len(lines)} lines for {len(media)} m-lines")
    if any(not line.startswith(("m=audio ", "m=video ")) for line in media):
        raise BadSdp("only audio and video are carried")
    if len(media) > 1 and not any(line.startswith("a=group:BUNDLE ") for line in lines):
        raise BadSdp("all m-lines must be bundled")
    dropped = ("a=candidate:", "a=end-of-candidates", "a=group:")
    kept = "\r\n".join(line for line in lines if not line.startswith(dropped)) + "\r\n"
    return re.sub(r"(?<=^a=rtpmap:)(\d+ )(\w+)(?=/)", _known_name, kept, flags=re.M)


def _known_name(found: re.Match[str]) -> str:
    return found[1] + _NAMES.get(found[2].lower(), found[2])


def kinds_to_play(sdp: str) -> tuple[Kind, ...]:
    """What a client offers to receive, at most one sound and one picture, in its order. Raises BadSdp."""
    lines = [line for line in check(sdp).splitlines() if line.startswith("m=")]
    kinds: tuple[Kind, ...] = tuple("audio" if line.startswith("m=audio ") else "video" for line in lines)
    if len(set(kinds)) != len(kinds):
        raise BadSdp("one sound and one picture at most")
    return kinds


def check_parsed(description: SessionDescription) -> None:
    """What would otherwise go wrong later, in a task of aiortc's where nobody could answer for it."""
    mids = [media.rtp.muxId for media in description.media]
    if not all(mids) or len(set(mids)) != len(mids):
        raise BadSdp("every m-line needs a mid of its own")
    fragments = {media.ice.usernameFragment or "" for media in description.media if media.ice is not None}
    if len(fragments) != 1 or not _FRAGMENT.fullmatch(fragments.pop()):
        raise BadSdp("one transport has one ice-ufrag")
    for media in description.media:
        if media.ice is None or not _PASSWORD.fullmatch(media.ice.password or ""):
            raise BadSdp("ice-pwd missing or malformed")
        if media.dtls is None or not any(f.algorithm.lower() in _DIGESTS for f in media.dtls.fingerprints):
            raise BadSdp("fingerprint or setup missing")


def check_names(fragment: str, password: str) -> None:
    """What a client's ICE calls itself, outside any description. Raises BadSdp."""
    if not _FRAGMENT.fullmatch(fragment) or not _PASSWORD.fullmatch(password):
        raise BadSdp("ice-ufrag or ice-pwd missing or malformed")


def ice_fragment(ours: str, fragment: str, password: str) -> str:
    """New names of ours with the candidates of a description of ours (RFC 8840 section 9)."""
    lines = ours.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("m="))
    kept = [line for line in lines[first:] if line.startswith(("a=mid:", "a=candidate:"))]
    # The candidates stand in the first m-line alone; all others are bundled with it.
    mid, *others = kept
    candidates = [line for line in others if line.startswith("a=candidate:")]
    news = [f"a=ice-ufrag:{fragment}", f"a=ice-pwd:{password}", "a=ice-lite", lines[first], mid]
    return "\r\n".join([*news, *dict.fromkeys(candidates), "a=end-of-candidates"]) + "\r\n"


def extension_id(sdp: str, uri: str) -> int:
    """The id that ``sdp`` gives a header extension, the same in every m-line; 0 if there is none."""
    found = {int(match[1]) for match in re.finditer(rf"^a=extmap:(\d+)(?:/\w+)? {re.escape(uri)}\s*$", sdp, re.M)}
    identifier = found.pop() if len(found) == 1 else 0
    return identifier if 1 <= identifier <= 255 and identifier != 15 else 0


def with_transport_cc(answer: str, identifier: int, uri: str) -> str:
    """An answer that accepts transport-wide congestion control on every m-line.

    It also names a start bitrate for video (``x-google-start-bitrate``, which others ignore): Chromium
    would else begin at 300 kbit/s with a small picture and take half a minute to find 720p.
    """
    lines = []
    for line in answer.splitlines():
        lines.append(line)
        if line.startswith("a=mid:"):
            lines.append(f"a=extmap:{identifier} {uri}")
        elif (match := re.match(r"a=rtpmap:(\d+) (\S+)/", line)) and match[2].lower() != "rtx":
            lines.append(f"a=rtcp-fb:{match[1]} transport-cc")
            if match[2] == "VP8":
                lines.append(f"a=fmtp:{match[1]} {_START_BITRATE}")
        elif line.startswith("a=fmtp:") and ("packetization-mode" in line or "profile" in line):
            lines[-1] += f";{_START_BITRATE}"
    return "\r\n".join(lines) + "\r\n"


def without_extensions(text: str) -> str:
    """An offer or answer of packets that carry no header extensions, and that wants no bitrate estimates."""
    return "\r\n".join(
        line
        for line in text.splitlines()
        if not line.startswith("a=extmap:") and not line.endswith(" goog-remb")
    ) + "\r\n"  # fmt: skip


def with_numbers(text: str, identifier: int, uri: str, types: Iterable[str] = ("*",)) -> str:
    """An offer or answer of pictures that carry transport-wide numbers, with feedback on them for these payload
    types (``*``: all). Sound carries none: what is lost of it is sent again as it was."""
    lines: list[str] = []
    video = False
    for line in text.splitlines():
        lines.append(line)
        if line.startswith("m="):
            video = line.startswith("m=video ")
        elif video and line.startswith("a=mid:"):
            lines.append(f"a=extmap:{identifier} {uri}")
            lines += [f"a=rtcp-fb:{number} transport-cc" for number in types]
    return "\r\n".join(lines) + "\r\n"


def with_estimates(offer: str) -> str:
    """An offer of pictures that wants a receiver's own estimate, too, from who has nothing better (REMB)."""
    return offer.replace(" transport-cc\r\n", " transport-cc\r\na=rtcp-fb:* goog-remb\r\n")


def types_with_transport_cc(sdp: str) -> set[str]:
    """Payload types for which a description names transport-wide feedback."""
    return set(re.findall(r"^a=rtcp-fb:(\d+) transport-cc\s*$", sdp, re.M))


def slim(sdp: str) -> str:
    """Our SDP without what 40 m-lines need not repeat: one fingerprint is enough, RTCP has no port."""
    dropped = ("a=fingerprint:sha-384", "a=fingerprint:sha-512", "a=rtcp:")
    return "\r\n".join(line for line in sdp.splitlines() if not line.startswith(dropped)) + "\r\n"


def with_ice_lite(sdp: str) -> str:
    """Our SDP, saying that we only answer checks (RFC 8445 section 2.5): the client is the controlling side."""
    return re.sub(r"^(t=[^\r\n]*)\r?$", "\\1\r\na=ice-lite\r", sdp, count=1, flags=re.M)


def is_same_connection(before: str, sdp: str) -> bool:
    """Whether two offers are of one and the same connection of the client.

    Either it keeps its ICE user fragment, or it restarts ICE: then the session id (RFC 8829 section 5.2.1) and
    the fingerprints stay, and with them the DTLS association.
    """
    if fragment(before) == fragment(sdp):
        return True
    certificates = _fingerprints(before)
    return bool(certificates) and certificates == _fingerprints(sdp) and _session(before) == _session(sdp)


def _fingerprints(sdp: str) -> set[str]:
    return {text.strip().lower() for text in re.findall(r"^a=fingerprint:(.*)$", sdp, re.M)}


def _session(sdp: str) -> str | None:
    match = re.search(r"^o=(\S+ \S+) ", sdp, re.M)
    return match[1] if match else None


def fragment(sdp: str) -> str | None:
    """The first ICE user fragment: it names the client's connection, until it restarts ICE."""
    match = re.search(r"^a=ice-ufrag:(\S+)", sdp, re.M)
    return match[1] if match else None
