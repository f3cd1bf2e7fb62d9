"""How a participant's media does, seen from outside: counters over its life, rates over the last seconds.

Sampled once a second; the packets' path does nothing for it but count. Pure arithmetic, the time is an argument.
"in" is what the participant sends to us, "out" what we send to it. Knows no room, no metrics format and no page.

RTP is RFC 3550; loss in is what never arrived as the source's own packet (repairs are counted apart), loss out
what the participant's receiver reports say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from media.layers import NONE
from models.messages.figures import Figures, Line

if TYPE_CHECKING:
    from media.forwarding import Ingress
    from media.layers import Layer
    from media.subscriber_feedback import Egress
    from media.tracks import PublishedTrack, Slot

SAMPLE_MS = 1_000
WINDOW_SAMPLES = 4
"""Rates are over the last three seconds: one key frame or one lost burst is no trend."""

MEANINGS = {
    "packets_in": "RTP packets taken from participants",
    "bytes_in": "Bytes of those packets, with SRTP",
    "unknown": "Packets in that were dropped: of a source that nobody announced",
    "unopened": "Packets in that were dropped: not authentic, malformed, or come before",
    "refused": "Packets out that were dropped: the socket was full",
    "expected_in": "RTP packets that participants sent, by their numbers",
    "received_in": "Of these, those that arrived by themselves",
    "repaired": "Packets in that came late or were sent again",
    "gated": "Packets in that were dropped: nothing is paid for, or may not pass now",
    "repeated": "Packets in that were dropped: they had come before, or came too late",
    "frames": "Video frames that began to arrive",
    "keyframes": "Of these, key frames",
    "keyframes_asked": "Key frames asked of participants",
    "packets_out": "RTP packets forwarded to participants, without repeats",
    "bytes_out": "Payload bytes of those packets",
    "expected_out": "Packets out that participants have reported on",
    "lost_out": "Of these, those that did not arrive",
    "nacks": "Requests of participants for lost packets",
    "retransmitted": "Packets sent again for them",
    "keyframes_wanted": "Key frames that participants asked for",
    "probed": "Bytes that were sent to learn whether a line carries more",
}
"""Every counter, with its meaning; none ever falls."""


class InCounts(NamedTuple):
    """Of a publish connection."""

    packets_in: int
    bytes_in: int
    unknown: int
    unopened: int
    refused: int


class TrackCounts(NamedTuple):
    """Of a published track, whatever its layers."""

    gated: int
    frames: int
    keyframes: int


class LayerCounts(NamedTuple):
    """Of one layer of a published track."""

    expected_in: int
    received_in: int
    repaired: int
    repeated: int
    keyframes_asked: int


class SlotCounts(NamedTuple):
    """Of what goes to a participant in one slot."""

    packets_out: int
    bytes_out: int
    expected_out: int
    lost_out: int


class OutCounts(NamedTuple):
    """Of a subscribe connection."""

    nacks: int
    retransmitted: int
    keyframes_wanted: int
    probed: int


class WireCounts(NamedTuple):
    """Of all that a participant was ever sent by."""

    refused: int


Counts = InCounts | TrackCounts | LayerCounts | SlotCounts | OutCounts | WireCounts


class Sample(NamedTuple):
    """Everything that one participant's connections counted up to now, by source, and what they measure now."""

    counts: dict[str, Counts]
    rtt_ms: float | None = None
    jitter_in_ms: float | None = None
    jitter_out_ms: float | None = None
    kbit_line: float | None = None
    pictures: tuple[int, int, int] = (0, 0, 0)
    """Pictures that it would be sent; of these, made smaller and left out, as its line carries no more."""
    lines: tuple[Line, ...] = ()


DROPPED = ("unknown", "unopened", "refused", "gated", "repeated")


def sample(
    ingress: Ingress | None, egress: Egress | None, tracks: Iterable[PublishedTrack], slots: Iterable[Slot],
    refused: int = 0,
) -> Sample:  # fmt: skip
    """Read the counters of a participant's connections as they stand. ``refused``: by all wires it ever had."""
    tracks, slots = tuple(tracks), tuple(slots)
    counts: dict[str, Counts] = {}
    if ingress is not None:
        counts[f"in{id(ingress)}"] = InCounts(
            ingress.packets_in, ingress.bytes_in, ingress.unknown, ingress.unopened, ingress.refused
        )
    for track in tracks:
        counts[track.track_id] = TrackCounts(track.gated, track.frames, track.keyframes)
        for index, layer in enumerate(track.layers):
            counts[f"{track.track_id}/{index}"] = _of_layer(layer)
    for slot in slots:
        if slot.packets or slot.live or slot.far_end.expected:
            counts[f"slot{slot.ssrc}"] = SlotCounts(*slot.sent(), slot.far_end.expected, slot.far_end.lost)
    if egress is not None:
        counts[f"out{id(egress)}"] = OutCounts(
            egress.nacks, egress.retransmitted, egress.keyframe_requests,
            egress.downlink.probed if egress.downlink is not None else 0,
        )  # fmt: skip
    if refused:
        counts["wires"] = WireCounts(refused)
    used = [slot.far_end for slot in slots if slot.live]
    return Sample(
        counts,
        rtt_ms=min((far.rtt_ms for far in used if far.rtt_ms is not None), default=None),
        jitter_in_ms=max(
            (layer.reception.jitter_ms for track in tracks for layer in track.layers if layer.packets),
            default=None,
        ),
        kbit_line=_line_of(egress),
        pictures=_pictures(slots),
        jitter_out_ms=max((far.jitter_ms for far in used if far.jitter_ms is not None), default=None),
        lines=tuple(_line(track) for track in tracks),
    )


def _line_of(egress: Egress | None) -> float | None:
    bitrate = egress.downlink.estimate if egress is not None and egress.downlink is not None else None
    return None if bitrate is None else bitrate / 1000


def _pictures(slots: Iterable[Slot]) -> tuple[int, int, int]:
    total = smaller = none = 0
    for slot in slots:
        if slot.kind == "audio" or slot.track is None or slot.wire is None:
            continue
        total += 1
        if slot.limit_layer == NONE:
            none += 1
        elif slot.limit_layer < slot.wanted_layer or slot.track.ceiling is not None:
            smaller += 1
    return total, smaller, none


def _of_layer(layer: Layer) -> LayerCounts:
    reception = layer.reception
    return LayerCounts(
        reception.expected, min(reception.received, reception.expected), layer.repaired, layer.repeated,
        layer.throttle.sent,
    )  # fmt: skip


def _line(track: PublishedTrack) -> Line:
    simulcast = len(track.layers) > 1
    # Best first; their ids are the client's own, often one letter.
    flowing = tuple(layer.rid for layer in reversed(track.layers) if layer.flowing) if simulcast else ()
    return Line(
        track_id=track.track_id, kind=track.kind, codec=track.codec, subscribers=len(track.slots), layers=flowing
    )


class Meter:
    """One participant's counters, added up over all connections and tracks that it ever had here."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(MEANINGS, 0)
        self._seen: dict[str, Counts] = {}
        self._history: deque[tuple[int, dict[str, int]]] = deque(maxlen=WINDOW_SAMPLES)
        self._last: Sample | None = None

    def take(self, now: Sample, now_ms: int) -> None:
        """Add what was counted since the last sample. A source that is gone keeps what it had counted."""
        for source, counts in now.counts.items():
            before = self._seen.get(source)
            # A source of the same name whose numbers fell is another one, from 0.
            began = before is None or any(new < old for new, old in zip(counts, before, strict=True))
            for name, new, old in zip(counts._fields, counts, counts if before is None else before, strict=True):
                self.totals[name] += new if began else new - old
        self._seen = now.counts
        self._last = now
        self._history.append((now_ms, dict(self.totals)))

    def figures(self) -> Figures | None:
        """The last seconds; None before the second sample."""
        if self._last is None or len(self._history) < 2:
            return None
        (since_ms, before), (now_ms, after) = self._history[0], self._history[-1]
        grown = {name: after[name] - before[name] for name in after}
        seconds = max(1, now_ms - since_ms) / 1000
        video = any(line.kind == "video" for line in self._last.lines)
        return Figures(
            kbit_in=grown["bytes_in"] * 8 / 1000 / seconds,
            kbit_out=grown["bytes_out"] * 8 / 1000 / seconds,
            packets_in=grown["packets_in"] / seconds,
            packets_out=grown["packets_out"] / seconds,
            dropped={name: grown[name] / seconds for name in DROPPED if grown[name]},
            loss_in=_percent(grown["expected_in"] - grown["received_in"], grown["expected_in"]),
            loss_out=_percent(grown["lost_out"], grown["expected_out"]),
            frames=grown["frames"] / seconds if video else None,
            rtt_ms=self._last.rtt_ms,
            jitter_in_ms=self._last.jitter_in_ms,
            jitter_out_ms=self._last.jitter_out_ms,
            kbit_line=self._last.kbit_line,
            pictures=self._last.pictures,
            lines=self._last.lines,
        )


def _percent(part: int, whole: int) -> float | None:
    return 100 * max(0, part) / whole if whole > 0 else None


def add(totals: dict[str, int], more: dict[str, int]) -> None:
    """Add ``more`` to ``totals``, name by name."""
    for name, value in more.items():
        totals[name] = totals.get(name, 0) + value
