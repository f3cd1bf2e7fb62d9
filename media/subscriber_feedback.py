"""What a subscriber's connection says back: NACKs, key-frame requests, receiver reports, and what of its line."""

from __future__ import annotations

from collections.abc import Callable

from media import rtp
from media.downlink import Downlink
from media.forwarding import MOST_SOURCES, SMALLEST_PACKET, open_known
from media.repairs import Repairs
from media.slots import Slot
from media.wire import LARGEST_PACKET, Wire


class Egress:
    """What a subscriber's connection says back: NACKs, key-frame requests, receiver reports."""

    def __init__(
        self, wire: Wire, slots: dict[int, Slot], now_ms: Callable[[], int], downlink: Downlink | None = None
    ) -> None:
        """``downlink``: what it says of its line goes there, and what is sent again; without one, at once."""
        self.wire = wire
        self.downlink = downlink
        self.nacks = self.retransmitted = self.keyframe_requests = 0
        self._slots = slots
        self._now_ms = now_ms
        self._talkers: set[int] = set()
        self._repairs = Repairs()

    def receive(self, data: bytes) -> None:
        """One datagram that may be SRTCP."""
        if not rtp.is_rtcp(data) or not SMALLEST_PACKET <= len(data) <= LARGEST_PACKET:
            return
        compound = open_known(self.wire, self._talkers, data)
        if compound is not None:
            self.compound(compound)

    def compound(self, data: bytes) -> None:
        """RTCP of the subscriber, opened."""
        now_ms = self._now_ms()
        for packet in rtp.compound(data):
            if packet.kind == rtp.RTPFB and packet.fmt == rtp.FMT_NACK:
                slot = self._slots.get(rtp.media_ssrc(packet.body))
                if slot is not None:
                    self._retransmit(slot, packet.body, now_ms)
            elif packet.kind == rtp.PSFB and packet.fmt in (rtp.FMT_PLI, rtp.FMT_FIR):
                self._keyframe(packet, now_ms)
            elif self.downlink is not None and packet.kind == rtp.RTPFB and packet.fmt == rtp.FMT_TRANSPORT_CC:
                self.downlink.feedback(packet.body, now_ms)
            elif self.downlink is not None and packet.kind == rtp.PSFB and packet.fmt == rtp.FMT_REMB:
                told = rtp.told_bitrate(packet.body)
                if told is not None:
                    self.downlink.told(*told, now_ms)
            elif packet.kind in (rtp.RR, rtp.SR):
                for block in rtp.report_blocks(packet):
                    if (slot := self._slots.get(block.ssrc)) is not None:
                        slot.far_end.reported(block, now_ms)

    def _keyframe(self, packet: rtp.Rtcp, now_ms: int) -> None:
        wanted = [rtp.media_ssrc(packet.body)] if packet.fmt == rtp.FMT_PLI else rtp.fir_ssrcs(packet.body)
        for ssrc in wanted[:MOST_SOURCES]:
            slot = self._slots.get(ssrc)
            if slot is not None and slot.track is not None:
                self.keyframe_requests += 1
                if self._repairs.may_refresh(slot, now_ms):
                    slot.track.request_keyframe(now_ms, slot.layer if slot.live else slot.target)

    def _retransmit(self, slot: Slot, nack: bytes, now_ms: int) -> None:
        track, wire, payload_type, repair_type = slot.track, slot.wire, slot.payload_type(), slot.repair_type()
        if track is None or wire is None or payload_type is None:
            return
        self.nacks += 1
        repairs = self._repairs
        for outgoing in repairs.wanted(slot, nack, now_ms):
            if repairs.was_just_sent(slot, outgoing, now_ms):
                continue
            kept = track.find(slot, outgoing)
            if kept is None:
                continue
            if not repairs.take(slot, outgoing, kept.size, now_ms):
                if repairs.may_skip(slot, now_ms) and repairs.may_refresh(slot, now_ms):
                    track.request_keyframe(now_ms, slot.layer)
                return
            if self.downlink is not None and slot.kind == "video":
                self.downlink.repair(slot, outgoing)
            elif repair_type is not None:
                wire.send_repair(slot, kept, repair_type)
            else:
                wire.send_rtp(slot, kept, payload_type)
            self.retransmitted += 1
