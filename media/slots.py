"""A slot: one m-line of a subscriber's connection, and the numbers in which it sees whatever is put into it.

A subscriber sees one continuous stream, whoever and whichever layer is in the slot: sequence numbers, timestamps
and VP8's picture ids are shifted by offsets that are worked out once, when a layer enters. An outgoing sequence
number never stands for two different packets: under AES-GCM that would give the key away (RFC 7714 section 8).
Numbers of the layer before are not sent again after a change: what is missing of it is missed by nobody, as the
new one begins with a key frame. Knows no socket and no SRTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from media import codecs
from media.capture_times import signed
from media.codecs import Codec
from media.far_end import FarEnd
from media.layers import HIGH, RING_SIZE, Lane, Layer, ticks_apart

if TYPE_CHECKING:
    from media.tracks import PublishedTrack
    from media.wire import Wire

Kind = Literal["audio", "video"]


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
    transport_cc: int = 0
    """The id of the header extension for transport-wide numbers that was negotiated; 0: there is none."""
    wanted_layer: int = HIGH
    """What the subscriber asked for: LOW, MEDIUM or HIGH of ``media.layers``."""
    limit_layer: int = HIGH
    """What its bandwidth carries: the same, or NONE. After a change: ``track.choose``."""
    chosen: bool = False
    """Its subscriber asked for the best of this picture: where there is not enough for all, it comes first."""
    room: float | None = None
    """Bits a second that its line has for this picture; None: nobody knows of a limit."""
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
    lane_id: int = 0
    """What the native engine calls it; 0: nothing, or there is none."""
    aimed: tuple[int, ...] = (0,)
    """What the engine was told last of what it is to carry."""
    ticket: int = 0
    """Of the last wish that it is to carry nothing: what it entered before is no news."""
    far_end: FarEnd = field(init=False)
    _terms: dict[Codec, tuple[int, int | None]] = field(default_factory=dict)
    _early: int = 0
    _last_numbers: tuple[int | None, int | None] = (None, None)

    def __post_init__(self) -> None:
        self.far_end = FarEnd(self.kind)

    def take(self, payload_types: dict[Codec, int], repair_types: dict[Codec, int], transport_cc: int) -> None:
        """What the subscriber's answer says of this line: codecs come and go, but go out as they were negotiated
        first. What was sent once may be sent again after any answer, and has to be the very same packet then."""
        if not self._terms:
            self.transport_cc = transport_cc
        for codec, number in payload_types.items():
            self._terms.setdefault(codec, (number, repair_types.get(codec)))
        terms = {codec: self._terms[codec] for codec in payload_types}
        self.payload_types = {codec: number for codec, (number, _) in terms.items()}
        self.repair_types = {codec: again for codec, (_, again) in terms.items() if again is not None}

    def sent(self) -> tuple[int, int]:
        """Packets and payload octets that went out in this slot, whoever was in it; first sendings only."""
        if not self.live or self.layer is None:
            return self.packets, self.octets
        return self.packets + self.layer.packets, self.octets + self.layer.octets

    def lane(self) -> Lane | None:
        """The fan-out entry, or None while nothing can be sent."""
        payload_type = self.payload_type()
        if not self.live or self.wire is None or payload_type is None or self.lane_id:
            return None
        return (
            payload_type, self.sequence_offset, self.timestamp_offset, self.ssrc,
            self.wire.protect_context, self.wire.sendto, self.wire.address, self.shift,
            self.extension(), self.wire.history,
        )  # fmt: skip

    def payload_type(self) -> int | None:
        """The payload type that this subscriber accepted for the track's codec."""
        if self.track is None or self.payload_types is None:
            return None
        return self.payload_types.get(self.track.codec)

    def repair_type(self) -> int | None:
        """The payload type under which it takes what is sent again; None: not at all."""
        return self.repair_types.get(self.track.codec) if self.track is not None else None

    def extension(self) -> int:
        """Under which id its packets carry a transport-wide number; 0: they carry none.

        Only where what is sent again has numbers of its own: the very same packet would have to carry the very
        same number, as AES-GCM seals the header too (RFC 7714 section 8).
        """
        return self.transport_cc if self.repair_type() is not None else 0

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

    def aim(self) -> None:
        """Tell the native engine, if there is one, what this slot is to carry."""
        if self.lane_id and self.wire is not None:
            self.wire.aim(self)

    def entered(self, layer: Layer, first: int, offsets: tuple[int, int], now_ms: int) -> None:
        """The native engine went over to a layer with this extended sequence number, by itself."""
        if self.live:
            self.switches += 1
            self.leave(now_ms)
        self.first = first
        self.sequence_offset, self.timestamp_offset = offsets
        self.packets -= layer.packets
        self.octets -= layer.octets
        self.layer = layer
        self.live = True

    def stop(self, now_ms: int) -> None:
        """Leave at once, whoever forwards; what comes next begins with a key frame."""
        self.leave(now_ms)
        if self.lane_id and self.wire is not None:
            self.wire.halt(self)

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
            picture, base = codecs.vp8_numbers(newest.payload, 0)
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
