"""The contract with what aiortc, aioice and pylibsrtp keep to themselves: an upgrade that moves it fails here."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
from importlib.metadata import version

import aioice.ice
import pylibsrtp
from aioice import stun
from aiortc import RTCPeerConnection, rtcdtlstransport
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcrtptransceiver import RTCRtpTransceiver

from media import aiortc_seam


def test_the_pinned_versions_are_installed() -> None:
    for package, expected in aiortc_seam.VERSIONS.items():
        assert version(package) == expected, f"read {package}'s changes, then media/aiortc_seam, then this"


def test_the_methods_that_are_replaced_are_still_called() -> None:
    source = inspect.getsource(RTCPeerConnection)
    assert source.count("self.__createDtlsTransport()") == 2
    assert source.count("self.__createTransceiver(") == 3
    assert "def __createDtlsTransport(self) -> RTCDtlsTransport:" in source
    assert "def __createTransceiver(" in source
    for name in ("_bundled", "_codecs", "_preferred_codecs", "_headerExtensions", "_offerDirection"):
        assert name in inspect.getsource(RTCRtpTransceiver), name
    for name in ("_ssrc", "_stream_id", "_track_id"):
        assert f"self.{name} =" in inspect.getsource(RTCRtpSender), name


def test_the_transport_is_wired_as_the_seam_rewires_it() -> None:
    ice = inspect.getsource(RTCIceTransport.__init__)
    for line in (
        "self._connection = gatherer._connection",
        "self._recv = self._connection.recv",
        "self._send = self._connection.send",
        "self._role_set = False",
    ):
        assert line in ice
    assert "self._connection = Connection(" in inspect.getsource(RTCIceGatherer.__init__)
    dtls = inspect.getsource(rtcdtlstransport.RTCDtlsTransport)
    for line in (
        "self._srtp_profiles = SRTP_PROFILES",
        'self._role = "auto"',
        "self._tx_srtp = Session(tx_policy)",
        "self._rx_srtp = Session(rx_policy)",
        "tx_policy.allow_repeat_tx = True",
        "def _set_role(self, role: str)",
    ):
        assert line in dtls, line


def test_the_ice_agent_is_built_as_the_seam_holds_it_back() -> None:
    connection = inspect.getsource(aioice.ice.Connection)
    for line in (
        "self._local_candidates_start = False",
        "self._local_candidates_end = False",
        "self._protocols: list[StunProtocol] = []",
        "self._nominated: dict[int, CandidatePair] = {}",
        "self._queue: asyncio.Queue",
        "self._tie_breaker =",
        "self._closing = False",
        "def _valid_username(self, username: str) -> bool:",
        "self._nominated[pair.component] = pair",
        "self.switch_role(ice_controlling=True)",
        "await self.check_start(pair)",
    ):
        assert line in connection, line
    protocol = inspect.getsource(aioice.ice.StunProtocol)
    assert "self.transactions: dict[bytes, stun.Transaction] = {}" in protocol
    assert list(inspect.signature(stun.Transaction.response_received).parameters) == ["self", "message", "addr"]


def test_srtp_works_in_place_on_raw_contexts() -> None:
    policy = pylibsrtp.Policy(
        key=bytes(range(28)),
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    )
    policy.allow_repeat_tx = True
    session = pylibsrtp.Session(policy)
    packet = b"\x80\x60\x00\x01" + bytes(8) + b"payload"
    buffer, view = aiortc_seam.workspace(200)
    length = aiortc_seam.lengths()
    results = []
    for _ in range(2):
        view[: len(packet)] = packet
        length[0] = len(packet)
        assert aiortc_seam.srtp.protect(session._srtp[0], buffer, length) == 0
        results.append(bytes(view[: length[0]]))
    assert len(results[0]) == len(packet) + 16
    assert results[0] == results[1], "a retransmission is the same bytes again"


def test_one_transport_carries_all_lines_and_nothing_of_aiortc_sees_media() -> None:
    async def scenario() -> None:
        leg = aiortc_seam.Leg(("127.0.0.1",), lambda state: None, lambda: None)
        try:
            ssrcs = {leg.add_line(kind, "seat0") for kind in ("audio", "video", "video")}
            sdp, mids = await leg.offer()
            assert len(ssrcs) == 3
            assert mids == ["0", "1", "2"]
            assert sdp.count("a=candidate:") == 3
            assert len({line for line in sdp.splitlines() if line.startswith("a=candidate:")}) == 1
            assert "extmap" not in sdp
            assert "rtx" not in sdp
            assert leg.path() is None
        finally:
            await leg.close()

    asyncio.run(scenario())


def test_what_waits_in_the_kernel_is_read_to_its_end_by_the_usual_path_and_in_parts() -> None:
    async def scenario() -> None:
        taken: list[bytes] = []
        leg = aiortc_seam.Leg(("127.0.0.1",), lambda state: None, lambda: None)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as creator, socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM
        ) as stranger:
            for sender in (creator, stranger):
                sender.bind(("127.0.0.1", 0))
            try:
                leg.add_line("video", "seat0")
                sdp, _ = await leg.offer()
                port = int(re.findall(r"udp \d+ 127\.0\.0\.1 (\d+) typ host", sdp)[0])
                leg._agent.checked.add(creator.getsockname())
                leg.on_media(taken.append)
                assert leg.drain(10), "nothing waits"
                # Given datagrams that came while the loop did not turn
                for number in range(5):
                    creator.sendto(bytes([128, number]), ("127.0.0.1", port))
                    stranger.sendto(bytes([128, 100]), ("127.0.0.1", port))
                # When they are read, then a part when a part is asked for, and of those who checked in
                assert not leg.drain(4)
                assert taken == [b"\x80\x00", b"\x80\x01"]
                assert leg.drain(1_000)
                assert taken == [bytes([128, number]) for number in range(5)]
                # And of a leg that is silent nothing
                creator.sendto(b"\x80\x09", ("127.0.0.1", port))
                leg.silence()
                assert leg.drain(1_000)
                assert len(taken) == 5
            finally:
                await leg.close()
        assert leg.drain(1_000), "a leg that is closed has nothing waiting"

    asyncio.run(scenario())


def test_aes_128_gcm_is_asked_for_first() -> None:
    assert [profile.openssl_profile for profile in aiortc_seam.SRTP_PROFILES] == [
        b"SRTP_AEAD_AES_128_GCM",
        b"SRTP_AES128_CM_SHA1_80",
    ]
