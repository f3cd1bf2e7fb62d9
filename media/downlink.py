"""One subscriber's bandwidth at work: feedback in, limits on its slots out, and what we add ourselves, paced.

Forwarded media is sent as it comes: its publisher has paced it already, and a queue here would only add delay.
What we send on our own account, repeats of what was lost and attempts at more (``media.probing``), would be a
burst into a line that has just shown that it is full: it is spread over some milliseconds. Knows no SDP, no room.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from media.allocation import Division, Want
from media.bandwidth import Bandwidth
from media.ceiling import FULL_PICTURE
from media.send_history import OVERHEAD, History

if TYPE_CHECKING:
    from media.layers import Kept
    from media.tracks import PublishedTrack, Slot

LOOK_SECONDS = 0.2
PACE_SECONDS = 0.005
PACE_TIMES = 2.0
"""Repeats leave at so many times what the line carries."""
LEAST_PACE = 1_000_000
FREE_PACE = 20_000_000
"""Bits a second where nothing limits."""
MOST_QUEUED = 256
FEEDBACKS_A_SECOND = 50
"""Chromium sends twenty. Reading one is work that its sender chooses."""
REPEATS_FROM = 1_000_000
"""Probes of so many bits a second are made of repeats, which may be of use; smaller ones of smaller packets."""
PADDING_OCTETS = 20 + 255 + OVERHEAD
DEFAULT_RTT_MS = 100.0
MUCH = 2.0
"""What takes so many times what there is for it is left out at once, before the next smaller one is there."""
CHOSEN = 10
"""Above all ranks of tracks."""


class Downlink:
    """Of one subscribe connection. ``close`` ends it."""

    def __init__(
        self,
        slots: Mapping[int, Slot],
        history: History,
        later: Callable[[float, Callable[[], None]], TimerHandle],
        now_ms: Callable[[], int],
    ) -> None:
        self.history = history
        self.bandwidth = Bandwidth()
        self.limited = False
        """Whether it is sent less than it wants."""
        self.probed = 0
        """Bytes that were sent to try for more."""
        self._slots = slots
        self._later = later
        self._now_ms = now_ms
        self._queue: deque[tuple[Slot, int]] = deque()
        self._paced_ms = self._probed_ms = 0
        self._allowed = self._debt = 0.0
        self._pacing: TimerHandle | None = None
        self._probing: TimerHandle | None = None
        self._looking: TimerHandle | None = None
        self._feedbacks = float(FEEDBACKS_A_SECOND)
        self._fed_ms = 0
        self._loss_seen: dict[int, tuple[int, int]] = {}
        """By SSRC, as whose reports count changes with what is negotiated."""
        self._rtt_ms = DEFAULT_RTT_MS
        """To it and back, as it was at the last look."""
        self._pictured_ms: int | None = None
        """Since when it is sent pictures."""
        self._closed = False

    @property
    def estimate(self) -> float | None:
        """Bits a second; None: nothing is known that would limit anything."""
        return self.bandwidth.estimator.bitrate

    def begin(self) -> None:
        """The connection stands."""
        self._looking = self._later(LOOK_SECONDS, self._tick)

    def close(self) -> None:
        """Nothing is sent from here any more; harmless to repeat."""
        self._closed = True
        self._queue.clear()
        for timer in (self._pacing, self._probing, self._looking):
            if timer is not None:
                timer.cancel()

    # --- what the subscriber says

    def feedback(self, body: bytes, now_ms: int) -> None:
        """Transport-wide feedback (the body of RTCP 205/15)."""
        self._feedbacks = min(
            FEEDBACKS_A_SECOND, self._feedbacks + (now_ms - self._fed_ms) * FEEDBACKS_A_SECOND / 1_000
        )
        self._fed_ms = now_ms
        if self._feedbacks < 1:
            return
        self._feedbacks -= 1
        said = self.history.feedback(body)
        # Feedback on packets that we never numbered is no reason to believe in a line.
        if said is None or not (said.received or said.lost):
            return
        news = self.estimate is None
        if self.bandwidth.feedback(said, now_ms, self._rtt_ms):
            self.history.settle()
            news = True
        if news:
            self.look(now_ms)

    def told(self, bitrate: int, ssrcs: Sequence[int], now_ms: int) -> None:
        """The receiver's own estimate for what it is sent under ``ssrcs`` (REMB): of use where there is nothing
        better."""
        if not self._numbered():
            self._see_pictures(now_ms)
            whole = any(self._slots[ssrc].kind == "audio" for ssrc in ssrcs if ssrc in self._slots)
            self.bandwidth.estimator.told(bitrate, now_ms, self._pictured_ms, whole=whole)

    def _see_pictures(self, now_ms: int) -> None:
        if not any(slot.live for slot in self._slots.values() if slot.kind == "video"):
            self._pictured_ms = None
        elif self._pictured_ms is None:
            self._pictured_ms = now_ms

    def _tick(self) -> None:
        now_ms = self._now_ms()
        self._see_pictures(now_ms)
        self._read_reports(now_ms)
        self._rtt_ms = self._shortest_rtt()
        self.look(now_ms)
        self._looking = self._later(LOOK_SECONDS, self._tick)

    def _read_reports(self, now_ms: int) -> None:
        """Loss from receiver reports, once a report is new: of sound, or of all where nothing is numbered."""
        numbered = self._numbered()
        expected = lost = 0
        for ssrc, slot in self._slots.items():
            before = self._loss_seen.get(ssrc, (0, 0))
            now = self._loss_seen[ssrc] = slot.far_end.expected, slot.far_end.lost
            if slot.kind == "audio" or not numbered:
                expected += now[0] - before[0]
                lost += now[1] - before[1]
        if expected <= 0:
            return
        if numbered:
            self.bandwidth.estimator.heard(expected, lost, now_ms)
        else:
            flows = sum(slot.layer.rate.bitrate for slot in self._slots.values() if slot.live and slot.layer)
            self.bandwidth.estimator.reported(expected, lost, flows, now_ms)

    def _numbered(self) -> bool:
        """Whether pictures are numbered: those that there are, or else those that were negotiated."""
        slots = [slot for slot in self._slots.values() if slot.kind == "video"]
        now = [slot for slot in slots if slot.track is not None]
        if now:
            return any(slot.extension() for slot in now)
        return any(slot.transport_cc and slot.repair_types for slot in slots)

    # --- what it is sent

    def look(self, now_ms: int) -> None:
        """Divide anew what there is."""
        if self._closed:
            return
        slots = [slot for slot in self._slots.values() if slot.kind == "video" and _is_sent(slot)]
        division = self.bandwidth.decide([_want(slot) for slot in slots], self._sound(), now_ms)
        if division is None:
            return
        changed: list[PublishedTrack] = []
        for slot, limit, room in zip(slots, division.limits, division.rooms, strict=True):
            slot.room = room
            if slot.limit_layer != limit:
                if limit < slot.limit_layer and slot.layer and slot.layer.rate.bitrate > MUCH * room:
                    # Until the smaller one's key frame comes it would fill the queue, and sound is lost with it.
                    slot.stop(now_ms)
                slot.limit_layer = limit
                assert slot.track is not None
                changed.append(slot.track)
        self.limited = any(slot.limit_layer < slot.wanted_layer for slot in slots)
        for track in changed:
            track.choose(now_ms)
        self._try_more(division, slots, now_ms)

    def _sound(self) -> float:
        return sum(
            slot.layer.rate.bitrate for slot in self._slots.values()
            if slot.kind == "audio" and slot.live and slot.layer is not None
        )  # fmt: skip

    def _shortest_rtt(self) -> float:
        known = (slot.far_end.rtt_ms for slot in self._slots.values() if slot.track is not None)
        return min((rtt for rtt in known if rtt is not None), default=DEFAULT_RTT_MS)

    # --- what we add

    def repair(self, slot: Slot, outgoing: int) -> None:
        """Send the packet of this outgoing number again, soon: its allowance has been taken."""
        if len(self._queue) < MOST_QUEUED and not self._closed:
            self._queue.append((slot, outgoing))
            if self._pacing is None:
                self._paced_ms = self._now_ms() - round(1_000 * PACE_SECONDS)
                self._pace()

    def _pace(self) -> None:
        now_ms = self._now_ms()
        bitrate = FREE_PACE if self.estimate is None else max(LEAST_PACE, PACE_TIMES * self.estimate)
        self._allowed += bitrate * min(100, now_ms - self._paced_ms) / 8_000
        self._paced_ms = now_ms
        while self._queue and self._allowed > 0:
            slot, outgoing = self._queue.popleft()
            self._allowed -= _send_again(slot, outgoing)
        if self._queue:
            self._pacing = self._later(PACE_SECONDS, self._pace)
        else:
            self._pacing = None
            self._allowed = min(0.0, self._allowed)

    def _try_more(self, division: Division, slots: list[Slot], now_ms: int) -> None:
        if not any(_may_probe(slot, now_ms) for slot in slots):
            return
        if self.bandwidth.try_more(division, now_ms, self._rtt_ms):
            self.history.probe(self.bandwidth.prober.number)
            self._probed_ms, self._debt = now_ms, 0.0
            self._probing = self._later(PACE_SECONDS, self._probe)

    def _probe(self) -> None:
        now_ms, prober = self._now_ms(), self.bandwidth.prober
        slots = [slot for slot in self._slots.values() if slot.kind == "video" and _may_probe(slot, now_ms)]
        if not prober.running(now_ms) or not slots:
            self.history.probe(0)
            self._probing = None
            return
        flows = sum(slot.layer.rate.bitrate for slot in slots if slot.live and slot.layer is not None)
        self._debt += max(0.0, prober.target - flows) * min(50, now_ms - self._probed_ms) / 8_000
        self._probed_ms = now_ms
        self._pay(slots)
        self._probing = self._later(PACE_SECONDS, self._probe)

    def _pay(self, slots: list[Slot]) -> None:
        """Send repeats of the newest packets of one slot, or padding, for what the probe lacks."""
        live = next((slot for slot in slots if slot.live), None)
        kept = _newest(live) if live is not None and self.bandwidth.prober.target >= REPEATS_FROM else []
        while self._debt > 0:
            size = PADDING_OCTETS
            if live is not None and kept:
                size = _send_again(live, (kept[-1].sequence + live.sequence_offset) & 0xFFFF)
                kept.pop()
            else:
                slot = live or slots[0]
                kind = slot.repair_type()
                assert slot.wire is not None
                assert kind is not None
                slot.wire.send_padding(slot, kind)
            self._debt -= size or PADDING_OCTETS
            self.probed += size


def _is_sent(slot: Slot) -> bool:
    return slot.track is not None and slot.wire is not None and slot.payload_type() is not None


def _may_probe(slot: Slot, now_ms: int) -> bool:
    """Not where the gate is closed: then nothing leaves at all, and nobody pays for it."""
    track = slot.track
    if track is None or not _is_sent(slot) or not slot.extension():
        return False
    return track.gate is None or track.gate(now_ms)


def _want(slot: Slot) -> Want:
    track = slot.track
    assert track is not None
    rank = track.rank + (CHOSEN if slot.chosen else 0)
    single = len(track.layers) == 1
    full = FULL_PICTURE if track.ceiling is not None else 0.0
    return Want(rank, slot.wanted_layer, track.rates, slot.limit_layer, single, full)


def _newest(slot: Slot) -> list[Kept]:
    """The last packets that a slot's subscriber was sent, the newest last."""
    layer = slot.layer
    if layer is None or not layer.ring:
        return []
    begin = max(slot.first, layer.highest - 20)
    kept = (layer.ring[number % len(layer.ring)] for number in range(begin, layer.highest + 1))
    return [each for each in kept if each is not None and begin <= each.sequence <= layer.highest]


def _send_again(slot: Slot, outgoing: int) -> int:
    """Bytes that were sent; 0: it is too late."""
    track, wire, payload_type, repair_type = slot.track, slot.wire, slot.payload_type(), slot.repair_type()
    kept = track.find(slot, outgoing) if track is not None else None
    if kept is None or wire is None or payload_type is None:
        return 0
    if repair_type is not None:
        wire.send_repair(slot, kept, repair_type)
    else:
        wire.send_rtp(slot, kept, payload_type)
    return kept.size + OVERHEAD
