"""Rates, losses and totals out of counters: whatever comes and goes, nothing counted is lost or doubled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from media.far_end import FarEnd
from media.rtp import ReportBlock
from media.stats import MEANINGS, InCounts, LayerCounts, Meter, Sample, SlotCounts, TrackCounts, sample
from media.tracks import PublishedTrack, Slot
from models.messages.figures import Line

VIDEO = Line(track_id="trk", kind="video", codec="VP8", subscribers=1)
KEY, DELTA = b"\x10\x00key", b"\x10\x01delta"


def incoming(packets: int) -> InCounts:
    return InCounts(packets, 100 * packets, 0, 0, 0)


def layer_counts(expected: int, received: int) -> LayerCounts:
    return LayerCounts(expected, received, 0, 0, 0)


def test_rates_are_of_the_last_seconds_alone() -> None:
    # given a participant that sent fast for a while
    meter = Meter()
    for second in range(10):
        meter.take(Sample({"in1": incoming(1_000 * second)}), 1_000 * second)
    # when it has sent 10 packets a second for as long as the window is
    for second in range(10, 14):
        meter.take(Sample({"in1": incoming(9_000 + 10 * (second - 9))}), 1_000 * second)
    # then that is its rate, and all of it is in its totals
    figures = meter.figures()
    assert figures is not None
    assert (figures.packets_in, figures.kbit_in) == (10, 8)
    assert meter.totals["packets_in"] == 9_040


def test_losses_are_percent_both_ways_and_unknown_without_packets() -> None:
    meter = Meter()
    meter.take(Sample({"trk/0": layer_counts(100, 100), "slot7": SlotCounts(10, 1_000, 100, 0)}), 0)
    assert meter.figures() is None
    meter.take(Sample({"trk/0": layer_counts(200, 190), "slot7": SlotCounts(210, 9_000, 300, 50)}), 2_000)
    figures = meter.figures()
    assert figures is not None
    assert (figures.loss_in, figures.loss_out) == (10, 25)
    assert (figures.packets_out, figures.kbit_out) == (100, 32)
    assert figures.frames is None
    silent = Meter()
    silent.take(Sample({}, lines=(VIDEO,)), 0)
    silent.take(Sample({}, lines=(VIDEO,)), 1_000)
    shown = silent.figures()
    assert shown is not None
    assert (shown.loss_in, shown.loss_out, shown.rtt_ms, shown.frames) == (None, None, None, 0)


def test_what_arrived_late_is_no_negative_loss() -> None:
    meter = Meter()
    meter.take(Sample({"trk/0": layer_counts(100, 90)}), 0)
    meter.take(Sample({"trk/0": layer_counts(110, 105)}), 1_000)
    figures = meter.figures()
    assert figures is not None
    assert figures.loss_in == 0


@given(st.lists(st.dictionaries(st.sampled_from(["in1", "in2", "in3"]), st.integers(0, 50)), max_size=30))
def test_totals_never_fall_and_keep_what_came_from_sources_that_are_gone(steps: list[dict[str, int]]) -> None:
    meter, running, counted = Meter(), dict.fromkeys(("in1", "in2", "in3"), 0), 0
    for number, more in enumerate(steps):
        for name in tuple(running):
            # A source that is not there has ended; the next of its name begins at 0.
            running[name] = running[name] + more[name] if name in more else 0
        counted += sum(more.values())
        before = dict(meter.totals)
        meter.take(Sample({name: incoming(running[name]) for name in more}), 1_000 * number)
        assert all(meter.totals[name] >= before[name] for name in MEANINGS)
    assert meter.totals["packets_in"] == counted


def test_a_track_and_its_slot_are_read_as_they_count() -> None:
    # given a track of which one packet is missing, in a slot whose subscriber has reported
    track = PublishedTrack(track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=90_000)
    track.on_frame = lambda *_: None
    wire = cast(
        Any, SimpleNamespace(protect_context=None, sendto=None, address=("192.0.2.1", 9), history=None)
    )
    slot = Slot(kind="video", ssrc=7, seat=0, wire=wire, payload_types={"VP8": 97})
    track.add(slot, 0)
    for number, (payload, timestamp) in enumerate(((KEY, 0), (DELTA, 3_000), (DELTA, 6_000), (DELTA, 6_000))):
        sequence = number + (number > 1)
        kept = track.accept(sequence, timestamp, 0, payload, 33 * number)
        assert kept is not None
        track.layers[0].reception.packet(kept.sequence, timestamp, 33 * number)
    slot.far_end.reported(ReportBlock(7, 0, 0, 2, 90, 0, 0), 200)
    slot.far_end.reported(ReportBlock(7, 0, 1, 4, 900, 0, 0), 1_200)
    # when it is sampled
    found = sample(None, None, [track], [slot])
    # then each counter stands where it belongs
    assert found.counts["trk"] == TrackCounts(gated=0, frames=3, keyframes=1)
    assert found.counts["trk/0"] == LayerCounts(5, 4, repaired=0, repeated=0, keyframes_asked=1)
    payload_bytes = len(KEY) + 3 * len(DELTA)
    assert found.counts["slot7"] == SlotCounts(4, payload_bytes, 2, 1)
    assert found.jitter_out_ms == 10
    assert [line.kind for line in found.lines] == ["video"]


def test_a_gate_that_was_closed_is_no_loss() -> None:
    # given a track that nothing of is forwarded for a while
    track = PublishedTrack(track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=90_000)
    open_at = 100
    track.gate = lambda now_ms: not 10 <= now_ms < open_at
    for number in range(200):
        kept = track.accept(number, 3_000 * number, 0, KEY, number)
        if kept is not None:
            track.layers[0].reception.packet(kept.sequence, kept.timestamp, number)
    # then what came meanwhile is counted as that, and as nothing else
    found = sample(None, None, [track], [])
    assert found.counts["trk"] == TrackCounts(gated=90, frames=0, keyframes=0)
    assert found.counts["trk/0"] == LayerCounts(110, 110, repaired=0, repeated=0, keyframes_asked=0)


def test_an_unused_slot_is_not_counted() -> None:
    slot = Slot(kind="audio", ssrc=9, seat=0)
    assert isinstance(slot.far_end, FarEnd)
    assert sample(None, None, [], [slot]).counts == {}


def test_layers_are_counted_apart_and_those_that_flow_are_named_best_first() -> None:
    # given a track in three sizes of which two flow
    track = PublishedTrack(
        track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=90_000, rids=("l", "m", "h")
    )
    for layer, packets in ((track.layers[0], 10), (track.layers[2], 30)):
        layer.flowing = True
        for number in range(packets):
            layer.reception.packet(number, 3_000 * number, 33 * number)
    # when it is sampled, then each layer has its own counts, and the line says which ones flow
    found = sample(None, None, [track], [])
    received = [cast(LayerCounts, found.counts[f"trk/{index}"]).received_in for index in range(3)]
    assert received == [10, 0, 30]
    assert found.lines == (Line(track_id="trk", kind="video", codec="VP8", subscribers=0, layers=("h", "l")),)


def test_drops_are_shown_by_cause_and_only_what_there_was() -> None:
    meter = Meter()
    meter.take(Sample({"in1": InCounts(0, 0, unknown=0, unopened=0, refused=0)}), 0)
    meter.take(Sample({"in1": InCounts(0, 0, unknown=0, unopened=6, refused=0)}), 2_000)
    figures = meter.figures()
    assert figures is not None
    assert figures.dropped == {"unopened": 3}
