"""One peer connection of a participant, as the plane uses it: SDP in and out, a transport, an end.

Whatever aiortc raises over a description becomes ``BadSdp`` here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, NamedTuple

from aiortc import RTCSessionDescription
from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.sdp import H264Profile, MediaDescription, SessionDescription, parse_h264_profile_level_id
from OpenSSL import SSL

from media import codecs, sdp_media, sdp_rules
from media.aiortc_seam.connection import PeerConnection
from media.aiortc_seam.ice import Agent, Pair
from media.aiortc_seam.transport import Path
from media.layers import MOST_LAYERS
from media.port import Port
from media.sdp_rules import BadSdp

TRANSPORT_CC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
NUMBERS_ID = 1
"""What we call that extension in our offers; there is no other."""
State = Literal["connected", "lost"]
_CONSTRAINED_BASELINE = "42e01f"
_PAYLOAD_TYPES = (*range(35, 64), *range(96, 128))
"""The dynamic ones, and those that browsers use when they run out of them (RFC 5761 section 4)."""
_BASELINE = (H264Profile.PROFILE_CONSTRAINED_BASELINE, H264Profile.PROFILE_BASELINE)
_MORE_PROFILES = ("4d", "64")
"""Main and High of eight bits: what encoders send by themselves. Chromium decodes both, whatever it negotiated
(tried); Firefox was not tried."""
_H264_TERMS = ("level-asymmetry-allowed", "packetization-mode", "profile-level-id")
"""What an answer has to say, too; what else stands in an offer is about the one who sends."""
_FEEDBACK = (
    RTCRtcpFeedback(type="nack"), RTCRtcpFeedback(type="nack", parameter="pli"), RTCRtcpFeedback(type="goog-remb"),
)  # fmt: skip


class Encoding(NamedTuple):
    """A layer that the client sends, or the only one."""

    rid: str = ""
    ssrc: int | None = None
    repair_ssrc: int | None = None
    """Announced, or None: the packets say whose they are."""


class Received(NamedTuple):
    """An m-line on which the client sends."""

    mid: str
    kind: str
    codec: str
    clock_rate: int
    payload_type: int
    retransmission_type: int | None
    layers: tuple[Encoding, ...]
    repeats: bool
    """Whether the client said that it sends again what is asked for (RFC 4585)."""


class Line(NamedTuple):
    """An m-line on which we send."""

    mid: str
    payload_types: dict[str, int]
    """By codec name; what the client accepted."""
    repair_types: dict[str, int]
    """The same for what is sent again (RFC 4588)."""
    transport_cc: int = 0
    """The header extension's id under which transport-wide numbers are taken; 0: not at all."""


class Leg:
    """One peer connection of a participant.

    ``on_state`` says ``connected`` (a new ``Path`` may be taken; said again when the client moved to another
    address) and, at most once, ``lost``. ``on_heard`` is called for every authenticated STUN request.
    """

    def __init__(self, port: Port, on_state: Callable[[State], None], on_heard: Callable[[], None]) -> None:
        self._agent = Agent(port, self._moved)
        self._agent.on_heard = on_heard
        self._pc = PeerConnection(self._agent)
        self._pc.on("connectionstatechange", self._state_changed)
        self._on_state: Callable[[State], None] | None = on_state
        self._lines: list[RTCRtpTransceiver] = []
        self._remote = ""

    # signaling

    async def answer(self, sdp: str, taken: Collection[str] = codecs.FORWARDED) -> tuple[str, list[Received], int]:
        """Answer an offer: our SDP, what is received, the id of the transport-wide number (0: none). Of the codecs
        that may be ``taken`` it is the first that the client names."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp_media.masked(sdp), "offer"))
            if self._agent.remote_fragment not in (None, sdp_rules.fragment(sdp)):
                self._agent.restart()
            self._named(remote, sdp)
            self._be_server(sdp)
            for media in remote.media:
                _one_codec(self._transceiver(media), media, taken)
            transport_cc = sdp_rules.extension_id(sdp, TRANSPORT_CC_URI)
            text = (await self._pc.createAnswer()).sdp
            layers = sdp_media.simulcast(sdp)
            if transport_cc:
                text = sdp_rules.with_transport_cc(text, transport_cc, TRANSPORT_CC_URI)
            await self._pc.setLocalDescription(RTCSessionDescription(text, "answer"))
            answer = sdp_media.with_simulcast(
                self._described(),
                layers,
                {uri: sdp_rules.extension_id(sdp, uri) for uri in sdp_media.LAYER_URIS},
            )
            return answer, self._received(remote, layers), transport_cc
        raise AssertionError("unreachable")

    def _transceiver(self, media: MediaDescription) -> RTCRtpTransceiver:
        return next(line for line in self._pc.getTransceivers() if line.mid == media.rtp.muxId)

    def _received(self, remote: SessionDescription, layers: dict[str, tuple[str, ...]]) -> list[Received]:
        received = []
        for media in remote.media:
            transceiver = self._transceiver(media)
            if transceiver.currentDirection != "recvonly":
                continue
            codec, *rest = transceiver._codecs
            rids = layers.get(media.rtp.muxId)
            received.append(
                Received(
                    media.rtp.muxId, media.kind, codec.name, codec.clockRate, codec.payloadType or 0,
                    rest[0].payloadType if rest else None,
                    tuple(Encoding(rid) for rid in rids) if rids else _announced(media),
                    _FEEDBACK[0] in codec.rtcpFeedback,
                )
            )  # fmt: skip
        return received

    def add_line(self, kind: str, stream: str) -> tuple[int, int]:
        """Reserve one more m-line to send on; its SSRC, and the one for what is sent again. Offered with the
        next ``offer``."""
        transceiver = self._pc.addTransceiver(kind, direction="sendonly")
        transceiver.setCodecPreferences(
            [codec for codec in RTCRtpSender.getCapabilities(kind).codecs if _is_offered(codec)]
        )
        transceiver.sender._stream_id = stream
        transceiver.sender._track_id = f"{kind}-{stream}"
        self._lines.append(transceiver)
        return transceiver.sender._ssrc, transceiver.sender._rtx_ssrc

    async def offer(self, *, restart: bool = False) -> tuple[str, list[str]]:
        """Offer all reserved lines: our SDP with every candidate, and the mids by index. ``restart``: with new
        ICE credentials, while media goes on over the old ones."""
        if restart:
            self._agent.restart()
        with _only_bad_sdp():
            text = sdp_rules.without_extensions((await self._pc.createOffer()).sdp)
            text = sdp_media.with_sound_repair(sdp_media.with_more_codecs(text))
            await self._pc.setLocalDescription(RTCSessionDescription(text, "offer"))
            # Last: aiortc would write out for each codec what is said once for all of them.
            text = sdp_rules.with_numbers(self._described(), NUMBERS_ID, TRANSPORT_CC_URI)
            return sdp_rules.with_estimates(text), [line.mid for line in self._lines if line.mid]
        raise AssertionError("unreachable")

    async def answer_sending(self, sdp: str) -> tuple[str, list[Line]]:
        """Answer an offer to receive what we send on the reserved lines: our SDP, and the lines by index."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            self._named(remote, sdp)
            self._be_server(sdp)
            text = sdp_rules.without_extensions((await self._pc.createAnswer()).sdp)
            numbers = sdp_rules.extension_id(sdp, TRANSPORT_CC_URI)
            offered = sdp_rules.types_with_transport_cc(sdp)
            types = [each for each in re.findall(r"^a=rtpmap:(\d+) ", text, re.M) if each in offered]
            if 0 < numbers < 15 and types:
                text = sdp_rules.with_numbers(text, numbers, TRANSPORT_CC_URI, types)
            await self._pc.setLocalDescription(RTCSessionDescription(text, "answer"))
            by_mid = {media.rtp.muxId: media for media in SessionDescription.parse(text).media}
            lines = [self._line(transceiver, by_mid[transceiver.mid or ""]) for transceiver in self._lines]
            return self._described(), lines
        raise AssertionError("unreachable")

    def _be_server(self, offer: str) -> None:
        """DTLS: passive, unless the client is. Some stacks speak no ECDSA as DTLS servers."""
        assert self._pc.dtls is not None
        if self._pc.dtls._role == "auto":
            self._pc.dtls._set_role("client" if "a=setup:passive" in offer else "server")

    async def accept_answer(self, sdp: str) -> list[Line]:
        """Apply the client's answer; the lines by index, without those that were reserved since the offer."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
            self._named(remote, sdp)
            by_mid = {media.rtp.muxId: media for media in remote.media}
            return [self._line(line, by_mid[line.mid]) for line in self._lines if line.mid]
        raise AssertionError("unreachable")

    @staticmethod
    def _line(transceiver: RTCRtpTransceiver, media: MediaDescription) -> Line:
        """What the client took; its answer's own words, as aiortc does not know every codec."""
        if transceiver.currentDirection != "sendonly":
            return Line(media.rtp.muxId, {}, {})
        accepted: dict[str, int] = {}
        again: dict[Any, int] = {}
        for codec in media.rtp.codecs:
            number = codec.payloadType or 0
            if number not in _PAYLOAD_TYPES:
                continue  # it would not fit the header of a packet
            if is_rtx(codec):
                again[codec.parameters.get("apt")] = number
            elif codec.name in (*codecs.VIDEO, "opus"):
                accepted.setdefault(codec.name, number)
        repair = {name: again[number] for name, number in accepted.items() if number in again}
        numbers = {each.id for each in media.rtp.headerExtensions if each.uri == TRANSPORT_CC_URI}
        transport_cc = numbers.pop() if len(numbers) == 1 else 0
        return Line(media.rtp.muxId, accepted, repair, transport_cc if 0 < transport_cc < 15 else 0)

    # transport

    @property
    def remote_fragment(self) -> str | None:
        """What the client's ICE calls itself now."""
        return self._agent.remote_fragment

    def restart(self, fragment: str, password: str) -> str:
        """An ICE restart outside any description (RFC 9725 section 4.3.1): the client's new names in, ours out, as
        an SDP fragment. Media goes on over the old ones until the new ones have nominated a pair."""
        self._agent.restart()
        self._agent.set_remote(fragment, password)
        return sdp_rules.ice_fragment(self._described(), self._agent.local_username, self._agent.local_password)

    def goodbye(self) -> None:
        """DTLS's close_notify, at once and once: for a client that cannot be told by signaling."""
        dtls: Any = self._pc.dtls
        if dtls is None or self._agent.pair is None or dtls.state != "connected":
            return
        with contextlib.suppress(SSL.Error):
            dtls._ssl.shutdown()
        with contextlib.suppress(SSL.Error):
            self._agent.send_now(dtls._ssl.bio_read(1500))

    def goes_on(self, sdp: str) -> bool:
        """Whether an offer is of the client's connection that this one talks to, maybe with new ICE credentials
        (RFC 8842 section 5: the DTLS association stays while the fingerprints do)."""
        return self._on_state is not None and sdp_rules.is_same_connection(self._remote, sdp)

    def _named(self, remote: SessionDescription, sdp: str) -> None:
        ice = remote.media[0].ice
        assert ice is not None
        self._agent.set_remote(ice.usernameFragment or "", ice.password or "")
        self._remote = sdp

    def _described(self) -> str:
        return sdp_rules.with_ice_lite(sdp_rules.slim(self._pc.localDescription.sdp))

    def on_media(self, handler: Callable[[bytes], None] | None) -> None:
        """Who gets the datagrams that may be SRTP or SRTCP."""
        self._agent.on_media = handler

    def path(self) -> Path | None:
        """The transport, once connected. The caller closes it."""
        pair, dtls = self._agent.pair, self._pc.dtls
        if pair is None or dtls is None or dtls.state != "connected" or self._agent.silent:
            return None
        return Path(
            dtls, pair.gate.socket, pair.address, owned=False, gate=pair.gate, client=self._agent
        )

    def silence(self) -> None:
        """Synchronous: from here on nothing is received and nothing is sent."""
        self._agent.silent = True
        self._agent.on_media = self._agent.on_heard = self._on_state = None

    async def close(self) -> None:
        """Free the place at the port, tasks and SRTP contexts."""
        self._on_state = None
        await self._pc.close()
        await self._agent.close()
        dtls: Any = self._pc.dtls
        if dtls is not None:
            dtls._tx_srtp = dtls._rx_srtp = None
        self._agent.on_media = self._agent.on_heard = None

    def _moved(self, pair: Pair) -> None:
        if self._on_state is not None and self._pc.dtls is not None and self._pc.dtls.state == "connected":
            self._on_state("connected")

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if self._on_state is None:
            return
        if state == "connected":
            self._on_state("connected")
        elif state in ("failed", "closed"):
            tell, self._on_state = self._on_state, None
            tell("lost")


def _is_offered(codec: Any) -> bool:
    """Of what aiortc can: H.264 in one profile, which every decoder of another takes too."""
    if codec.name == "H264":
        return bool(codec.parameters["profile-level-id"] == _CONSTRAINED_BASELINE)
    return codec.name in ("VP8", "opus") or is_rtx(codec)


def _announced(media: MediaDescription) -> tuple[Encoding, ...]:
    """The layers that an m-line announces by SSRC: one, or a group of them, the smallest first."""
    repairs = {
        group.items[0]: int(group.items[1]) for group in media.ssrc_group
        if group.semantic == "FID" and len(group.items) == 2
    }  # fmt: skip
    for group in media.ssrc_group:
        if group.semantic == "SIM" and 1 < len(group.items) <= MOST_LAYERS:
            return tuple(Encoding(ssrc=int(item), repair_ssrc=repairs.get(item)) for item in group.items)
    first = next(iter(repairs), media.ssrc[0].ssrc if media.ssrc else None)
    return (Encoding(ssrc=None if first is None else int(first), repair_ssrc=repairs.get(first or 0)),)


def _one_codec(transceiver: RTCRtpTransceiver, media: MediaDescription, taken: Collection[str]) -> None:
    """Keep the first codec of the client's order that we take, and its retransmission type. H.264 of a profile
    that is not ours comes after everything else: our subscribers did not ask for it."""
    known = [codec for codec in media.rtp.codecs if codec.name in taken]
    for wanted in (_is_forwarded, _is_of_more_profiles):
        for offered in filter(wanted, known):
            again = [c for c in media.rtp.codecs if is_rtx(c) and c.parameters.get("apt") == offered.payloadType]
            transceiver._codecs = [_answered(offered), *(_answered(repair) for repair in again[:1])]
            return
    usable = ", ".join(words for name, words in codecs.FORWARDED.items() if name in taken)
    raise BadSdp(f"no codec that can be used here: {usable}")


def _is_of_more_profiles(offered: RTCRtpCodecParameters) -> bool:
    profile = str(offered.parameters.get("profile-level-id", "")).lower()
    return offered.name == "H264" and _is_fragmented(offered) and profile.startswith(_MORE_PROFILES)


def _is_fragmented(offered: RTCRtpCodecParameters) -> bool:
    return str(offered.parameters.get("packetization-mode", "0")) == "1"


def _is_forwarded(offered: RTCRtpCodecParameters) -> bool:
    if offered.name == "H264":
        if not _is_fragmented(offered):
            return False
        level_id = str(offered.parameters.get("profile-level-id", _CONSTRAINED_BASELINE))
        with contextlib.suppress(ValueError):  # a profile that aiortc has never heard of
            return parse_h264_profile_level_id(level_id)[0] in _BASELINE
        return False
    if offered.name in ("VP9", "AV1"):
        return str(offered.parameters.get("profile-id", offered.parameters.get("profile", "0"))) == "0"
    return offered.name in ("VP8", "opus")


def _answered(offered: RTCRtpCodecParameters) -> RTCRtpCodecParameters:
    """An offered codec as our answer has it."""
    parameters = offered.parameters
    if offered.name == "opus":
        parameters = dict(sdp_media.OPUS)
    elif offered.name == "H264":
        parameters = {name: parameters[name] for name in _H264_TERMS if name in parameters}
    return RTCRtpCodecParameters(
        mimeType=offered.mimeType, clockRate=offered.clockRate, channels=offered.channels,
        payloadType=offered.payloadType,
        parameters=parameters,
        rtcpFeedback=[known for known in _FEEDBACK if known in offered.rtcpFeedback],
    )  # fmt: skip


@contextlib.contextmanager
def _only_bad_sdp() -> Iterator[None]:
    """The one place where whatever aiortc raises over a description becomes BadSdp."""
    try:
        yield
    except BadSdp:
        raise
    except Exception as error:
        raise BadSdp(f"not usable: {type(error).__name__}") from error
