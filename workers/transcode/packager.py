"""From the encoders' samples to segments, parts, playlists and manifests on disk.

One thread feeds it; whoever reads the files sees each whole or not at all. Knows nothing of rooms or
pictures: what it gets is fragmented MP4 and, through ``capture_time``, what moment a media time stands for.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Mapping

from models.ladder import PARTS_PER_SLOT, RENDITIONS, SLOT_SECONDS, TIERS, manifest_name, master_name
from workers.transcode import playlists
from workers.transcode.directory import Directory, recover, skip
from workers.transcode.fmp4 import Init, Reader, Sample, chunk
from workers.transcode.manifests import manifest
from workers.transcode.segments import (
    Part,
    Rendition,
    Segment,
    State,
    init_name,
    missed_slots,
    part_name,
    part_of,
    slot_of,
)

READ_BYTES = 256 * 1024
GATHER_SECONDS = 0.04
"""Without low latency: how long to let pipes fill before reading. Each waking takes the interpreter from the
decoder, and four encoders write 137 times a second."""
RECOVERY_PARTS = 2
"""Without low latency, parts serve recovery alone: of a killed child's open segment at most one is lost."""

CaptureTime = Callable[[float], float]
"""From seconds of this epoch's media time to Unix seconds of capture."""


class Packager:
    """One epoch of one broadcast. Call ``resume``, ``begin``, then ``pump`` or ``feed``, then ``finish``."""

    def __init__(
        self, directory: Directory, capture_time: CaptureTime, *, low_latency: bool, on_slot: Callable[[int], None]
    ) -> None:
        self.directory = directory
        self.state = State()
        self._capture_time = capture_time
        self._low_latency = low_latency
        self.parts_per_slot = PARTS_PER_SLOT if low_latency else RECOVERY_PARTS
        self._on_slot = on_slot
        self._lanes: dict[str, _Lane] = {}
        self._first_slot = 0
        self._told_slot = -1
        self._masters: dict[str, str] = {}

    def resume(self) -> None:
        """Take the directory over: raises Fenced. What the epoch before left half written is published."""
        self.directory.take()
        self.state = self.directory.load()
        recover(self.directory, self.state)
        self._trim()
        self.directory.save(self.state)
        self.directory.sweep(self.state)
        self._publish_all()

    def begin(self, captured_at: float) -> None:
        """Media time 0 of this epoch was captured at ``captured_at``, Unix seconds."""
        state, epoch = self.state, self.directory.epoch
        if not state.origin:
            state.origin = captured_at
        state.epochs[epoch] = captured_at
        ends = [r.segments[-1].ends_at for r in state.renditions.values() if r.segments]
        if ends:
            skip(state, missed_slots(max(ends), captured_at))
        self._first_slot = state.next_slot()
        for name, rendition in state.renditions.items():
            self._lanes[name] = _Lane(self, name, rendition, self._first_slot)
        self.directory.save(state)

    def pump(self, outputs: Mapping[str, int]) -> None:
        """Read the encoders' pipes, by rung, until all have ended. Raises what ``feed`` raises."""
        with selectors.DefaultSelector() as selector:
            for name, fd in outputs.items():
                selector.register(fd, selectors.EVENT_READ, name)
            while selector.get_map():
                selector.select()
                if not self._low_latency:
                    time.sleep(GATHER_SECONDS)
                for key, _ in selector.select(0):
                    data = os.read(key.fd, READ_BYTES)
                    if data:
                        self.feed(str(key.data), data)
                    else:
                        selector.unregister(key.fd)

    def feed(self, name: str, data: bytes) -> None:
        """Bytes of rung ``name``. Raises Fenced, BrokenStream, OSError."""
        self._lanes[name].feed(data)

    def finish(self, *, ended: bool) -> None:
        """Close what is open; with ``ended`` the broadcast is over for good."""
        for lane in self._lanes.values():
            lane.close()
        self.state.ended = ended
        self.directory.save(self.state)
        self._publish_all()

    def part_written(self, lane: _Lane) -> None:
        """A lane has one part more."""
        if self._low_latency:
            self._publish(lane.name)

    def segment_written(self, lane: _Lane, segment: Segment) -> None:
        """A lane has one segment more."""
        self._trim()
        self.directory.save(self.state)
        self._publish(lane.name)
        slots = [r.segments[-1].slot if r.segments else -1 for r in self.state.renditions.values()]
        if min(slots) > self._told_slot and min(slots) >= self._first_slot:
            self._told_slot = min(slots)
            self._publish_masters()
            self._on_slot(self._told_slot)

    def newest_end(self) -> float:
        """Unix time of capture up to which every rung is on disk."""
        return min(r.segments[-1].ends_at for r in self.state.renditions.values() if r.segments)

    def captured_at(self, media_seconds: float) -> float:
        """Unix time of capture of a moment of this epoch."""
        return self._capture_time(media_seconds)

    def _publish(self, name: str) -> None:
        opened = {its: lane.open_slot() for its, lane in self._lanes.items()} if self._low_latency else {}
        text = playlists.media_playlist(
            self.state.renditions[name],
            ended=self.state.ended,
            open_slot=opened.get(name),
            reports=playlists.others(name, opened),
        )
        self.directory.write(f"{name}/index.m3u8", text.encode())

    def _publish_all(self) -> None:
        written = [name for name in RENDITIONS if self.state.renditions[name].segments]
        for name in written:
            self._publish(name)
        if written:
            self._publish_masters()

    def _publish_masters(self) -> None:
        now = time.time()
        for tier in TIERS:
            self.directory.write(manifest_name(tier), manifest(self.state, tier, now).encode())
            text = playlists.master_playlist(self.state, tier)
            if self._masters.get(tier) != text:
                self._masters[tier] = text
                self.directory.write(master_name(tier), text.encode())

    def _trim(self) -> None:
        """Remove the files that no player may ask for any more."""
        for name, rendition in self.state.renditions.items():
            old = rendition.pop_old()
            files = [file for segment in old for file in (segment.name, *(part.name for part in segment.parts))]
            self.directory.remove(*(f"{name}/{file}" for file in files))
            self._drop_parts(name, rendition)
            in_use = {segment.epoch for segment in rendition.segments} | {self.directory.epoch}
            for epoch in [epoch for epoch in rendition.codecs if epoch not in in_use]:
                del rendition.codecs[epoch]
                self.directory.remove(f"{name}/{init_name(epoch)}")
        in_use = {epoch for rendition in self.state.renditions.values() for epoch in rendition.codecs}
        self.state.epochs = {
            epoch: begins
            for epoch, begins in self.state.epochs.items()
            if epoch in in_use or epoch == self.directory.epoch
        }

    def _drop_parts(self, name: str, rendition: Rendition) -> None:
        """Parts serve low latency at the live edge; everything else takes whole segments."""
        keep = playlists.SEGMENTS_WITH_PARTS + PARTS_KEPT_SLOTS if self._low_latency else 0
        for index, segment in enumerate(rendition.segments[: len(rendition.segments) - keep]):
            if segment.parts:
                self.directory.remove(*(f"{name}/{part.name}" for part in segment.parts))
                rendition.segments[index] = segment.without_parts()


PARTS_KEPT_SLOTS = 2
"""How long parts stay after playlists stopped naming them."""


class _Lane:
    """One rung on its way from samples to parts to a segment."""

    def __init__(self, packager: Packager, name: str, rendition: Rendition, first_slot: int) -> None:
        self.name = name
        self._packager = packager
        self._rendition = rendition
        self._reader = Reader()
        self._first_slot = first_slot
        self._samples: list[Sample] = []
        self._parts: list[Part] = []
        self._chunks: list[bytes] = []
        self._sequence = 0
        self._slot = first_slot
        self._began = 0
        self._ticks = 0
        self._discontinuity = bool(rendition.segments)

    def feed(self, data: bytes) -> None:
        for item in self._reader.feed(data):
            if isinstance(item, Init):
                self._take_init(item)
            else:
                self._take(item)

    def close(self) -> None:
        """Write what there is of the open segment."""
        self._write_part()
        self._write_segment()

    def open_slot(self) -> playlists.Open:
        """What the low-latency playlist says of the slot being written."""
        began = self._began if self._parts else self._next_time()
        timescale = self._rendition.timescale or 1
        return playlists.Open(
            self._slot,
            self._packager.directory.epoch,
            self._packager.captured_at(began / timescale),
            self._discontinuity,
            tuple(self._parts),
        )

    def _next_time(self) -> int:
        return (self._slot - self._first_slot) * SLOT_SECONDS * self._rendition.timescale

    def _take_init(self, init: Init) -> None:
        directory = self._packager.directory
        directory.write(f"{self.name}/{init_name(directory.epoch)}", init.data)
        self._rendition.codecs[directory.epoch] = init.codec
        self._rendition.timescale = init.timescale
        directory.save(self._packager.state)

    def _take(self, sample: Sample) -> None:
        """A part ends with the sample after which the next one begins in another part of its slot."""
        timescale, parts = self._rendition.timescale, self._packager.parts_per_slot
        if not self._samples and not self._parts:
            self._slot = self._first_slot + slot_of(sample.decode_time, timescale)
            self._began, self._ticks = sample.decode_time, 0
        self._samples.append(sample)
        self._ticks += sample.duration
        after = sample.decode_time + sample.duration
        if self._first_slot + slot_of(after, timescale) != self._slot:
            self.close()
        elif part_of(after, timescale, parts) != part_of(sample.decode_time, timescale, parts):
            self._write_part()
            self._packager.part_written(self)

    def _write_part(self) -> None:
        if not self._samples:
            return
        directory = self._packager.directory
        self._sequence += 1
        data = chunk(self._sequence, self._samples)
        part = Part(
            name=part_name(self._slot, directory.epoch, len(self._parts)),
            seconds=sum(sample.duration for sample in self._samples) / self._rendition.timescale,
            independent=self._samples[0].key,
        )
        directory.write(f"{self.name}/{part.name}", data)
        self._parts.append(part)
        self._chunks.append(data)
        self._samples = []

    def _write_segment(self) -> None:
        if not self._parts:
            return
        directory, timescale = self._packager.directory, self._rendition.timescale
        segment = Segment(
            slot=self._slot,
            epoch=directory.epoch,
            seconds=self._ticks / timescale,
            captured_at=self._packager.captured_at(self._began / timescale),
            decode_time=self._began,
            ticks=self._ticks,
            size=sum(len(data) for data in self._chunks),
            discontinuity=self._discontinuity,
            parts=tuple(self._parts),
        )
        directory.write(f"{self.name}/{segment.name}", b"".join(self._chunks))
        self._rendition.append(segment)
        self._parts, self._chunks, self._discontinuity = [], [], False
        self._slot += 1
        self._packager.segment_written(self, segment)
