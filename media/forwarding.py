"""The path of a packet: receive, unprotect, read the header once, fan out, rewrite, protect, send.

Nothing is decoded, nothing is awaited between receive and send, and nothing is queued: what the socket
does not take at once is lost, as on any network. SRTP works in place on one buffer through cffi.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from media import fastpath, rtp
from media.aiortc_seam import Path, lengths, srtp, workspace
from media.ceiling import Ceiling
from media.codecs import vp8_shift
from media.downlink import Downlink
from media.feedback import Arrivals
from media.layers import Kept, Lane, Layer
from media.repairs import Repairs
from media.send_history import OVERHEAD, History, SendHistory
from media.tracks import PublishedTrack, Slot

LARGEST_PACKET = 1500
SMALLEST_PACKET = 12 + 8
MOST_SOURCES = 32
"""SSRCs that one connection may bring at a time: each costs an SRTP stream."""
MOST_OPENED = 96
"""And over its whole life, whichever offers brought them: SRTP forgets none, and looks through them in a row."""
STRANGER_PACKETS = 100
"""Packets of an SSRC that we try to place, by their extensions, before it is ignored."""
MOST_PADDING = 255
"""Bytes: the count is one of them."""
ASK_EVERY_MS = 5
"""So often holes are looked at, however many packets come meanwhile: to look at all of a hostile publisher's costs
0.3 ms. A number waits longer for its first request and for each next one."""
OWN_SSRC = 1
"""We send no media of our own, so any SSRC does for our feedback (RFC 8108 section 6)."""

native = fastpath.load()
"""Fan-out in C, if it was built; without it the same in Python."""
_pack_header = rtp.RTP_HEADER.pack_into
_pack_number = Struct("!H").pack_into
_EXTENSION = Struct("!HHBHB")
_buffer, _view = workspace(2048)
_length = lengths()


class Wire:
    """One connected transport: a socket, the address that checked in, and two SRTP contexts."""

    __slots__ = (
        "_destination", "_path", "_refused", "address", "history", "protect_context", "sendto",
        "unprotect_context",
    )  # fmt: skip

    def __init__(self, path: Path, history: History | None = None) -> None:
        """``history``: of a connection whose packets may carry transport-wide numbers; at another address the same
        goes on."""
        self._path: Path | None = path
        self.history = history
        self.protect_context: Any = path.protect_context
        self.unprotect_context: Any = path.unprotect_context
        self.sendto = path.sendto
        self.address = path.address
        self._destination = 0
        self._refused = 0

    @property
    def destination(self) -> int:
        """Of the native fan-out, which has places for 4,095: taken when something is first forwarded here. 0:
        there is none, or no place, and fan-out is in Python."""
        if not self._destination and native is not None and self._path is not None:
            history = self.history if isinstance(self.history, fastpath.NativeHistory) else None
            self._destination = native.destination(
                self.protect_context, self._path.socket, self.address, history
            )
        return self._destination

    @property
    def refused(self) -> int:
        """Packets that the socket did not take, also after ``close``. What fan-out in Python could not send is
        with the publisher (``Ingress.refused``)."""
        return self._refused + (native.refused(self._destination) if native is not None else 0)

    def open_rtp(self, data: bytes) -> bytes | None:
        """The RTP packet inside, or None if it does not authenticate or came before."""
        return self._open(srtp.unprotect, data)

    def open_rtcp(self, data: bytes) -> bytes | None:
        """The compound inside, or None."""
        return self._open(srtp.unprotect_rtcp, data)

    def _open(self, unprotect: Callable[[Any, Any, Any], int], data: bytes) -> bytes | None:
        size = len(data)
        if self._path is None or size > LARGEST_PACKET:
            return None
        _view[:size] = data
        _length[0] = size
        if unprotect(self.unprotect_context, _buffer, _length):
            return None
        return bytes(_view[: _length[0]])

    def send_rtcp(self, compound: bytes) -> None:
        """Protect and send a compound; lost if the socket is full."""
        size = len(compound)
        if self._path is None or size > LARGEST_PACKET - 100:
            return
        _view[:size] = compound
        _length[0] = size
        if srtp.protect_rtcp(self.protect_context, _buffer, _length):
            return
        self._send(_view[: _length[0]])

    def send_rtp(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        """Send one packet as ``slot``'s subscriber knows it; the same bytes each time it is called, unless it
        carries a transport-wide number: then it may be called once (``Slot.extension``)."""
        if self._path is None:
            return
        numbers = (
            kept.marker | payload_type, (kept.sequence + slot.sequence_offset) & 0xFFFF,
            (kept.timestamp + slot.timestamp_offset) & 0xFFFFFFFF, slot.ssrc,
        )  # fmt: skip
        start = _head(numbers, slot.extension(), self.history, len(kept.packet))
        end = start + len(kept.packet) - 12
        _view[start:end] = kept.packet[12:]
        if slot.shift is not None:
            vp8_shift(_view, start, slot.shift)
        self._seal_and_send(end)

    def send_repair(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        """Send one packet again under the slot's repair SSRC (RFC 4588 section 4), with a number of its own."""
        if self._path is None:
            return
        start = self._repair_head(slot, kept.marker | payload_type, kept.timestamp, len(kept.packet) + 2)
        end = start + 2 + len(kept.packet) - 12
        _pack_number(_view, start, (kept.sequence + slot.sequence_offset) & 0xFFFF)
        _view[start + 2 : end] = kept.packet[12:]
        if slot.shift is not None:
            vp8_shift(_view, start + 2, slot.shift)
        self._seal_and_send(end)

    def send_padding(self, slot: Slot, payload_type: int) -> None:
        """Send as much of nothing under the slot's repair SSRC as a packet may hold (RFC 3550 section 5.1)."""
        if self._path is None:
            return
        start = self._repair_head(slot, payload_type, slot.last_timestamp or 0, 12 + MOST_PADDING)
        end = start + MOST_PADDING
        _view[0] |= 0x20
        _view[start:end] = bytes(MOST_PADDING - 1) + bytes((MOST_PADDING,))
        self._seal_and_send(end)

    def _repair_head(self, slot: Slot, kind: int, timestamp: int, size: int) -> int:
        slot.repairs += 1
        later = (timestamp + slot.timestamp_offset) & 0xFFFFFFFF
        return _head(
            (kind, slot.repairs & 0xFFFF, later, slot.repair_ssrc), slot.extension(), self.history, size
        )

    def _seal_and_send(self, size: int) -> None:
        _length[0] = size
        if not srtp.protect(self.protect_context, _buffer, _length):
            self._send(_view[: _length[0]])

    def _send(self, data: memoryview) -> None:
        try:
            self.sendto(data, self.address)
        except OSError:
            self._refused += 1

    def close(self) -> None:
        """Forget the contexts and close the socket; nothing is sent any more."""
        if self._path is not None:
            if native is not None:
                self._refused += native.refused(self._destination)
                native.forget(self._destination)
                self._destination = 0
            self._path.close()
            self._path = None
            self.protect_context = self.unprotect_context = None


def _head(numbers: tuple[int, int, int, int], extension: int, history: History | None, size: int) -> int:
    """Write the header of a packet of ``size`` bytes, numbered if it is to be; where its payload begins."""
    if not extension or history is None:
        _pack_header(_view, 0, 0x80, *numbers)
        return 12
    _pack_header(_view, 0, 0x90, *numbers)
    # The one-byte form, one element of two bytes and a byte of padding (RFC 8285 section 4.2).
    number = history.stamp(size + _EXTENSION.size + OVERHEAD)
    _EXTENSION.pack_into(_view, 12, 0xBEDE, 1, extension << 4 | 1, number, 0)
    return 12 + _EXTENSION.size


def fan_out(layer: Layer, kept: Kept) -> int:
    """Send a fresh packet to every slot that carries the layer; returns how many the sockets refused.

    The native one sends at ``flush``, and counts what was refused with each wire."""
    sequence, timestamp, marker, packet = kept.sequence, kept.timestamp, kept.marker, kept.packet
    lanes = layer.lanes
    if native is not None:
        if layer.native is None:
            layer.native = (
                native.lanes(_copy(lane) for lane in lanes if lane[8]),
                [lane for lane in lanes if not lane[8]],
            )
        placed, lanes = layer.native
        native.packet(placed, packet, sequence, timestamp, marker)
        if not lanes:
            return 0
    size, payload = len(packet), packet[12:]
    view, buffer, length, protect = _view, _buffer, _length, srtp.protect
    refused = 0
    for payload_type, by, later, ssrc, context, send, address, shift, _, extension, history in lanes:
        numbers = (
            marker | payload_type, (sequence + by) & 0xFFFF, (timestamp + later) & 0xFFFFFFFF, ssrc,
        )  # fmt: skip
        start = _head(numbers, extension, history, size)
        view[start : start + size - 12] = payload
        if shift is not None:
            vp8_shift(view, start, shift)
        length[0] = start + size - 12
        if protect(context, buffer, length):
            refused += 1
            continue
        try:
            send(view[: length[0]], address)
        except OSError:
            refused += 1
    return refused


def flush() -> None:
    """Send what fan-out has sealed: after every batch of datagrams."""
    if native is not None:
        native.flush()


def _copy(lane: Lane) -> fastpath.Copy:
    payload_type, sequence_offset, timestamp_offset, ssrc, _, _, _, shift, destination, extension, _ = lane
    return fastpath.Copy(destination, payload_type, ssrc, sequence_offset, timestamp_offset, shift, extension)


def new_history() -> History:
    """The numbers of one subscriber's connection, of the kind that fan-out can use."""
    return native.history() if native is not None else SendHistory()


def late(track: PublishedTrack, layer: Layer, kept: Kept) -> None:
    """Send a packet that came out of order to the slots that carried its layer when it was due."""
    for slot in tuple(track.slots):
        if not slot.live or slot.layer is not layer or slot.wire is None or kept.sequence < slot.first:
            continue
        payload_type = slot.payload_type()
        if payload_type is not None:
            slot.wire.send_rtp(slot, kept, payload_type)


class Source:
    """One SSRC of a publisher: a layer of a track, or that layer's retransmission stream."""

    __slots__ = ("layer", "mid", "retransmission", "track")

    def __init__(self, track: PublishedTrack, layer: Layer, mid: str, *, retransmission: bool) -> None:
        self.track = track
        self.layer = layer
        self.mid = mid
        self.retransmission = retransmission


class Extensions(NamedTuple):
    """The ids that the latest offer gives the header extensions we read; 0: it has none.

    Looked up once an offer: per packet ``rtp.extension`` gets the id, and only where it is needed.
    """

    transport_cc: int = 0
    mid: int = 0
    rid: int = 0
    repaired_rid: int = 0


class Bindings(NamedTuple):
    """What an offer says about packets."""

    announced: dict[int, Source]
    """By SSRC."""
    by_payload_type: dict[int, list[Source]]
    extensions: Extensions


class Ingress:
    """What a publisher's connection brings. ``receive`` is called for every datagram that may be SRTP."""

    def __init__(self, wire: Wire, now_ms: Callable[[], int]) -> None:
        self.wire = wire
        self.tracks: list[PublishedTrack] = []
        self.by_payload_type: dict[int, list[Source]] = {}
        self.extensions = Extensions()
        self.arrivals: Arrivals | None = None
        self.packets_in = self.bytes_in = self.refused = 0
        self.unknown = self.unopened = 0
        """Datagrams of SSRCs that nobody announced, and those that did not authenticate or came before."""
        self._now_ms = now_ms
        self._announced: dict[int, Source] = {}
        self._sources: dict[int, Source] = {}
        """Whose packets have come."""
        self._opened: set[int] = set()
        """Every SSRC that has authenticated, whoever it was or is."""
        self._strangers: dict[int, int] = {}
        self._holes: dict[Layer, PublishedTrack] = {}
        """Layers of which something is missing that may be sent again, or will not come any more."""
        self._asked_ms = -ASK_EVERY_MS
        self._talkers: set[int] = set()
        self._ceiling = Ceiling()

    def bind(self, tracks: list[PublishedTrack], bindings: Bindings) -> None:
        """Take over what the latest offer said. SSRCs that packets told stay with tracks that stay: browsers say
        only at the beginning which layer an SSRC is."""
        self.tracks = tracks
        self._holes.clear()
        self.by_payload_type = bindings.by_payload_type
        self._announced = bindings.announced
        self._sources = {ssrc: source for ssrc, source in self._sources.items() if source.track in tracks}
        self._sources |= {ssrc: source for ssrc, source in bindings.announced.items() if ssrc in self._opened}
        # Each of them was opened once: they count for as long as the connection lasts.
        self._strangers = dict.fromkeys(self._strangers.keys() - self._sources.keys(), 0)
        self.extensions = bindings.extensions
        if self.extensions.transport_cc and self.arrivals is None:
            self.arrivals = Arrivals()

    def receive(self, data: bytes) -> None:
        """One datagram, synchronously from the socket to every subscriber's socket."""
        size = len(data)
        if not SMALLEST_PACKET <= size <= LARGEST_PACKET:
            return
        if 192 <= data[1] <= 223:
            self._receive_rtcp(data)
            return
        ssrc = int.from_bytes(data[8:12], "big")
        source = self._sources.get(ssrc)
        if source is None and not self._may_open(ssrc):
            self.unknown += 1
            return
        packet = self.wire.open_rtp(data)
        if packet is None or (bounds := rtp.payload_bounds(packet)) is None:
            self.unopened += 1
            return
        self.packets_in += 1
        self.bytes_in += size
        if source is None:
            source = self._learn(ssrc, packet)
        if self.arrivals is not None and (transport_cc := self.extensions.transport_cc):
            value = rtp.extension(packet, transport_cc)
            if value is not None and len(value) == 2:
                self.arrivals.packet(int.from_bytes(value, "big"), time.monotonic_ns() // 1000)
        if source is not None:
            self._media(source, ssrc, packet, bounds)

    def _media(self, source: Source, ssrc: int, packet: bytes, bounds: tuple[int, int]) -> None:
        track, layer = source.track, source.layer
        start, end = bounds
        sequence = int.from_bytes(packet[2:4], "big")
        timestamp = int.from_bytes(packet[4:8], "big")
        now_ms = self._now_ms()
        if track.level_id and (level := rtp.extension(packet, track.level_id)):
            track.loudness.heard(level[0], now_ms)
        if source.retransmission:  # RFC 4588 section 4: the original number precedes the payload
            if end - start < 2:
                return
            sequence = int.from_bytes(packet[start : start + 2], "big")
            start += 2
            if start == end:
                return
        else:
            layer.ssrc = ssrc
        kept = track.accept(sequence, timestamp, packet[1] & 0x80, packet[start:end], now_ms, layer)
        if kept is None:
            return
        if not source.retransmission:
            layer.reception.packet(kept.sequence, timestamp, now_ms)
        if kept.sequence == layer.highest:
            self.refused += fan_out(layer, kept)
        else:
            late(track, layer, kept)
        if track.tap is not None and layer is track.feed and (shown := track.shown(kept)) is not None:
            track.tap(shown)
        if layer.gaps.news and track.repeats:
            self._holes[layer] = track
        # At any packet: the next one of the layer itself may be a whole frame away.
        if self._holes and now_ms - self._asked_ms >= ASK_EVERY_MS:
            self._ask_again(now_ms)

    def _may_open(self, ssrc: int) -> bool:
        """Each SSRC that we open costs an SRTP stream, known or not, and for good."""
        if ssrc not in self._opened and len(self._opened) >= MOST_OPENED:
            return False
        if ssrc in self._announced:
            return True
        tried = self._strangers.get(ssrc)
        if tried is None:
            return len(self._sources) + len(self._strangers) < MOST_SOURCES
        return tried < STRANGER_PACKETS

    def _learn(self, ssrc: int, packet: bytes) -> Source | None:
        """Whose an SSRC is that was not heard before: whoever announced it; else by payload type, MID and
        (repaired) RID together, if they leave one answer (RFC 8843 section 9.2, RFC 8852)."""
        self._opened.add(ssrc)
        announced = self._announced.get(ssrc)
        if announced is not None:
            self._sources[ssrc] = announced
            return announced
        found = self.by_payload_type.get(packet[1] & 0x7F, [])
        ids = self.extensions
        if ids.mid and (mid := rtp.extension(packet, ids.mid)):
            found = [source for source in found if source.mid.encode() == mid]
        for identifier in (ids.repaired_rid, ids.rid):
            if identifier and (rid := rtp.extension(packet, identifier)):
                found = [source for source in found if source.layer.rid.encode() in (rid, b"")]
                break
        if len(found) == 1:
            self._strangers.pop(ssrc, None)
            self._sources[ssrc] = found[0]
            return found[0]
        self._strangers[ssrc] = self._strangers.get(ssrc, 0) + 1
        return None

    def _ask_again(self, now_ms: int) -> None:
        self._asked_ms = now_ms
        for layer, track in tuple(self._holes.items()):
            missing = layer.gaps.due(now_ms)
            if missing and layer.ssrc is not None:
                nack = rtp.negative_ack(OWN_SSRC, layer.ssrc, missing)
                self.wire.send_rtcp(rtp.receiver_report(OWN_SSRC) + nack)
            # Browsers wait for three seconds before they ask for it.
            if layer.gaps.gave_up() and any(slot.layer is layer for slot in track.slots):
                track.request_keyframe(now_ms, layer)
            if not layer.gaps:
                del self._holes[layer]

    def ask_keyframe(self, layer: Layer) -> None:
        """Send a picture loss indication for ``layer``."""
        if layer.ssrc is not None:
            self.wire.send_rtcp(rtp.receiver_report(OWN_SSRC) + rtp.picture_loss(OWN_SSRC, layer.ssrc))

    def _receive_rtcp(self, data: bytes) -> None:
        compound = _open_known(self.wire, self._talkers, data)
        if compound is None:
            return
        now_ms = self._now_ms()
        for packet in rtp.compound(compound):
            info = rtp.sender_info(packet.body) if packet.kind == rtp.SR else None
            if info is None:
                continue
            source = self._sources.get(info.ssrc) or self._announced.get(info.ssrc)
            if source is not None and source.layer.ssrc == info.ssrc:
                source.layer.reception.sender_report(info.ntp, now_ms)
                source.track.reported(source.layer, info, now_ms)

    def report(self, now_ms: int) -> None:
        """Once a second: receiver reports, and REMB for who has no transport-wide feedback, or is held back; to
        subscribers, which moment is which timestamp."""
        for track in self.tracks:
            for layer in track.layers:
                if layer.report is not None:
                    report_on(track, layer, *layer.report, now_ms)
        blocks = [
            block for track in self.tracks for layer in track.layers
            if layer.ssrc is not None and (block := layer.reception.block(layer.ssrc, now_ms)) is not None
        ]  # fmt: skip
        message = rtp.receiver_report(OWN_SSRC, blocks)
        if self.arrivals is None or self._ceiling.bitrate is not None:
            message += self._most()
        self.wire.send_rtcp(message)

    def _most(self) -> bytes:
        """A REMB for all cameras together."""
        layers = [layer for track in self.tracks if track.kind == "video" for layer in track.layers]
        ssrcs = [layer.ssrc for layer in layers if layer.ssrc is not None]
        return rtp.max_bitrate(OWN_SSRC, self._ceiling.tell(self.tracks), ssrcs) if ssrcs else b""

    def tick(self, now_ms: int) -> None:
        """Ten times a second: arrival times, NACKs that went unanswered, key-frame requests that waited."""
        if self.arrivals is not None:
            media = next((layer.ssrc for track in self.tracks for layer in track.layers if layer.ssrc), 0)
            feedback = self.arrivals.feedback(OWN_SSRC, media)
            if feedback is not None:
                self.wire.send_rtcp(rtp.receiver_report(OWN_SSRC) + feedback)
        for track in self.tracks:
            track.tick(now_ms)
        if self._ceiling.fell(self.tracks):
            self.wire.send_rtcp(rtp.receiver_report(OWN_SSRC) + self._most())
        self._ask_again(now_ms)


def report_on(track: PublishedTrack, layer: Layer, info: rtp.SenderInfo, came_ms: int, now_ms: int) -> None:
    """Tell each of a layer's slots, in its own numbers, what its sender report of ``came_ms`` says of now, so that
    lips match sound.

    Not when it comes: Chromium reports of sound every 2.5 to 7.5 s, and believes nothing before it has two of each
    kind, so that whoever comes into a room would wait so long for lips that match.
    """
    info = rtp.sender_info_later(info, now_ms - came_ms, track.clock_rate)
    for slot in track.slots:
        if slot.live and slot.layer is layer and slot.wire is not None:
            slot.far_end.sent(info.ntp, now_ms)
            slot.wire.send_rtcp(
                rtp.sender_report(
                    slot.ssrc, info.ntp, info.timestamp + slot.timestamp_offset,
                    *slot.sent(),
                )
                + rtp.source_name(slot.ssrc, f"seat{slot.seat}")
            )  # fmt: skip


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
        compound = _open_known(self.wire, self._talkers, data)
        if compound is None:
            return
        now_ms = self._now_ms()
        for packet in rtp.compound(compound):
            if packet.kind == rtp.RTPFB and packet.fmt == rtp.FMT_NACK:
                slot = self._slots.get(rtp.media_ssrc(packet.body))
                if slot is not None:
                    self._retransmit(slot, packet.body, now_ms)
            elif packet.kind == rtp.PSFB and packet.fmt in (rtp.FMT_PLI, rtp.FMT_FIR):
                self._keyframe(packet, now_ms)
            elif self.downlink is not None and packet.kind == rtp.RTPFB and packet.fmt == rtp.FMT_TRANSPORT_CC:
                self.downlink.feedback(packet.body, now_ms)
            elif self.downlink is not None and packet.kind == rtp.PSFB and packet.fmt == rtp.FMT_REMB:
                bitrate = rtp.told_bitrate(packet.body)
                if bitrate is not None:
                    self.downlink.told(bitrate, now_ms)
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
            if not repairs.take(slot, outgoing, len(kept.packet), now_ms):
                if repairs.may_skip(slot, now_ms):
                    track.request_keyframe(now_ms, slot.layer)
                return
            if self.downlink is not None and slot.kind == "video":
                self.downlink.repair(slot, outgoing)
            elif repair_type is not None:
                wire.send_repair(slot, kept, repair_type)
            else:
                wire.send_rtp(slot, kept, payload_type)
            self.retransmitted += 1


def _open_known(wire: Wire, talkers: set[int], data: bytes) -> bytes | None:
    """Open SRTCP from at most ``MOST_SOURCES`` senders: each new one costs an SRTP stream."""
    ssrc = int.from_bytes(data[4:8], "big")
    if ssrc not in talkers and len(talkers) >= MOST_SOURCES:
        return None
    compound = wire.open_rtcp(data)
    if compound is not None:
        talkers.add(ssrc)
    return compound
