"""The publisher's end of a packet's path: what its connection brings. The other: ``media/subscriber_feedback.py``.

Nothing is decoded, and nothing is awaited between receive and send. Where the native engine forwards, its packets
run through the same books (``media/native_forwarding.py``); else ``media/wire.py`` sends them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from media import rtp
from media.ceiling import Ceiling
from media.feedback import Arrivals
from media.layers import Layer, Told
from media.tracks import PublishedTrack
from media.uplink import Uplink
from media.wire import LARGEST_PACKET, Wire, fan_out, late

if TYPE_CHECKING:
    from media.fastpath.engine import Record

SMALLEST_PACKET = 12 + 8
MOST_SOURCES = 32
"""SSRCs that one connection may bring at a time: each costs an SRTP stream."""
MOST_OPENED = 96
"""And over its whole life, whichever offers brought them: SRTP forgets none, and looks through them in a row."""
STRANGER_PACKETS = 100
"""Packets of an SSRC that we try to place, by their extensions, before it is ignored."""
ASK_EVERY_MS = 5
"""So often holes are looked at, however many packets come meanwhile: to look at all of a hostile publisher's costs
0.3 ms. A number waits longer for its first request and for each next one."""
OWN_SSRC = 1
"""We send no media of our own, so any SSRC does for our feedback (RFC 8108 section 6)."""
_NTP_BEGAN_MS = (time.time_ns() - time.monotonic_ns()) // 1_000_000 + 2_208_988_800_000
"""What NTP's clock said when the monotonic one began. Ours runs on evenly, whatever is done to the wall's."""


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


class Found(msgspec.Struct, frozen=True, gc=False):
    """What the books need of a packet that came. The native engine's records have the same fields."""

    ssrc: int
    sequence: int
    """Of a repair (RFC 4588 section 4) that of the packet which it brings again."""
    timestamp: int
    marker: int
    """0x80 or 0."""
    level: int
    """The audio level's octet (RFC 6464); -1: there is none."""
    payload: bytes
    """Not empty if it is a repair."""


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
        self._clock: int | None = None
        """What to add to this publisher's NTP times to get ours; one for all its tracks, and for good."""
        self._ceiling = Ceiling()
        self._uplink = Uplink()

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
        if source is None:
            source = self._learn(ssrc, packet)
        wide = rtp.transport_number(packet, self.extensions.transport_cc)
        self._count(size, wide, time.monotonic_ns() // 1000)
        if source is not None and (came := _found_in(packet, bounds, source)) is not None:
            self._media(source, came, self._now_ms())

    def _count(self, size: int, wide: int, at_us: int) -> None:
        """A packet came; ``wide``: its transport-wide number, -1: it has none."""
        self.packets_in += 1
        self.bytes_in += size
        if wide >= 0 and self.arrivals is not None:
            self.arrivals.packet(wide, at_us)

    def _media(self, source: Source, came: Found | Record, now_ms: int, told: Told | None = None) -> None:
        track, layer = source.track, source.layer
        timestamp = came.timestamp
        if came.level >= 0:
            track.loudness.heard(came.level, now_ms)
        if not source.retransmission and layer.ssrc != came.ssrc:
            layer.ssrc, layer.report = came.ssrc, None  # another clock
        kept = track.accept(came.sequence, timestamp, came.marker, came.payload, now_ms, layer, told)
        if kept is None:
            return
        if not source.retransmission:
            layer.reception.packet(kept.sequence, timestamp, now_ms)
        if told is not None:
            pass  # it is on its way
        elif kept.sequence == layer.highest:
            self.refused += fan_out(layer, kept)
        else:
            late(track, layer, kept)
        if track.tap is not None and layer is track.feed and (shown := track.shown(kept)) is not None:
            track.tap(shown)
        if track.repeats and layer.gaps.news:
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
        compound = open_known(self.wire, self._talkers, data)
        if compound is not None:
            self.compound(compound)

    def compound(self, data: bytes) -> None:
        """RTCP of the publisher, opened."""
        now_ms = self._now_ms()
        for packet in rtp.compound(data):
            info = rtp.sender_info(packet.body) if packet.kind == rtp.SR else None
            if info is None:
                continue
            source = self._sources.get(info.ssrc) or self._announced.get(info.ssrc)
            if source is not None and source.layer.ssrc == info.ssrc:
                source.layer.reception.sender_report(info.ntp, now_ms)
                source.track.reported(source.layer, info, now_ms)
                if self._clock is None:
                    self._clock = (now_ms + _NTP_BEGAN_MS << 32) // 1000 - info.ntp

    def report(self, now_ms: int) -> None:
        """Once a second: receiver reports, and REMB for who has no transport-wide feedback, or is held back; to
        subscribers, which moment is which timestamp."""
        for track in self.tracks:
            for layer in track.layers:
                if layer.report is not None and self._clock is not None:
                    report_on(track, layer, *layer.report, now_ms, self._clock)
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
        most = self._ceiling.tell(self.tracks)
        if self._uplink.bitrate is not None:
            most = min(most, round(self._uplink.bitrate))
        return rtp.max_bitrate(OWN_SSRC, most, ssrcs) if ssrcs else b""

    def tick(self, now_ms: int) -> None:
        """Ten times a second: arrival times, NACKs that went unanswered, key-frame requests that waited."""
        if self.arrivals is not None:
            media = next((layer.ssrc for track in self.tracks for layer in track.layers if layer.ssrc), 0)
            feedback = self.arrivals.feedback(OWN_SSRC, media)
            if feedback is not None:
                self.wire.send_rtcp(rtp.receiver_report(OWN_SSRC) + feedback)
        for track in self.tracks:
            track.tick(now_ms)
        if self._flooded(now_ms) or self._ceiling.fell(self.tracks):
            self.wire.send_rtcp(rtp.receiver_report(OWN_SSRC) + self._most())
        self._ask_again(now_ms)

    def _flooded(self, now_ms: int) -> bool:
        """Whether its line has just been found to carry far less than it sends."""
        received = [
            layer.reception for track in self.tracks if track.kind == "video" for layer in track.layers
        ]  # fmt: skip
        due, came = sum(each.expected for each in received), sum(each.received for each in received)
        return self._uplink.look(due, came, self.bytes_in, now_ms)


def _found_in(packet: bytes, bounds: tuple[int, int], source: Source) -> Found | None:
    """None: a repair that holds nothing."""
    start, end = bounds
    _, kind, sequence, timestamp, ssrc = rtp.RTP_HEADER.unpack_from(packet)
    if source.retransmission:
        if end - start <= 2:
            return None
        sequence = int.from_bytes(packet[start : start + 2], "big")
        start += 2
    level_id = source.track.level_id
    level = rtp.extension(packet, level_id) if level_id else None
    return Found(ssrc, sequence, timestamp, kind & 0x80, level[0] if level else -1, packet[start:end])


def report_on(
    track: PublishedTrack, layer: Layer, info: rtp.SenderInfo, came_ms: int, now_ms: int, clock: int
) -> None:
    """Tell each of a layer's slots, in its own numbers, what its sender report of ``came_ms`` says of now, so that
    lips match sound. ``clock``: what lies between the publisher's NTP time and ours.

    Not when it comes: Chromium reports of sound every 2.5 to 7.5 s, and believes nothing before it has two of each
    kind, so that whoever comes into a room would wait so long for lips that match. By our clock: Chromium draws a
    line through twenty reports, and when somebody else comes into a slot, theirs have to lie on it.
    """
    info = rtp.sender_info_later(info, now_ms - came_ms, track.clock_rate)
    info = info._replace(ntp=info.ntp + clock & rtp.NTP_MASK)
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


def open_known(wire: Wire, talkers: set[int], data: bytes) -> bytes | None:
    """Open SRTCP from at most ``MOST_SOURCES`` senders: each new one costs an SRTP stream."""
    ssrc = int.from_bytes(data[4:8], "big")
    if ssrc not in talkers and len(talkers) >= MOST_SOURCES:
        return None
    compound = wire.open_rtcp(data)
    if compound is not None:
        talkers.add(ssrc)
    return compound
