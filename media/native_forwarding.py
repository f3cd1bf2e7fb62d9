"""The path of a packet where the native engine forwards it: the same wires and ends as in ``media/forwarding.py``,
whose books are kept by the same code, behind the packets.

The engine has the SRTP contexts of a connection from its beginning to ``NativeWire.close``; nobody else touches
them. It asks nobody while packets pass: until when they may is told beforehand (``open_until``), and so is what a
subscriber's slot carries (``aim``). A gate is closed as long as nobody has said that it is open.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from media import rtp
from media.aiortc_seam import Path, context_in_memory
from media.arrival import LATE_MS
from media.downlink import Downlink
from media.fastpath.engine import FOREVER, INJECTED, PASSED, REPAIR, REPEATED, Codec, EngineError, Record
from media.forwarding import Bindings, Ingress, Source
from media.layers import RING_SIZE, Kept, Layer, Told, ticks_apart
from media.native import Native
from media.send_history import Feedback, SendHistory
from media.subscriber_feedback import Egress
from media.tracks import PublishedTrack, Slot
from media.wire import Wire

_CODECS = {"VP8": Codec.VP8, "H264": Codec.H264, "VP9": Codec.VP9, "AV1": Codec.AV1, "opus": Codec.OPUS}

_NOTHING = (0, 0, 0, 0, 0, 0)
"""What ``carry`` takes of a slot that is to carry nothing."""


class EngineHistory:
    """``media.send_history.History`` of a connection that the engine numbers itself."""

    def __init__(self, native: Native, connection: int) -> None:
        self._native = native
        self._connection = connection
        native.engine.number(connection)

    def stamp(self, size: int) -> int:
        """Nobody else gives numbers."""
        raise AssertionError("the engine numbers what it sends")

    def probe(self, probe: int) -> None:
        """What is sent from now on belongs to a probe of this number, 1 to 255; 0: to none."""
        self._native.engine.probe(self._connection, probe)

    def settle(self) -> None:
        """What was sent up to now is not counted as lost any more."""
        self._native.engine.settle(self._connection)

    def feedback(self, body: bytes) -> Feedback | None:
        """Take the body of a feedback (RTCP type 205, format 15); None: it makes no sense, nothing changed."""
        return self._native.engine.feedback(self._connection, body)


class NativeWire(Wire):
    """One connected transport in the engine."""

    __slots__ = ("_end", "_slots", "_tickets", "connection", "native")

    def __init__(self, path: Path, native: Native, *, numbered: bool) -> None:
        """``numbered``: what is sent may carry transport-wide numbers. Raises EngineError if there are too many
        connections."""
        super().__init__(path)
        self.native = native
        self.connection = native.engine.open()
        self.history = EngineHistory(native, self.connection) if numbered else None
        self._end: NativeIngress | Egress | None = None
        self._slots: list[Slot] = []
        self._tickets = 0
        contexts = (context_in_memory(path.protect_context), context_in_memory(path.unprotect_context))
        native.engine.secure(self.connection, *contexts)
        for routes in native.routes:
            routes.connected(path.client, self.connection)
        self._nominate(path)

    def moved(self, path: Path) -> Wire:
        """The engine goes on with what it has, to another address."""
        assert self._path is not None
        self._path, self.address = path, path.address
        self._nominate(path)
        return self

    def serve(self, end: NativeIngress | Egress) -> None:
        """Who hears of what comes."""
        self._end = end
        self.native.connections[self.connection] = self

    def compound(self, data: bytes) -> None:
        """RTCP came, opened."""
        if self._end is not None:
            self._end.compound(data)

    def stranger(self, record: Record) -> None:
        """RTP of an SSRC that nobody named came, opened."""
        if isinstance(self._end, NativeIngress):
            self._end.stranger(record)

    @property
    def refused(self) -> int:
        """Packets that the socket did not take, also after ``close``."""
        if self._path is None:
            return self._refused
        return self._refused + self.native.engine.connection_counters(self.connection).get("refused", 0)

    def send_rtcp(self, compound: bytes) -> None:
        """Protect and send a compound; lost if the socket is full."""
        if self._path is not None:
            self.native.engine.send_rtcp(self.connection, compound)

    def send_rtp(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        """Send one packet again as ``slot``'s subscriber knows it."""
        if self._path is not None and slot.lane_id:
            self.native.engine.resend(slot.lane_id, [kept.sequence + slot.sequence_offset & 0xFFFF])

    def send_repair(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        """The same: the engine knows by which stream the subscriber takes it."""
        slot.repairs += 1
        self.send_rtp(slot, kept, payload_type)

    def send_padding(self, slot: Slot, payload_type: int) -> None:
        """Send as much of nothing as a packet may hold, under the slot's repair SSRC."""
        if self._path is not None and slot.lane_id and self.native.engine.pad(slot.lane_id):
            slot.repairs += 1

    def take(self, slot: Slot) -> None:
        """That slot is sent by this wire from now on."""
        if not slot.lane_id:
            try:
                slot.lane_id = self.native.engine.lane(self.connection, slot.ssrc, slot.repair_ssrc)
            except EngineError:  # so many rooms, on one node: this slot shows nothing, and waits for nothing
                slot.payload_types = {}
                self.native.placed("lanes", fine=False)
                return
            self._slots.append(slot)
            self.native.lanes[slot.lane_id] = lambda record: _entered(slot, record)

    def aim(self, slot: Slot) -> None:
        """Tell the engine what the slot is to carry. On return nothing else is sent in it but what it carries now,
        until that begins; nothing at all, if it is to carry nothing."""
        self._tell(slot, _wish(slot))

    def halt(self, slot: Slot) -> None:
        """On return nothing is sent in the slot until it is aimed anew, and that begins."""
        self._tell(slot, _NOTHING)

    def _tell(self, slot: Slot, wish: tuple[int, ...]) -> None:
        if wish == slot.aimed:
            return
        slot.aimed = wish
        self._tickets += 1
        source, payload_type, repair_type, extension, before, ticks = wish
        if not source:
            slot.ticket = self._tickets
        self.native.engine.carry(
            slot.lane_id, source, payload_type, repair_type, ticket=self._tickets, before=before, ticks=ticks,
            extension=extension,
        )  # fmt: skip

    def close(self) -> None:
        """On return the engine does not know the contexts any more, and nothing is sent."""
        if self._path is None:
            return
        self._refused = self.refused
        for slot in self._slots:
            self.native.lanes.pop(slot.lane_id, None)
            slot.lane_id, slot.aimed = 0, (0,)
        if isinstance(self._end, NativeIngress):
            self._end.gone()
        self.native.connections.pop(self.connection, None)
        for routes in self.native.routes:
            routes.gone(self._path.client)
        self.native.engine.shut(self.connection)
        self._end = None
        self._path.close()
        self._path = None
        self.protect_context = self.unprotect_context = None

    def _nominate(self, path: Path) -> None:
        assert path.gate is not None
        where = self.native.address(path.gate.number, path.address)
        self.native.placed("addresses", fine=self.native.engine.nominate(self.connection, where))


class NativeIngress(Ingress):
    """What a publisher's connection brings: told by the engine, which has forwarded it."""

    def __init__(self, wire: NativeWire, now_ms: Callable[[], int]) -> None:
        super().__init__(wire, now_ms)
        self._native = wire.native
        self._connection = wire.connection
        wire.serve(self)

    def bind(self, tracks: list[PublishedTrack], bindings: Bindings) -> None:
        """Take over what the latest offer said; the engine is told which SSRC is what. Nothing of a new track
        passes before whoever has a gate for it has put it on, in this turn of the loop."""
        super().bind(tracks, bindings)
        for track in tracks:
            if track.engine is None:
                for layer in track.layers:
                    self._begin(track, layer)
                track.begin(self)
        for track in tracks:
            for layer in track.layers:
                self._native.engine.read(
                    layer.source_id, wide=bindings.extensions.transport_cc, level=track.level_id
                )
        for ssrc, source in {**bindings.announced, **self._sources}.items():
            self._name(ssrc, source)
        self._native.engine.retry(self._connection)
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        for track in self.tracks:
            if track.engine is self:
                track.sync_gate()
                track.refresh()

    def _begin(self, track: PublishedTrack, layer: Layer) -> None:
        try:
            layer.source_id = self._native.engine.source(
                self._connection, _CODECS[track.codec], track.clock_rate, 0
            )
        except EngineError:  # the layer brings nothing; nothing else of the connection is touched
            self._native.placed("sources", fine=False)
            return
        plain = Source(track, layer, "", retransmission=False)
        repair = Source(track, layer, "", retransmission=True)
        self._native.sources[layer.source_id] = functools.partial(self._packet, plain, repair)

    def _name(self, ssrc: int, source: Source) -> None:
        if source.layer.source_id:
            named = self._native.engine.name(source.layer.source_id, ssrc, repairs=source.retransmission)
            self._native.placed("names", fine=named)

    # --- what tracks tell the engine (tracks.Gatekeeper)

    def open_until(self, layer: Layer, until_ms: int | None) -> None:
        """Packets of that layer may pass until then, whatever anybody does here."""
        if layer.source_id:
            self._native.engine.gate(layer.source_id, _us(until_ms))

    def replay(self, layer: Layer, until_ms: int | None, sequence: int) -> int:
        """The same, beginning with what was held back; the last number that had come."""
        return self._native.engine.gate(layer.source_id, _us(until_ms), sequence) if layer.source_id else -1

    def holds(self, layer: Layer, sequence: int) -> bool:
        """Whether ``replay`` could begin there: a good while ahead of where the ring forgets."""
        newest = self._native.engine.source_counters(layer.source_id).get("highest")
        return newest is not None and newest - sequence < RING_SIZE // 2

    def drop(self, layer: Layer) -> None:
        """That layer is no more."""
        if layer.source_id:
            self._native.sources.pop(layer.source_id, None)
            self._native.engine.drop(layer.source_id)
            layer.source_id = 0

    def gone(self) -> None:
        """The connection ends: its tracks have nothing there any more."""
        for track in self.tracks:
            if track.engine is self:
                track.engine = None
                for layer in track.layers:
                    self.drop(layer)

    # --- what the engine tells

    def _packet(self, plain: Source, repair: Source, record: Record) -> None:
        flags = record.flags
        if not flags & INJECTED:
            self._count(record.size, record.wide, record.at_us)
        if record.sequence < 0:
            return
        source = repair if flags & REPAIR else plain
        if record.ssrc not in self._opened:
            self._opened.add(record.ssrc)
            self._sources[record.ssrc] = self._announced.get(record.ssrc, source)
        now_ms = self._now_ms()
        self._waited(source.track, record, now_ms)
        told = Told(record.sequence, flags & PASSED != 0, flags & REPEATED != 0, record.key != 0)
        self._media(source, record, now_ms, told)

    def stranger(self, record: Record) -> None:
        """A packet of an SSRC that the engine does not know: once it has a name, the engine goes on with it."""
        packet = record.data
        self._count(len(packet), rtp.transport_number(packet, self.extensions.transport_cc), record.at_us)
        ssrc = int.from_bytes(packet[8:12], "big")
        source = self._sources.get(ssrc) or self._learn(ssrc, packet)
        if source is not None and source.layer.source_id:
            self._waited(source.track, record, self._now_ms())
            self._name(ssrc, source)
            self._native.engine.inject(self._connection, packet)

    def _waited(self, track: PublishedTrack, record: Record, now_ms: int) -> None:
        """What came long before it was told is no proof that anything arrives now."""
        late_ms = now_ms - record.at_us // 1000
        if late_ms > LATE_MS and track.on_late is not None:
            track.on_late(now_ms, late_ms)

    def report(self, now_ms: int) -> None:
        """Once a second."""
        counters = self._native.engine.connection_counters(self._connection)
        self.unknown, self.unopened = counters.get("unknown", 0), counters.get("unopened", 0)
        super().report(now_ms)


def wire_for(path: Path, *, numbered: bool = False) -> Wire:
    """What sends on a path: the engine, where it has the socket. ``numbered``: what is sent may carry
    transport-wide numbers. Raises EngineError."""
    native = path.gate.native if path.gate is not None else None
    if native is None:
        return Wire(path, SendHistory() if numbered else None)
    return NativeWire(path, native, numbered=numbered)


def ingress_for(wire: Wire, now_ms: Callable[[], int]) -> Ingress:
    """A publisher's end of that wire."""
    return NativeIngress(wire, now_ms) if isinstance(wire, NativeWire) else Ingress(wire, now_ms)


def egress_for(wire: Wire, slots: dict[int, Slot], now_ms: Callable[[], int], downlink: Downlink) -> Egress:
    """A subscriber's end of that wire."""
    egress = Egress(wire, slots, now_ms, downlink)
    if isinstance(wire, NativeWire):
        wire.serve(egress)
    return egress


def _wish(slot: Slot) -> tuple[int, ...]:
    """What ``carry`` takes."""
    track, target, payload_type = slot.track, slot.target, slot.payload_type()
    if track is None or target is None or payload_type is None or not target.source_id:
        return _NOTHING
    before, apart = slot.layer, None
    if before is not None and before is not target and before in track.layers:
        apart = ticks_apart(before, target, track.clock_rate)
    clock = (before.source_id, apart & 0xFFFFFFFF) if before is not None and apart is not None else (0, 0)
    return (target.source_id, payload_type, slot.repair_type() or 0, slot.extension(), *clock)


def _entered(slot: Slot, record: Record) -> None:
    """The engine went over to another source in a slot, or left one that may not pass, some moments ago; of a slot
    that was to carry nothing since, that is no news."""
    entry, track = record.entry, slot.track
    if track is None or entry.ticket <= slot.ticket:
        return
    if not entry.source:
        slot.leave(record.at_us // 1000)
        track.refresh()
    for layer in track.layers:
        if entry.source and layer.source_id == entry.source:
            offsets = (entry.sequence_offset, entry.timestamp_offset)
            slot.entered(layer, record.sequence, offsets, record.at_us // 1000)
            track.refresh()


def _us(until_ms: int | None) -> int:
    return FOREVER if until_ms is None else until_ms * 1000

