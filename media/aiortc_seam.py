"""The one file that touches what aiortc, aioice and pylibsrtp keep to themselves.

aiortc keeps SDP, ICE and DTLS. Media is taken out of it: datagrams that may be SRTP leave the socket's
protocol before anything of aiortc sees them, and its senders and receivers only hold a place in the SDP.
ICE is held back: we are always controlled, know no remote candidate but those that checked in with the
right password, and take DTLS and media from nobody else (RFC 8445 section 7.3, RFC 7983).

``tests/unit/media/test_aiortc_seam.py`` fails when an upgrade moves anything that is used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from aioice import stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol, get_host_addresses
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcdtlstransport
from aiortc.codecs import is_rtx
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.sdp import SessionDescription
from pylibsrtp._binding import ffi, lib

from media import sdp_rules
from media.sdp_rules import BadSdp

VERSIONS = {"aiortc": "1.16.0", "aioice": "0.13.0", "pylibsrtp": "1.0.0"}
MOST_CHECKED = 32
"""Addresses that one connection may check in from."""
MOST_QUEUED = 64
"""DTLS datagrams that may wait for aiortc."""
SOCKET_BUFFER = 4 << 20
TRANSPORT_CC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
SRTP_PROFILES = (rtcdtlstransport.SRTP_AEAD_AES_128_GCM, rtcdtlstransport.SRTP_AES128_CM_SHA1_80)
State = Literal["connected", "lost"]


def _private(thing: object, owner: type, name: str) -> Any:
    """The name-mangled attribute ``owner.__name`` of ``thing``."""
    return getattr(thing, f"_{owner.__name__}__{name}")


# --- SRTP through cffi --------------------------------------------------------------------------------


class _Srtp:
    """libsrtp's in-place calls, ``(context, buffer, length pointer) -> 0 or an error``."""

    def __init__(self) -> None:
        library: Any = lib
        self.protect: Callable[[Any, Any, Any], int] = library.srtp_protect
        self.unprotect: Callable[[Any, Any, Any], int] = library.srtp_unprotect
        self.protect_rtcp: Callable[[Any, Any, Any], int] = library.srtp_protect_rtcp
        self.unprotect_rtcp: Callable[[Any, Any, Any], int] = library.srtp_unprotect_rtcp


srtp = _Srtp()


def workspace(size: int) -> tuple[Any, memoryview]:
    """A buffer for libsrtp and the same memory as a writable view."""
    buffer = ffi.new("char[]", size)
    return buffer, memoryview(ffi.buffer(buffer))


def lengths() -> Any:
    """The ``int *`` that libsrtp reads and writes lengths through."""
    return ffi.new("int *")


class Path:
    """A connected transport: SRTP contexts both ways, the socket, and the address that was nominated."""

    def __init__(self, dtls: RTCDtlsTransport, pair: CandidatePair) -> None:
        # The sessions own the contexts: keep them as long as the raw pointers are in use.
        self._sessions: tuple[Any, Any] = (dtls._tx_srtp, dtls._rx_srtp)
        self.protect_context: Any = dtls._tx_srtp._srtp[0]
        self.unprotect_context: Any = dtls._rx_srtp._srtp[0]
        self.address: tuple[str, int] = pair.remote_addr
        # uvloop's socket object cannot send; a duplicate descriptor can.
        number = pair.protocol.transport.get_extra_info("socket").fileno()
        self._socket = socket.socket(fileno=socket.dup(number))
        self._socket.setblocking(False)
        self.sendto: Callable[[memoryview, tuple[str, int]], int] = self._socket.sendto
        self.receive_into: Callable[[memoryview], int] = self._socket.recv_into

    def close(self) -> None:
        """Close the duplicate and let the contexts go."""
        self._socket.close()
        self._sessions = (None, None)
        self.protect_context = self.unprotect_context = None


def path_of(client: RTCPeerConnection) -> Path:
    """The transport of a connected stock client: for load generators, which take it over."""
    dtls = client.getTransceivers()[0].receiver.transport
    return Path(dtls, dtls.transport._connection._nominated[1])


# --- ICE that only answers ----------------------------------------------------------------------------


class _RoleRefusedError(Exception):
    """The other side insists on our being the controlling one."""


class _Protocol(StunProtocol):
    """Demultiplexes one socket (RFC 7983); whatever does not fit is dropped without a word."""

    receiver: _Agent

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        agent = self.receiver
        if not data or not isinstance(data, bytes) or agent.silent:
            return
        if len(addr) != 2:
            addr = addr[:2]
        first = data[0]
        if 128 <= first < 192:
            if agent.on_media is not None and addr in agent.checked:
                agent.on_media(data)
        elif first < 4:
            self._stun(data, (addr[0], addr[1]))
        elif 20 <= first < 64 and addr in agent.checked:
            agent.data_received(data, 1)

    def _stun(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = stun.parse_message(data)
            if message.message_class == stun.Class.REQUEST:
                self.receiver.request_received(message, addr, self)
            elif transaction := self.transactions.get(message.transaction_id):
                transaction.response_received(message, addr)
        except Exception:  # strangers' bytes: the parser raises whatever it likes
            self.receiver.malformed += 1

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        if not self.receiver.silent:
            super().send_stun(message, addr)

    async def send_data(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.receiver.silent:
            await super().send_data(data, addr)


class _Agent(Connection):
    """Always controlled; its only remote candidates are peers that checked in."""

    def __init__(self, addresses: tuple[str, ...], on_pair: Callable[[CandidatePair], None]) -> None:
        super().__init__(ice_controlling=False)
        self.checked: set[tuple[Any, ...]] = set()
        self.on_media: Callable[[bytes], None] | None = None
        self.on_heard: Callable[[], None] | None = None
        self.silent = False
        self.malformed = 0
        self._addresses = addresses
        self._on_pair = on_pair
        self._pair: CandidatePair | None = None
        self._tie_breaker = 0  # loses every role conflict, so that the other side becomes controlling

    async def gather_candidates(self) -> None:
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        loop = asyncio.get_running_loop()
        for address in self._addresses or get_host_addresses(use_ipv4=True, use_ipv6=True):
            with contextlib.suppress(OSError):
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: _Protocol(self), local_addr=(address, 0)
                )
                self._bound(transport, protocol)
        self._local_candidates_end = True

    def _bound(self, transport: asyncio.DatagramTransport, protocol: _Protocol) -> None:
        handle = transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        host, port = transport.get_extra_info("sockname")[:2]
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host", 65535 - len(self._protocols)),
            host=host,
            port=port,
            type="host",
        )
        self._protocols.append(protocol)
        self._local_candidates.append(protocol.local_candidate)

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Named candidates are not for us."""

    def request_received(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        attributes = message.attributes
        if (
            self._closing
            or message.message_method != stun.Method.BINDING
            or "USERNAME" not in attributes
            or "PRIORITY" not in attributes
            or not self._valid_username(attributes["USERNAME"])
            or not message.check_message_integrity(self.local_password.encode())
        ):
            return
        if addr not in self.checked and len(self.checked) >= MOST_CHECKED:
            return
        self.checked.add(addr)
        if self.on_heard is not None:
            self.on_heard()
        super().request_received(message, addr, protocol)

    def switch_role(self, ice_controlling: bool) -> None:
        if ice_controlling:
            raise _RoleRefusedError

    async def check_start(self, pair: CandidatePair) -> None:
        try:
            await super().check_start(pair)
        except _RoleRefusedError:
            self.check_state(pair, CandidatePair.State.FAILED)
            self.check_complete(pair)

    def check_complete(self, pair: CandidatePair) -> None:
        super().check_complete(pair)
        nominated = self._nominated.get(1)
        if nominated is not None and nominated is not self._pair:
            self._pair = nominated
            self._on_pair(nominated)

    def data_received(self, data: bytes, component: int) -> None:
        if self._queue.qsize() < MOST_QUEUED:
            super().data_received(data, component)


# --- senders and receivers that only hold a place -----------------------------------------------------


class _Sender(RTCRtpSender):
    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Media does not pass through aiortc."""

    async def stop(self) -> None:
        """Nothing was started."""


class _Receiver(RTCRtpReceiver):
    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Media does not pass through aiortc."""

    async def stop(self) -> None:
        """Nothing was started."""

    def _handle_disconnect(self) -> None:
        """No decoder to stop."""


class _PeerConnection(RTCPeerConnection):
    """A peer connection with one transport of ours, whatever the number of m-lines.

    The two methods below take the place of private ones of the base class: their names are what Python
    makes of ``__createDtlsTransport`` and ``__createTransceiver`` there.
    """

    def __init__(self, agent: _Agent) -> None:
        super().__init__(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.agent = agent
        self.dtls: RTCDtlsTransport | None = None

    def _RTCPeerConnection__createDtlsTransport(self) -> RTCDtlsTransport:
        assert self.dtls is None
        method = RTCPeerConnection._RTCPeerConnection__createDtlsTransport  # type: ignore[attr-defined]
        dtls: RTCDtlsTransport = method(self)
        ice = dtls.transport
        ice.iceGatherer._connection = self.agent
        ice._connection = self.agent
        ice._recv, ice._send = self.agent.recv, self.agent.send
        ice._role_set = True
        dtls._srtp_profiles = list(SRTP_PROFILES)
        self.dtls = dtls
        return dtls

    def _RTCPeerConnection__createTransceiver(
        self, direction: str, kind: str, sender_track: MediaStreamTrack | None = None
    ) -> RTCRtpTransceiver:
        transceivers: list[RTCRtpTransceiver] = _private(self, RTCPeerConnection, "transceivers")
        dtls = self.dtls or self._RTCPeerConnection__createDtlsTransport()
        transceiver = RTCRtpTransceiver(
            direction=direction, kind=kind, sender=_Sender(kind, dtls), receiver=_Receiver(kind, dtls)
        )
        transceiver._bundled = bool(transceivers)
        transceivers.append(transceiver)
        return transceiver


# --- what the plane uses ------------------------------------------------------------------------------


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

    def __init__(
        self, addresses: tuple[str, ...], on_state: Callable[[State], None], on_heard: Callable[[], None]
    ) -> None:
        self._agent = _Agent(addresses, self._moved)
        self._agent.on_heard = on_heard
        self._pc = _PeerConnection(self._agent)
        self._pc.on("connectionstatechange", self._state_changed)
        self._on_state: Callable[[State], None] | None = on_state
        self._lines: list[RTCRtpTransceiver] = []
        self.remote_fragment: str | None = None
        """The client's ICE user fragment: another one means another connection of the client."""

    # signaling

    async def answer(self, sdp: str) -> tuple[str, list[Received], int]:
        """Answer an offer: our SDP, what is received, the id of the transport-wide number (0: none)."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            assert self._pc.dtls is not None
            if self._pc.dtls._role == "auto":
                # Passive, unless the client is: some stacks speak no ECDSA as DTLS servers.
                self._pc.dtls._set_role("client" if "a=setup:passive" in sdp else "server")
            for transceiver in self._pc.getTransceivers():
                _one_codec(transceiver)
            transport_cc = sdp_rules.extension_id(sdp, TRANSPORT_CC_URI)
            text = (await self._pc.createAnswer()).sdp
            if transport_cc:
                text = sdp_rules.with_transport_cc(text, transport_cc, TRANSPORT_CC_URI)
            await self._pc.setLocalDescription(RTCSessionDescription(text, "answer"))
            self.remote_fragment = sdp_rules.fragment(sdp)
            return sdp_rules.slim(self._pc.localDescription.sdp), self._received(remote), transport_cc
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

    async def offer(self) -> tuple[str, list[str]]:
        """Offer all reserved lines: our SDP with every candidate, and the mids by index."""
        with _only_bad_sdp():
            text = sdp_rules.without_extensions((await self._pc.createOffer()).sdp)
            await self._pc.setLocalDescription(RTCSessionDescription(text, "offer"))
            return sdp_rules.slim(self._pc.localDescription.sdp), [line.mid or "" for line in self._lines]
        raise AssertionError("unreachable")

    async def accept_answer(self, sdp: str) -> list[Line]:
        """Apply the client's answer; the lines by index."""
        with _only_bad_sdp():
            remote = SessionDescription.parse(sdp)
            sdp_rules.check_parsed(remote)
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
            self.remote_fragment = sdp_rules.fragment(sdp)
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

    def on_media(self, handler: Callable[[bytes], None] | None) -> None:
        """Who gets the datagrams that may be SRTP or SRTCP."""
        self._agent.on_media = handler

    def path(self) -> Path | None:
        """The transport, once connected. The caller closes it."""
        pair, dtls = self._agent._pair, self._pc.dtls
        if pair is None or dtls is None or dtls.state != "connected" or self._agent.silent:
            return None
        return Path(dtls, pair)

    def silence(self) -> None:
        """Synchronous: from here on nothing is received and nothing is sent."""
        self._agent.silent = True
        self._agent.on_media = self._agent.on_heard = self._on_state = None

    async def close(self) -> None:
        """Free sockets, tasks and SRTP contexts."""
        self._on_state = None
        await self._pc.close()
        await self._agent.close()
        dtls: Any = self._pc.dtls
        if dtls is not None:
            dtls._tx_srtp = dtls._rx_srtp = None
        self._agent.on_media = self._agent.on_heard = None

    def _moved(self, pair: CandidatePair) -> None:
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
