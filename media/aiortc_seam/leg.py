"""One peer connection of a participant, as the plane uses it: SDP in and out, a transport, an end.

Whatever aiortc raises over a description becomes ``BadSdp`` here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from aiortc import RTCSessionDescription
from aiortc.codecs import is_rtx
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.sdp import SessionDescription
from OpenSSL import SSL

from media import sdp_rules
from media.aiortc_seam.connection import PeerConnection
from media.aiortc_seam.ice import Agent, Pair
from media.aiortc_seam.transport import Path
from media.port import Port
from media.sdp_rules import BadSdp

TRANSPORT_CC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
State = Literal["connected", "lost"]


class Received(NamedTuple):
    """An m-line on which the client sends."""

    mid: str
    kind: str
    codec: str
    clock_rate: int
    payload_type: int
    retransmission_type: int | None
    ssrcs: tuple[int, ...]
    """Announced: the media's, then its retransmission's. May be empty."""


class Line(NamedTuple):
    """An m-line on which we send."""

    mid: str
    payload_types: dict[str, int]
    """By codec name; what the client accepted."""


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

    async def answer(self, sdp: str) -> tuple[str, list[Received], int]:
        """Answer an offer: our SDP, what is received, the id of the transport-wide number (0: none)."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            if self._agent.remote_fragment not in (None, sdp_rules.fragment(sdp)):
                self._agent.restart()
            self._named(remote, sdp)
            self._be_server(sdp)
            for transceiver in self._pc.getTransceivers():
                _one_codec(transceiver)
            transport_cc = sdp_rules.extension_id(sdp, TRANSPORT_CC_URI)
            text = (await self._pc.createAnswer()).sdp
            if transport_cc:
                text = sdp_rules.with_transport_cc(text, transport_cc, TRANSPORT_CC_URI)
            await self._pc.setLocalDescription(RTCSessionDescription(text, "answer"))
            return self._described(), self._received(remote), transport_cc
        raise AssertionError("unreachable")

    def _received(self, remote: SessionDescription) -> list[Received]:
        received = []
        for media in remote.media:
            transceiver = next(t for t in self._pc.getTransceivers() if t.mid == media.rtp.muxId)
            if transceiver.currentDirection != "recvonly":
                continue
            codec, *rest = transceiver._codecs
            ssrcs = [media.ssrc[0].ssrc] if media.ssrc else []
            for group in media.ssrc_group:
                if group.semantic == "FID" and len(group.items) == 2:
                    ssrcs = [int(item) for item in group.items]
                    break
            received.append(
                Received(
                    media.rtp.muxId, media.kind, codec.name, codec.clockRate, codec.payloadType or 0,
                    rest[0].payloadType if rest else None, tuple(ssrcs),
                )
            )  # fmt: skip
        return received

    def add_line(self, kind: str, stream: str) -> int:
        """Reserve one more m-line to send on; its SSRC. Offered with the next ``offer``."""
        transceiver = self._pc.addTransceiver(kind, direction="sendonly")
        capabilities = RTCRtpSender.getCapabilities(kind).codecs
        names = ("opus",) if kind == "audio" else ("VP8", "H264")
        transceiver.setCodecPreferences([codec for codec in capabilities if codec.name in names])
        transceiver.sender._stream_id = stream
        transceiver.sender._track_id = f"{kind}-{stream}"
        self._lines.append(transceiver)
        return transceiver.sender._ssrc

    async def offer(self, *, restart: bool = False) -> tuple[str, list[str]]:
        """Offer all reserved lines: our SDP with every candidate, and the mids by index. ``restart``: with new
        ICE credentials, while media goes on over the old ones."""
        if restart:
            self._agent.restart()
        with _only_bad_sdp():
            text = sdp_rules.without_extensions((await self._pc.createOffer()).sdp)
            await self._pc.setLocalDescription(RTCSessionDescription(text, "offer"))
            return self._described(), [line.mid or "" for line in self._lines]
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
            await self._pc.setLocalDescription(RTCSessionDescription(text, "answer"))
            return self._described(), [self._line(transceiver) for transceiver in self._lines]
        raise AssertionError("unreachable")

    def _be_server(self, offer: str) -> None:
        """DTLS: passive, unless the client is. Some stacks speak no ECDSA as DTLS servers."""
        assert self._pc.dtls is not None
        if self._pc.dtls._role == "auto":
            self._pc.dtls._set_role("client" if "a=setup:passive" in offer else "server")

    async def accept_answer(self, sdp: str) -> list[Line]:
        """Apply the client's answer; the lines by index."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
            self._named(remote, sdp)
            return [self._line(transceiver) for transceiver in self._lines]
        raise AssertionError("unreachable")

    @staticmethod
    def _line(transceiver: RTCRtpTransceiver) -> Line:
        accepted: dict[str, int] = {}
        if transceiver.currentDirection == "sendonly":
            for codec in transceiver._codecs:
                # Of several H.264 profiles the last one offered is constrained baseline: prefer it.
                accepted[codec.name] = codec.payloadType or 0
        return Line(transceiver.mid or "", accepted)

    # transport

    @property
    def remote_fragment(self) -> str | None:
        """What the client's ICE calls itself now."""
        return self._agent.remote_fragment

    def restart(self, fragment: str, password: str) -> tuple[str, str]:
        """An ICE restart outside any description (RFC 9725 section 4.3.1): the client's new names in, ours out.
        Media goes on over the old ones until the new ones have nominated a pair."""
        self._agent.restart()
        self._agent.set_remote(fragment, password)
        return self._agent.local_username, self._agent.local_password

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
        return Path(dtls, pair.gate.socket, pair.address, owned=False)

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


def _one_codec(transceiver: RTCRtpTransceiver) -> None:
    """Keep the first codec of the client's order that we forward, and its retransmission type."""
    for codec in transceiver._codecs:
        if codec.name in ("VP8", "H264", "opus"):
            again = [c for c in transceiver._codecs if is_rtx(c) and c.parameters.get("apt") == codec.payloadType]
            transceiver._codecs = [codec, *again[:1]]
            return
    raise BadSdp("no codec that is forwarded: VP8, H264 (packetization-mode 1), opus")


@contextlib.contextmanager
def _only_bad_sdp() -> Iterator[None]:
    """The one place where whatever aiortc raises over a description becomes BadSdp."""
    try:
        yield
    except BadSdp:
        raise
    except Exception as error:
        raise BadSdp(f"not usable: {type(error).__name__}") from error
