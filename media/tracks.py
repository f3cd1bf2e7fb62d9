"""A published track and its layers: what arrives is metered, gated, kept, and put into slots. Numbers only, no
socket and no SRTP.

A room sees one track whatever its layers: its hooks are fed by the highest that flows (``feed``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from media import codecs, rtp
from media.codecs import Codec as Codec
from media.feedback import Gaps
from media.layers import (
    HEADER,
    HIGH,
    LOW,
    MEDIUM,
    RING_SIZE,
    Gatekeeper,
    Kept,
    Layer,
    Told,
    pick,
    ranked,
    stop_silent,
)
from media.picture_size import macroblocks
from media.slots import Kind as Kind
from media.slots import Slot as Slot
from media.speakers import Loudness


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
        self.on_late: Callable[[int, int], None] | None = None
        """``(now_ms, late_ms)``: what comes next had come so long ago, and waited for us; before ``on_frame``."""
        self.on_packet: Callable[[int, int, bytes, bool], None] | None = None
        """``(now_ms, timestamp, payload, keyframe)``: every packet of the layer that feeds which passed the gate
        and had not come before, in whatever order."""
        self.gate: Callable[[int], bool] | None = None
        """``(now_ms) -> may this packet pass``: asked per packet of any layer, after ``on_frame``; False drops it
        before fan-out."""
        self.gate_until: Callable[[], int | None] | None = None
        """The same for a native engine, which asks nobody: the first millisecond in which ``gate`` says no if
        nothing else happens, None: never. Whatever changes it calls ``sync_gate``."""
        self.engine: Gatekeeper | None = None
        """Where this track's packets are forwarded, if it is not here."""
        self.tap: Callable[[Kept], None] | None = None
        """Egress: every packet of the layer that feeds which was forwarded, right after, in the order of arrival,
        its numbers running on over a change of layer (with a hole where that is no key frame)."""
        self.report: tuple[rtp.SenderInfo, int] | None = None
        """The publisher's latest sender report for the layer that feeds, in the tap's timestamps, and the
        monotonic millisecond in which it came."""
        self.layers = [Layer(index, rid, clock_rate) for index, rid in enumerate(rids)]
        if kind == "audio":
            self.layers[0].gaps = Gaps(patience_ms=0)
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
        self.repeats = kind == "video"
        """Whether its publisher sends again what is asked for."""
        self.rates = (0.0, 0.0, 0.0)
        """Bits a second of what is sent at LOW, MEDIUM and HIGH, over the last second."""
        self.rank = 0
        """Whose picture comes first where there is not enough for all: the highest."""
        self.ceiling: float | None = None
        """Bits a second that its publisher is to keep to, as no subscriber's line takes more; None: any."""
        self.closed = False
        self._order = list(self.layers)
        self._simulcast = len(self.layers) > 1
        self._view = Slot(kind=kind, ssrc=0, seat=0, track=self)
        """What the hooks see: numbers that run on over changes of layer. Not used without simulcast."""
        self._arrived: tuple[int, bool] | None = None
        """Timestamp of the newest frame that arrived, gate or no gate, and whether it showed as a key frame."""
        self._until: int | None = 0
        """What the engine knows of ``gate_until``."""
        self._judging = False
        """A packet is being judged that may be the first to pass: the gate opens with it, not before it."""
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
            layer.rate.measure(layer.packets, layer.octets, now_ms)
        if self._simulcast:
            low, medium, high = (pick(self._order, cap) for cap in (LOW, MEDIUM, HIGH))
            if low is not None and medium is not None and high is not None:
                self.rates = low.rate.bitrate, medium.rate.bitrate, high.rate.bitrate
        else:
            self.rates = (self.layers[0].rate.bitrate,) * 3
        for layer in self.layers:
            if layer.waiting and self.kind == "video":
                self.request_keyframe(now_ms, layer)
            elif layer.throttle.due(now_ms):
                self._ask_keyframe(layer)

    def add(self, slot: Slot, now_ms: int) -> None:
        """Carry this track in ``slot`` from the next key frame (audio: packet) on."""
        slot.track = self
        slot.wanted_layer = slot.limit_layer = HIGH
        slot.room, slot.chosen = None, False
        self.slots.append(slot)
        self.choose(now_ms)

    def room(self, enough: float = math.inf) -> float | None:
        """Bits a second that the best of its subscribers' lines has for it, where it has but one size and nobody
        else sees it; None: there is no limit that anybody knows of, or one of them has ``enough``."""
        if self.kind == "audio" or self._simulcast or self.tap is not None:
            return None
        best: float | None = None
        for slot in self.slots:
            if slot.wire is None or slot.payload_type() is None:
                continue
            if slot.room is None or slot.room >= enough:
                return None
            best = slot.room if best is None else max(best, slot.room)
        return best

    def remove(self, slot: Slot, now_ms: int) -> None:
        """Carry it there no longer."""
        if slot.track is not self:
            return
        slot.leave(now_ms)
        slot.track = slot.target = slot.layer = None
        self.slots.remove(slot)
        slot.aim()
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
            layer.waiting = [slot for slot in self.slots if slot.target is layer and slot.waits]
        if self.engine is not None:
            for slot in self.slots:
                slot.aim()

    def pause(self, now_ms: int) -> None:
        """Nothing passes for now; what passes next continues every slot without a hole."""
        if all(layer.paused for layer in self.layers):
            return
        for layer in self.layers:
            layer.paused = True
        for slot in self.slots:
            slot.leave(now_ms)
        if self.engine is not None:
            # Every layer begins anew, also one of which nothing came meanwhile.
            self._until = 0
            for layer in self.layers:
                self.engine.open_until(layer, 0)
        self.refresh()

    def _begin_anew(self, layer: Layer, now_ms: int) -> None:
        """Its numbers jump, over more than the ring: whoever carries it goes on without a hole, at its next key
        frame (audio: packet). A subscriber's SRTP counts by itself how often sixteen bits wrap (RFC 3711 section
        3.3.1), and would lose count for good over one lost packet, whoever is in the slot after that."""
        for slot in self.slots:
            if slot.layer is layer:
                slot.leave(now_ms)
        self.refresh()

    def close(self, now_ms: int) -> None:
        """The track is no more; frees its slots."""
        self.closed = True
        self.on_frame = self.on_packet = self.on_late = self.gate = self.gate_until = None
        self.tap = None
        for slot in tuple(self.slots):
            self.remove(slot, now_ms)
        for layer in self.layers:
            layer.ring = []
            if self.engine is not None:
                self.engine.drop(layer)
        self.engine = None

    # --- packets

    def begin(self, engine: Gatekeeper) -> None:
        """Packets are forwarded there from now on; nothing passes before ``sync_gate``."""
        self.engine, self._until = engine, 0

    def sync_gate(self) -> None:
        """Tell the native engine, if there is one, until when packets may pass."""
        if self.engine is None or self._judging:
            return
        until = self._now_until()
        if until != self._until:
            self._until = until
            for layer in self.layers:
                self.engine.open_until(layer, until)

    def _now_until(self) -> int | None:
        if self.gate_until is not None:
            return self.gate_until()
        # A gate that cannot say until when is asked for each packet, after it came.
        return None if self.gate is None else 0

    def _has_passed(self, layer: Layer, told: Told, allowed: bool) -> bool:
        """Whether the engine has forwarded a packet, or does now what it could not know: a paused meter opened the
        gate with it. Then it goes out with all that came since."""
        if self.engine is None or told.passed or not allowed:
            self.sync_gate()
            return told.passed
        first, last = layer.replayed
        if not first <= told.sequence <= last:
            self._until = self._now_until()
            if self._until == 0:
                return False
            newest = self.engine.replay(layer, self._until, told.sequence)
            layer.replayed = (told.sequence, newest)
            if newest - told.sequence >= RING_SIZE:
                return False  # it is forgotten: nothing was sent that begins with it
            for other in self.layers:
                if other is not layer:
                    self.engine.open_until(other, self._until)
        return True

    def _may_begin(self, layer: Layer, told: Told) -> bool:
        """Whether pictures begin for anybody with a key frame that the engine had: one that was held back, and is
        forgotten by now, opens no gate and starts no clock."""
        if told.passed or told.repeated:
            return told.passed
        return self.engine is not None and self.engine.holds(layer, told.sequence)

    def accept(
        self, sequence: int, timestamp: int, marker: int, payload: bytes, now_ms: int,
        layer: Layer | None = None, told: Told | None = None,
    ) -> Kept | None:  # fmt: skip
        """Take a packet of ``layer`` (the first one) in: gate, meter, ring, slots that go live. None: it is not to
        be sent.

        ``sequence`` is the plain 16 bit one. A packet that came before (by number) is never sent twice with
        another content, wherever it claims to come from. ``told``: the native engine has done with it what was to
        be done, and this keeps the books.
        """
        layer = layer or self.layers[0]
        # Before the gate: it may stay closed for longer than the number's sixteen bits reach.
        if told is None:
            extended = layer.unwrap.extend(sequence)
            keyframe = self._is_keyframe is not None and self._is_keyframe(payload)
            if not layer.paused and 0 <= layer.highest < extended - RING_SIZE:
                self._begin_anew(layer, now_ms)
        else:
            extended = told.sequence
            keyframe = told.keyframe and self._may_begin(layer, told)
        if keyframe:
            layer.throttle.answered()
        layer.last_ms = now_ms
        if self._simulcast:
            self._flows(layer, extended, timestamp, payload, keyframe, now_ms)
        fed = layer is self.feed
        if fed and self.on_frame is not None and (self.kind == "audio" or self._begins(timestamp, keyframe)):
            self._judging = True
            try:
                self.on_frame(now_ms, keyframe, len(payload))
            finally:
                self._judging = False
        if told is not None and told.repeated:
            layer.repeated += 1
            layer.gaps.repeated(extended, now_ms)
            return None
        allowed = self.gate is None or self.gate(now_ms)
        if told is not None:
            allowed = self._has_passed(layer, told, allowed)
        if not allowed:
            self.pause(now_ms)
            self.gated += 1
            return None
        if self.closed or not layer.is_new(extended, now_ms):
            return None
        if layer.paused:
            layer.paused = False
            layer.reception.resume(extended)
        if fed and self.on_packet is not None:
            self.on_packet(now_ms, timestamp + self._view.timestamp_offset & 0xFFFFFFFF, payload, keyframe)
        if self.codec == "VP8":
            payload = codecs.vp8_widened(payload)
        size, read = len(payload), told is None or self.tap is not None
        kept = Kept(extended, timestamp, marker, HEADER + size, payload if read else b"")
        layer.ring[extended & (RING_SIZE - 1)] = kept
        if told is None and layer.waiting and (keyframe or self.kind == "audio") and extended > layer.highest:
            for slot in layer.waiting:
                slot.enter(layer, extended, timestamp, now_ms, payload)
            self.refresh()
        if layer.highest < 0 or rtp.later(timestamp, layer.timestamp):
            layer.timestamp = timestamp
        if extended > layer.highest:
            layer.highest = extended
        layer.packets += 1
        layer.octets += size
        return kept

    def shown(self, kept: Kept) -> Kept | None:
        """A kept packet of the layer that feeds, in the numbers of ``tap``; None: older than the last change."""
        if not self._simulcast:
            return kept
        view = self._view
        if kept.sequence < view.first:
            return None
        timestamp = kept.timestamp + view.timestamp_offset & 0xFFFFFFFF
        return Kept(kept.sequence + view.sequence_offset, timestamp, kept.marker, kept.size, kept.payload)

    def reported(self, layer: Layer, info: rtp.SenderInfo, now_ms: int) -> None:
        """The publisher's sender report for a layer."""
        layer.report = (info, now_ms)
        if self.engine is not None:
            for slot in layer.waiting:
                slot.aim()  # by a newer clock
        if layer is self.feed:
            shown = info.timestamp + self._view.timestamp_offset & 0xFFFFFFFF
            self.report = (info._replace(timestamp=shown), now_ms)

    def find(self, slot: Slot, outgoing: int) -> Kept | None:
        """The packet that ``slot``'s subscriber knows under the 16 bit number ``outgoing``."""
        layer = slot.layer
        if not slot.live or layer is None:
            return None
        sequence = layer.highest - ((layer.highest + slot.sequence_offset - outgoing) & 0xFFFF)
        return layer.find(sequence) if sequence >= slot.first else None

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
