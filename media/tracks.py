"""A published track and the slots that carry it to subscribers: numbers only, no socket and no SRTP.

A subscriber sees one continuous stream in a slot, whoever and whichever layer is in it: sequence numbers,
timestamps and VP8's picture ids are shifted by offsets that are worked out once, when a layer enters the slot. An
outgoing sequence number never stands for two different packets: under AES-GCM that would give the key away
(RFC 7714 section 8). Numbers of the layer before are not sent again after a change: what is missing of it is
missed by nobody, as the new one begins with a key frame.

A room sees one track whatever its layers: its hooks are fed by the highest that flows (``feed``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from media import codecs, rtp
from media.capture_times import signed
from media.codecs import Codec as Codec
from media.far_end import FarEnd
from media.layers import HIGH, RING_SIZE, Kept, Lane, Layer, pick, ranked, stop_silent, ticks_apart
from media.picture_size import macroblocks
from media.speakers import Loudness

if TYPE_CHECKING:
    from media.forwarding import Wire

Kind = Literal["audio", "video"]

_BODY = 12
"""Where a kept packet's payload begins."""


@dataclass(slots=True, eq=False)
class Slot:
    """One m-line of a subscriber's connection, carrying at most one layer of one track at a time."""

    kind: Kind
    ssrc: int
    seat: int
    """Audio and video slots of one seat share a stream id, so that a browser keeps them in step."""
    repair_ssrc: int = 0
    """What is sent again goes under this one (RFC 4588), if the subscriber took it."""
    mid: str | None = None
    """None until it has been offered."""
    track: PublishedTrack | None = None
    wire: Wire | None = None
    """None until negotiated and connected."""
    payload_types: dict[Codec, int] | None = None
    repair_types: dict[Codec, int] = field(default_factory=dict)
    wanted_layer: int = HIGH
    """What the subscriber asked for: LOW, MEDIUM or HIGH of ``media.layers``."""
    limit_layer: int = HIGH
    """What its bandwidth carries: the same, or NONE. After a change: ``track.choose``."""
    target: Layer | None = None
    """What ``choose`` decided; taken at its next key frame."""
    layer: Layer | None = None
    """What flows, or flowed last."""
    live: bool = False
    """Packets flow; a video slot goes live at a key frame."""
    first: int = 0
    sequence_offset: int = 0
    timestamp_offset: int = 0
    shift: tuple[int, int] | None = None
    """What is added to picture id and TL0PICIDX."""
    last_sequence: int = 0
    last_timestamp: int | None = None
    last_ms: int = 0
    packets: int = 0
    octets: int = 0
    repairs: int = 0
    """Packets sent under ``repair_ssrc``; the last one's sequence number."""
    switches: int = 0
    """Changes from one layer to another."""
    far_end: FarEnd = field(init=False)
    _early: int = 0
    _last_numbers: tuple[int | None, int | None] = (None, None)

    def __post_init__(self) -> None:
        self.far_end = FarEnd(self.kind)

    def sent(self) -> tuple[int, int]:
        """Packets and payload octets that went out in this slot, whoever was in it; first sendings only."""
        if not self.live or self.layer is None:
            return self.packets, self.octets
        return self.packets + self.layer.packets, self.octets + self.layer.octets

    def lane(self) -> Lane | None:
        """The fan-out entry, or None while nothing can be sent."""
        payload_type = self.payload_type()
        if not self.live or self.wire is None or payload_type is None:
            return None
        return (
            payload_type, self.sequence_offset, self.timestamp_offset, self.ssrc,
            self.wire.protect_context, self.wire.sendto, self.wire.address, self.shift, self.wire.destination,
        )  # fmt: skip

    def payload_type(self) -> int | None:
        """The payload type that this subscriber accepted for the track's codec."""
        if self.track is None or self.payload_types is None:
            return None
        return self.payload_types.get(self.track.codec)

    def repair_type(self) -> int | None:
        """The payload type under which it takes what is sent again; None: not at all."""
        return self.repair_types.get(self.track.codec) if self.track is not None else None

    @property
    def waits(self) -> bool:
        """Whether another layer than the one that flows is due, and could be sent."""
        return (
            self.target is not None and not (self.live and self.layer is self.target)
            and self.wire is not None and self.payload_type() is not None
        )  # fmt: skip

    def enter(self, layer: Layer, sequence: int, timestamp: int, now_ms: int, payload: bytes = b"") -> None:
        """Go live with the layer's packet of this extended sequence number as the next one."""
        assert self.track is not None
        if self.live:
            self.switches += 1
            self.leave(now_ms)
        self.first = sequence
        # From 1: the receiver's rollover counter must not wrap on its first packets (RFC 3711 section 3.3.1).
        self.sequence_offset = self.last_sequence + 1 - sequence
        self.timestamp_offset = self._timestamps_of(layer, timestamp, now_ms)
        if self.track.codec == "VP8":
            self.shift = self._shift_for(codecs.vp8_numbers(payload, 0))
        else:
            self.shift = None
        self.packets -= layer.packets
        self.octets -= layer.octets
        self.layer = layer
        self.live = True

    def leave(self, now_ms: int) -> None:
        """Stop; remember where the outgoing numbers ended."""
        if not self.live or self.layer is None:
            return
        assert self.track is not None
        layer = self.layer
        self.live = False
        self.last_sequence = layer.highest + self.sequence_offset
        self.last_timestamp = layer.timestamp + self.timestamp_offset
        self.last_ms = min(now_ms, layer.last_ms)
        self.packets += layer.packets
        self.octets += layer.octets
        newest = layer.ring[layer.highest & (RING_SIZE - 1)] if layer.ring else None
        if self.track.codec == "VP8" and newest is not None:
            picture, base = codecs.vp8_numbers(newest.packet, _BODY)
            by, by_base = self.shift or (0, 0)
            if picture is not None:
                self._last_numbers = (picture + by, self._last_numbers[1] if base is None else base + by_base)

    def _timestamps_of(self, layer: Layer, timestamp: int, now_ms: int) -> int:
        """The offset with which the layer goes on where the slot left off, always later.

        Between layers of one track by the publisher's clock, so that lips stay in step over any number of
        changes; a frame that would come too early is shifted, and the next change forgets it. Otherwise,
        or if the clock says something odd, by arrival.
        """
        assert self.track is not None
        early, self._early = self._early, 0
        if self.last_timestamp is None:
            return 0
        rate = self.track.clock_rate
        silence = max(1, now_ms - self.last_ms) * rate // 1000
        by_arrival = self.last_timestamp + silence - timestamp
        apart = ticks_apart(self.layer, layer, rate) if self.layer is not None else None
        if apart is None:
            return by_arrival
        by_clock = self.timestamp_offset - early + apart
        if abs(signed(by_clock - by_arrival)) > rate:
            return by_arrival
        self._early = max(0, signed(self.last_timestamp + 1 - timestamp - by_clock))
        return by_clock + self._early

    def _shift_for(self, numbers: tuple[int | None, int | None]) -> tuple[int, int] | None:
        picture, base = numbers
        last, last_base = self._last_numbers
        if picture is None or last is None:
            return None
        by = (last + 1 - picture) & codecs.PICTURE_MASK
        by_base = (last_base + 1 - base) & 0xFF if base is not None and last_base is not None else 0
        return (by, by_base) if by or by_base else None


class PublishedTrack:
    """One audio or video track of one participant."""

    def __init__(
        self, *, track_id: str, user_id: str, kind: Kind, codec: Codec, clock_rate: int,
        rids: Sequence[str] = ("",), ask_keyframe: Callable[[Layer], None] = lambda layer: None,
    ) -> None:  # fmt: skip
        """``rids``: a name for each layer (one without a name: no simulcast); ``ask_keyframe`` is called for the
        layer that is to send one."""
        self.track_id = track_id
        self.user_id = user_id
        self.kind = kind
        self.codec = codec
        self.clock_rate = clock_rate
        self.on_frame: Callable[[int, bool, int], None] | None = None
        """``(now_ms, keyframe, size)``: video, once per new RTP timestamp (size: payload bytes of its first
        packet), and once more if its key frame shows only later; audio, once per packet. Called for all that
        arrived in the layer that feeds, subscribers or not, and BEFORE the gate: a paused meter must see the key
        frame with which it opens the gate."""
        self.on_packet: Callable[[int, int, bytes, bool], None] | None = None
        """``(now_ms, timestamp, payload, keyframe)``: every packet of the layer that feeds which passed the gate
        and had not come before, in whatever order."""
        self.gate: Callable[[int], bool] | None = None
        """``(now_ms) -> may this packet pass``: asked per packet of any layer, after ``on_frame``; False drops it
        before fan-out."""
        self.tap: Callable[[Kept], None] | None = None
        """Egress: every packet of the layer that feeds which was forwarded, right after, in the order of arrival,
        its numbers running on over a change of layer (with a hole where that is no key frame)."""
        self.report: tuple[rtp.SenderInfo, int] | None = None
        """The publisher's latest sender report for the layer that feeds, in the tap's timestamps, and the
        monotonic millisecond in which it came."""
        self.layers = [Layer(index, rid, clock_rate) for index, rid in enumerate(rids)]
        self.feed = self.layers[-1]
        """The layer that feeds the hooks: the highest that flows. Up it changes at a key frame, down at once."""
        self.slots: list[Slot] = []
        self.frames = self.keyframes = 0
        """Frames of the layer that feeds that began to arrive, gate or no gate; nothing is counted for audio."""
        self.gated = 0
        """Packets that were not forwarded as the gate was closed."""
        self.loudness = Loudness()
        self.level_id = 0
        """The negotiated id of the audio level (RFC 6464); 0: there is none."""
        self.closed = False
        self._order = list(self.layers)
        self._simulcast = len(self.layers) > 1
        self._view = Slot(kind=kind, ssrc=0, seat=0, track=self)
        """What the hooks see: numbers that run on over changes of layer. Not used without simulcast."""
        self._arrived: tuple[int, bool] | None = None
        """Timestamp of the newest frame that arrived, gate or no gate, and whether it showed as a key frame."""
        self._ask_keyframe = ask_keyframe
        self._is_keyframe = codecs.KEYFRAME.get(codec)

    # --- sums over layers

    @property
    def packets(self) -> int:
        """Packets taken in."""
        return sum(layer.packets for layer in self.layers)

    @property
    def repaired(self) -> int:
        """Packets that came out of order or were sent again by the publisher."""
        return sum(layer.repaired for layer in self.layers)

    @property
    def repeated(self) -> int:
        """Packets that were not forwarded: they had come before, or came too late."""
        return sum(layer.repeated for layer in self.layers)

    # --- slots and key frames

    def request_keyframe(self, now_ms: int, layer: Layer | None = None) -> None:
        """Ask the publisher for a key frame of a layer (the one that feeds), now or when the throttle allows."""
        layer = layer or self.feed
        if self.kind == "video" and not self.closed and layer.throttle.ask(now_ms):
            self._ask_keyframe(layer)

    def tick(self, now_ms: int) -> None:
        """Ten times a second: layers that stopped; key-frame requests that were kept, or that nobody answered."""
        if self._simulcast and stop_silent(self.layers):
            self.choose(now_ms)
        for layer in self.layers:
            if layer.waiting and self.kind == "video":
                self.request_keyframe(now_ms, layer)
            elif layer.throttle.due(now_ms):
                self._ask_keyframe(layer)

    def add(self, slot: Slot, now_ms: int) -> None:
        """Carry this track in ``slot`` from the next key frame (audio: packet) on."""
        slot.track = self
        slot.wanted_layer = HIGH
        self.slots.append(slot)
        self.choose(now_ms)

    def remove(self, slot: Slot, now_ms: int) -> None:
        """Carry it there no longer."""
        if slot.track is not self:
            return
        slot.leave(now_ms)
        slot.track = slot.target = slot.layer = None
        self.slots.remove(slot)
        self.refresh()

    def choose(self, now_ms: int) -> None:
        """Decide anew which layer each slot gets: after a wish or a limit changed, or what flows."""
        for slot in self.slots:
            slot.target = pick(self._order, min(slot.wanted_layer, slot.limit_layer))
            if slot.target is None:
                slot.leave(now_ms)
        self.refresh()
        for layer in self.layers:
            if layer.waiting:
                self.request_keyframe(now_ms, layer)

    def refresh(self) -> None:
        """Work the fan-out lists out again after any change to a slot."""
        for layer in self.layers:
            layer.lanes = [
                lane for slot in self.slots if slot.layer is layer and (lane := slot.lane()) is not None
            ]
            layer.native = None
            layer.waiting = [slot for slot in self.slots if slot.target is layer and slot.waits]

    def pause(self, now_ms: int) -> None:
        """Nothing passes for now; what passes next continues every slot without a hole."""
        if all(layer.paused for layer in self.layers):
            return
        for layer in self.layers:
            layer.paused = True
        for slot in self.slots:
            slot.leave(now_ms)
        self.refresh()

    def close(self, now_ms: int) -> None:
        """The track is no more; frees its slots."""
        self.closed = True
        self.on_frame = self.on_packet = self.gate = None
        self.tap = None
        for slot in tuple(self.slots):
            self.remove(slot, now_ms)
        for layer in self.layers:
            layer.ring = []

    # --- packets

    def accept(
        self, sequence: int, timestamp: int, marker: int, payload: bytes, now_ms: int, layer: Layer | None = None
    ) -> Kept | None:
        """Take a packet of ``layer`` (the first one) in: gate, meter, ring, slots that go live. None: it is not to
        be sent.

        ``sequence`` is the plain 16 bit one. A packet that came before (by number) is never sent twice with
        another content, wherever it claims to come from.
        """
        layer = layer or self.layers[0]
        keyframe = self._is_keyframe is not None and self._is_keyframe(payload)
        if keyframe:
            layer.throttle.answered()
        # Before the gate: it may stay closed for longer than the number's sixteen bits reach.
        extended = layer.unwrap.extend(sequence)
        layer.last_ms = now_ms
        if self._simulcast:
            self._flows(layer, extended, timestamp, payload, keyframe, now_ms)
        fed = layer is self.feed
        if fed and self.on_frame is not None and (self.kind == "audio" or self._begins(timestamp, keyframe)):
            self.on_frame(now_ms, keyframe, len(payload))
        if self.gate is not None and not self.gate(now_ms):
            self.pause(now_ms)
            self.gated += 1
            return None
        if self.closed or not self._is_new(layer, extended):
            return None
        if layer.paused:
            layer.paused = False
            layer.reception.resume(extended)
        if fed and self.on_packet is not None:
            self.on_packet(now_ms, timestamp + self._view.timestamp_offset & 0xFFFFFFFF, payload, keyframe)
        if self.codec == "VP8":
            payload = codecs.vp8_widened(payload)
        kept = Kept(extended, timestamp, marker, b"\x80" + bytes(11) + payload)
        layer.ring[extended & (RING_SIZE - 1)] = kept
        if layer.waiting and (keyframe or self.kind == "audio") and extended > layer.highest:
            for slot in layer.waiting:
                slot.enter(layer, extended, timestamp, now_ms, payload)
            self.refresh()
        if layer.highest < 0 or rtp.later(timestamp, layer.timestamp):
            layer.timestamp = timestamp
        if extended > layer.highest:
            layer.highest = extended
        layer.packets += 1
        layer.octets += len(payload)
        return kept

    def shown(self, kept: Kept) -> Kept | None:
        """A kept packet of the layer that feeds, in the numbers of ``tap``; None: older than the last change."""
        if not self._simulcast:
            return kept
        view = self._view
        if kept.sequence < view.first:
            return None
        return kept._replace(
            sequence=kept.sequence + view.sequence_offset,
            timestamp=kept.timestamp + view.timestamp_offset & 0xFFFFFFFF,
        )

    def reported(self, layer: Layer, info: rtp.SenderInfo, now_ms: int) -> None:
        """The publisher's sender report for a layer."""
        layer.report = (info, now_ms)
        if layer is self.feed:
            shown = info.timestamp + self._view.timestamp_offset & 0xFFFFFFFF
            self.report = (info._replace(timestamp=shown), now_ms)

    def find(self, slot: Slot, outgoing: int) -> Kept | None:
        """The packet that ``slot``'s subscriber knows under the 16 bit number ``outgoing``."""
        layer = slot.layer
        if not slot.live or layer is None:
            return None
        sequence = layer.highest - ((layer.highest + slot.sequence_offset - outgoing) & 0xFFFF)
        if sequence < slot.first or sequence <= layer.highest - RING_SIZE:
            return None
        kept = layer.ring[sequence & (RING_SIZE - 1)]
        return kept if kept is not None and kept.sequence == sequence else None

    @staticmethod
    def _is_new(layer: Layer, extended: int) -> bool:
        """Whether this number did not come before; keeps the books of what is missing."""
        highest = layer.highest
        if extended > highest:
            if extended > highest + 1 and highest >= 0 and not layer.paused:
                layer.gaps.opened(highest, extended)
            return True
        known = layer.ring[extended & (RING_SIZE - 1)]
        if extended <= highest - RING_SIZE or (known is not None and known.sequence == extended):
            layer.repeated += 1
            return False
        layer.gaps.filled(extended)
        layer.repaired += 1
        return True

    def _begins(self, timestamp: int, keyframe: bool) -> bool:
        """Whether this packet is news of a frame: its first to arrive, or the one that shows a key frame."""
        known = self._arrived
        timestamp = timestamp + self._view.timestamp_offset & 0xFFFFFFFF
        if known is None or rtp.later(timestamp, known[0]):
            self._arrived = (timestamp, keyframe)
            self.frames += 1
            self.keyframes += keyframe
            return True
        if keyframe and timestamp == known[0] and not known[1]:
            self._arrived = (timestamp, True)
            self.keyframes += 1
            return True
        return False

    # --- simulcast: what flows, and what feeds

    def _flows(
        self, layer: Layer, extended: int, timestamp: int, payload: bytes, keyframe: bool, now_ms: int
    ) -> None:
        """A packet of one of several layers: it may change who gets what."""
        news = not layer.flowing
        layer.flowing = True
        if keyframe:
            layer.keyframes += timestamp != layer.timestamp
            size = macroblocks(self.codec, payload)
            if size and size != layer.size:
                layer.size = size
                self._order = ranked(self.layers)
                news = True
        if news:
            self.choose(now_ms)
            if keyframe:
                layer.throttle.answered()
        feed = self.feed
        if not self._view.live or (
            layer is not feed
            and (layer is pick(self._order, HIGH) if not feed.flowing else keyframe and layer.rank > feed.rank)
        ):
            self._feed_from(layer, extended, timestamp, now_ms, whole=keyframe)

    def _feed_from(self, layer: Layer, extended: int, timestamp: int, now_ms: int, *, whole: bool) -> None:
        self.feed = layer
        self._view.enter(layer, extended, timestamp, now_ms)
        if not whole:
            # What reads the tap must know that something is missing.
            self._view.sequence_offset += 1
        if layer.report is not None:
            self.reported(layer, *layer.report)
