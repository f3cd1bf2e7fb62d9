"""aiortc's peer connection with one transport of ours, and with senders and receivers that only hold a place."""

from __future__ import annotations

from typing import Any

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, rtcdtlstransport
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcrtptransceiver import RTCRtpTransceiver

from media.aiortc_seam.ice import Agent

SRTP_PROFILES = (rtcdtlstransport.SRTP_AEAD_AES_128_GCM, rtcdtlstransport.SRTP_AES128_CM_SHA1_80)


def _private(thing: object, owner: type, name: str) -> Any:
    """The name-mangled attribute ``owner.__name`` of ``thing``."""
    return getattr(thing, f"_{owner.__name__}__{name}")


class _Sender(RTCRtpSender):
    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Media does not pass through aiortc."""

    async def stop(self) -> None:
        """Nothing was started."""


class _Receiver(RTCRtpReceiver):
    def __init__(self, kind: str, transport: RTCDtlsTransport) -> None:
        super().__init__(kind, transport)
        # A thousand buckets a line that nobody asks: the collector would look through them while packets wait.
        self._RTCRtpReceiver__remote_bitrate_estimator = None

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Media does not pass through aiortc."""

    async def stop(self) -> None:
        """Nothing was started."""

    def _handle_disconnect(self) -> None:
        """No decoder to stop."""


class PeerConnection(RTCPeerConnection):
    """A peer connection with one transport of ours, whatever the number of m-lines.

    The two methods below take the place of private ones of the base class: their names are what Python
    makes of ``__createDtlsTransport`` and ``__createTransceiver`` there.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.agent = agent
        self.dtls: RTCDtlsTransport | None = None

    def _RTCPeerConnection__createDtlsTransport(self) -> RTCDtlsTransport:
        assert self.dtls is None
        method = RTCPeerConnection._RTCPeerConnection__createDtlsTransport  # type: ignore[attr-defined]
        dtls: RTCDtlsTransport = method(self)
        ice = dtls.transport
        agent: Any = self.agent  # in place of aioice's
        ice.iceGatherer._connection = ice._connection = agent
        ice._recv, ice._send = agent.recv, agent.send
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
