"""The contract with what aiortc, aioice and pylibsrtp keep to themselves: an upgrade that moves it fails here."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
from importlib.metadata import version

import aioice.ice
import pylibsrtp
import pytest
from aiortc import RTCPeerConnection, rtcdtlstransport
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcrtptransceiver import RTCRtpTransceiver

from media import aiortc_seam
from media.aiortc_seam.connection import PeerConnection
from media.aiortc_seam.ice import Agent
from media.port import Port

LOOPBACK = ("127.0.0.1",)


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


def test_a_line_holds_no_estimator_whose_thousand_parts_every_collection_would_look_through() -> None:
    async def scenario() -> None:
        port = Port(LOOPBACK)
        pc = PeerConnection(Agent(port, lambda pair: None))
        receiver = pc.addTransceiver("video", direction="recvonly").receiver
        estimators = [held for held in vars(receiver) if held.endswith("bitrate_estimator")]
        assert [vars(receiver)[held] for held in estimators] == [None]
        assert not [held for held in gc.get_referents(vars(receiver)) if isinstance(held, RemoteBitrateEstimator)]
        await pc.close()
        await pc.agent.close()
        port.close()

    asyncio.run(scenario())


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


def test_the_agent_has_whatever_aiortc_asks_of_a_connection() -> None:
    source = inspect.getsource(RTCIceTransport) + inspect.getsource(RTCIceGatherer)
    used = set(re.findall(r"_connection\.(\w+)", source)) | {"ice_controlling"}
    assert used == {
        "add_remote_candidate", "close", "connect", "get_event", "ice_controlling", "local_candidates",
        "local_password", "local_username", "recv", "remote_candidates", "remote_is_lite", "remote_password",
        "remote_username", "send", "gather_candidates",
    }  # fmt: skip

    async def scenario() -> None:
        port = Port(LOOPBACK)
        agent = Agent(port, lambda pair: None)
        for name in used:
            assert hasattr(agent, name), name
        agent.ice_controlling = True
        assert not agent.ice_controlling
        await agent.close()
        assert isinstance(await agent.get_event(), aioice.ice.ConnectionClosed)
        for ended in (agent.connect(), agent.recv(), agent.send(b"")):
            with pytest.raises(ConnectionError):
                await ended
        port.close()

    asyncio.run(scenario())


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
        port = Port(LOOPBACK)
        leg = aiortc_seam.Leg(port, lambda state: None, lambda: None)
        try:
            ssrcs = {leg.add_line(kind, "seat0") for kind in ("audio", "video", "video")}
            sdp, mids = await leg.offer()
            assert len(ssrcs) == 3
            assert mids == ["0", "1", "2"]
            assert sdp.count("a=candidate:") == 3
            assert sdp.count("\r\na=ice-lite\r\n") == 1
            assert sdp.index("a=ice-lite") < sdp.index("m=")
            assert len({line for line in sdp.splitlines() if line.startswith("a=candidate:")}) == 1
            assert sdp.count("a=extmap:") == sdp.count(aiortc_seam.TRANSPORT_CC_URI) == 2
            assert sdp.count("a=ssrc-group:FID ") == 2, "pictures are sent again under an SSRC of their own"
            for codec, count in {"VP8": 2, "H264": 2, "VP9": 2, "AV1": 2, "rtx": 8, "opus": 0}.items():
                assert sdp.count(f" {codec}/90000") == count
            assert leg.path() is None
        finally:
            await leg.close()
            assert port.tables() == (0, 0, 0)
            port.close()

    asyncio.run(scenario())


def test_aes_128_gcm_is_asked_for_first() -> None:
    assert [profile.openssl_profile for profile in aiortc_seam.SRTP_PROFILES] == [
        b"SRTP_AEAD_AES_128_GCM",
        b"SRTP_AES128_CM_SHA1_80",
    ]
