"""A published track and the slots that carry it to subscribers: numbers only, no socket and no SRTP.

A subscriber sees one continuous stream in a slot, whoever is in it: sequence numbers and timestamps are
shifted by offsets that are worked out once, when a track enters the slot. An outgoing sequence number
never stands for two different packets: under AES-GCM that would give the key away (RFC 7714 section 8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from media import rtp
from media.far_end import FarEnd
from media.feedback import Gaps, KeyframeThrottle, Reception
from media.speakers import Loudness

if TYPE_CHECKING:
    from media.forwarding import Wire

Kind = Literal["audio", "video"]
Codec = Literal["VP8", "H264", "opus"]

RING_SIZE = 512
"""Packets kept for retransmission: two to three seconds of 720p. A power of two, below SRTP's replay window."""
_KEYFRAME = {"VP8": rtp.vp8_keyframe, "H264": rtp.h264_keyframe}


class Kept(NamedTuple):
    """A packet in the ring: what a subscriber's copy is made from."""

    sequence: int
    timestamp: int
    marker: int
    packet: bytes


Lane = tuple[int, int, int, int, object, Callable[[memoryview, tuple[str, int]], int], tuple[str, int]]
"""What fan-out needs of a slot: payload type, sequence and timestamp offset, SSRC, SRTP context, send, address."""


@dataclass(slots=True, eq=False)
class Slot:
    """One m-line of a subscriber's connection, carrying at most one track at a time."""

    kind: Kind
    ssrc: int
    seat: int
    """Audio and video slots of one seat share a stream id, so that a browser keeps them in step."""
    mid: str | None = None
    """None until it has been offered."""
    track: PublishedTrack | None = None
    wire: Wire | None = None
    """None until negotiated and connected."""
    payload_types: dict[Codec, int] | None = None
    live: bool = False
    """Packets flow; a video slot goes live at a key frame."""
    first: int = 0
    sequence_offset: int = 0
    timestamp_offset: int = 0
    last_sequence: int = 0
    last_timestamp: int | None = None
    last_ms: int = 0
    packets: int = 0
    octets: int = 0
    far_end: FarEnd = field(init=False)

    def __post_init__(self) -> None:
        self.far_end = FarEnd(self.kind)

    def sent(self) -> tuple[int, int]:
        """Packets and payload octets that went out in this slot, whoever was in it; first sendings only."""
        if not self.live or self.track is None:
            return self.packets, self.octets
        return self.packets + self.track.packets, self.octets + self.track.octets

    def lane(self) -> Lane | None:
        """The fan-out entry, or None while nothing can be sent."""
        payload_type = self.payload_type()
        if not self.live or self.wire is None or payload_type is None:
            return None
        return (
            payload_type, self.sequence_offset, self.timestamp_offset, self.ssrc,
            self.wire.protect_context, self.wire.sendto, self.wire.address,
        )  # fmt: skip

    def payload_type(self) -> int | None:
        """The payload type that this subscriber accepted for the track's codec."""
        if self.track is None or self.payload_types is None:
            return None
        return self.payload_types.get(self.track.codec)

    def enter(self, sequence: int, timestamp: int, now_ms: int) -> None:
        """Go live with the track's packet of this extended sequence number as the next one."""
        assert self.track is not None
        self.first = sequence
        # From 1: the receiver's rollover counter must not wrap on its first packets (RFC 3711 section 3.3.1).
        self.sequence_offset = self.last_sequence + 1 - sequence
        if self.last_timestamp is None:
            self.timestamp_offset = 0
        else:
            silence = max(1, now_ms - self.last_ms) * self.track.clock_rate // 1000
            self.timestamp_offset = self.last_timestamp + silence - timestamp
        self.packets -= self.track.packets
        self.octets -= self.track.octets
        self.live = True

    def leave(self, now_ms: int) -> None:
        """Stop; remember where the outgoing numbers ended."""
        if not self.live:
            return
        assert self.track is not None
        self.live = False
        self.last_sequence = self.track.highest + self.sequence_offset
        self.last_timestamp = self.track.timestamp + self.timestamp_offset
        self.last_ms = now_ms
        self.packets += self.track.packets
        self.octets += self.track.octets


class PublishedTrack:
    """One audio or video track of one participant."""

    def __init__(
        self, *, track_id: str, user_id: str, kind: Kind, codec: Codec, clock_rate: int,
        ask_keyframe: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.track_id = track_id
        self.user_id = user_id
        self.kind = kind
        self.codec = codec
        self.clock_rate = clock_rate
        self.on_frame: Callable[[int, bool, int], None] | None = None
        """``(now_ms, keyframe, size)``: video, once per new RTP timestamp (size: payload bytes of its first
        packet), and once more if its key frame shows only later; audio, once per packet. Called for all that
        arrived, subscribers or not, and BEFORE the gate: a paused meter must see the key frame with which it
        opens the gate."""
        self.on_packet: Callable[[int, int, bytes, bool], None] | None = None
        """``(now_ms, timestamp, payload, keyframe)``: every packet that passed the gate and had not come before,
        in whatever order."""
        self.gate: Callable[[int], bool] | None = None
        """``(now_ms) -> may this packet pass``: asked per packet, after ``on_frame``; False drops it before
        fan-out."""
        self.tap: Callable[[Kept], None] | None = None
        """Egress: every packet that was forwarded, right after, in the order of arrival."""
        self.report: tuple[rtp.SenderInfo, int] | None = None
        """The publisher's latest sender report, and the monotonic millisecond in which it came."""
        self.ssrc: int | None = None
        self.slots: list[Slot] = []
        self.lanes: list[Lane] = []
        self.waiting = 0
        """Slots that could go live with the next suitable packet."""
        self.unwrap = rtp.SequenceUnwrapper()
        self.highest = -1
        self.timestamp = 0
        self.packets = 0
        self.octets = 0
        self.ring: list[Kept | None] = [None] * RING_SIZE
        self.throttle = KeyframeThrottle()
        self.reception = Reception(clock_rate)
        self.gaps = Gaps()
        self.repaired = 0
        """Packets that came out of order or were sent again by the publisher."""
        self.frames = self.keyframes = 0
        """Frames that began to arrive, gate or no gate; nothing is counted for audio."""
        self.gated = self.repeated = 0
        """Packets that were not forwarded: the gate was closed; they had come before, or came too late."""
        self.loudness = Loudness()
        self.level_id = 0
        """The negotiated id of the audio level (RFC 6464); 0: there is none."""
        self.closed = False
        self._paused = False
        self._arrived: tuple[int, bool] | None = None
        """Timestamp of the newest frame that arrived, gate or no gate, and whether it showed as a key frame."""
        self._ask_keyframe = ask_keyframe
        self._is_keyframe = _KEYFRAME.get(codec)

    def request_keyframe(self, now_ms: int) -> None:
        """Ask the publisher for a key frame, now or when the throttle allows."""
        if self.kind == "video" and not self.closed and self.throttle.ask(now_ms):
            self._ask_keyframe()

    def tick(self, now_ms: int) -> None:
        """Ten times a second: key-frame requests that the throttle kept, or that nobody answered."""
        if self.waiting and self.kind == "video":
            self.request_keyframe(now_ms)
        elif self.throttle.due(now_ms):
            self._ask_keyframe()

    def add(self, slot: Slot, now_ms: int) -> None:
        """Carry this track in ``slot`` from the next key frame (audio: packet) on."""
        slot.track = self
        self.slots.append(slot)
        self.refresh()
        if slot.wire is not None:
            self.request_keyframe(now_ms)

    def remove(self, slot: Slot, now_ms: int) -> None:
        """Carry it there no longer."""
        if slot.track is not self:
            return
        slot.leave(now_ms)
        slot.track = None
        self.slots.remove(slot)
        self.refresh()

    def refresh(self) -> None:
        """Work the fan-out list out again after any change to a slot."""
        self.lanes = [lane for slot in self.slots if (lane := slot.lane()) is not None]
        self.waiting = sum(
            1 for s in self.slots if not s.live and s.wire is not None and s.payload_type() is not None
        )

    def pause(self, now_ms: int) -> None:
        """Nothing passes for now; what passes next continues every slot without a hole."""
        if self._paused:
            return
        self._paused = True
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
        self.ring = []

    def accept(self, sequence: int, timestamp: int, marker: int, payload: bytes, now_ms: int) -> Kept | None:
        """Take a packet in: gate, meter, ring, slots that go live. None: it is not to be sent.

        ``sequence`` is the plain 16 bit one. A packet that came before (by number) is never sent twice with
        another content, wherever it claims to come from.
        """
        keyframe = self._is_keyframe is not None and self._is_keyframe(payload)
        if self.on_frame is not None and (self.kind == "audio" or self._begins(timestamp, keyframe)):
            self.on_frame(now_ms, keyframe, len(payload))
        if self.gate is not None and not self.gate(now_ms):
            self.pause(now_ms)
            self.gated += 1
            return None
        if self.closed:
            return None
        extended = self.unwrap.extend(sequence)
        place = extended & (RING_SIZE - 1)
        known = self.ring[place]
        if extended <= self.highest:
            if extended <= self.highest - RING_SIZE or (known is not None and known.sequence == extended):
                self.repeated += 1
                return None
            self.gaps.filled(extended)
            self.repaired += 1
        elif extended > self.highest + 1 and self.highest >= 0 and not self._paused:
            self.gaps.opened(self.highest, extended)
        if self._paused:
            self.reception.resume(extended)
        self._paused = False
        if self.on_packet is not None:
            self.on_packet(now_ms, timestamp, payload, keyframe)
        fresh = self.highest < 0 or rtp.later(timestamp, self.timestamp)
        kept = Kept(extended, timestamp, marker, b"\x80" + bytes(11) + payload)
        self.ring[place] = kept
        if self.waiting and (keyframe or self.kind == "audio") and extended > self.highest:
            for slot in self.slots:
                if not slot.live and slot.wire is not None and slot.payload_type() is not None:
                    slot.enter(extended, timestamp, now_ms)
            self.refresh()
        if extended > self.highest:
            self.highest = extended
        if fresh:
            self.timestamp = timestamp
        self.packets += 1
        self.octets += len(payload)
        return kept

    def _begins(self, timestamp: int, keyframe: bool) -> bool:
        """Whether this packet is news of a frame: its first to arrive, or the one that shows a key frame."""
        known = self._arrived
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

    def find(self, slot: Slot, outgoing: int) -> Kept | None:
        """The packet that ``slot``'s subscriber knows under the 16 bit number ``outgoing``."""
        if not slot.live:
            return None
        sequence = self.highest - ((self.highest + slot.sequence_offset - outgoing) & 0xFFFF)
        if sequence < slot.first or sequence <= self.highest - RING_SIZE:
            return None
        kept = self.ring[sequence & (RING_SIZE - 1)]
        return kept if kept is not None and kept.sequence == sequence else None
