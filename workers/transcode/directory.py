"""A broadcast's directory: whole files only, written by one epoch at a time, and what a kill left in it.

Every file appears by a rename, so that nobody reads half of one. ``epoch`` names who may write: a newer
child raises it first, and an older one that is still alive finds that out before it changes anything that
others read. Nothing waits for the disk: what a machine loses with its power is live video.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import msgspec

from models.ladder import RENDITIONS
from workers.transcode import fmp4
from workers.transcode.segments import (
    Part,
    Segment,
    State,
    gap,
    gap_like,
    part_name,
    segment_name,
)

EPOCH_FILE = "epoch"
STATE_FILE = "state.json"
_PART = re.compile(r"s(\d{5,})_(\d+)\.p(\d+)\.m4s")
_state: msgspec.json.Decoder[State] = msgspec.json.Decoder(State)


class Fenced(Exception):
    """Another child, with a higher epoch, writes this broadcast now."""


class Directory:
    """Where one epoch of a broadcast writes. Raises OSError as the file system does."""

    def __init__(self, root: Path, epoch: int) -> None:
        self.root = root
        self.epoch = epoch

    def take(self) -> None:
        """Make this epoch the one that writes; raises Fenced if a newer one already does."""
        for name in RENDITIONS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if self._written_epoch() > self.epoch:
            raise Fenced
        self._replace(EPOCH_FILE, str(self.epoch).encode())

    def check(self) -> None:
        """Raises Fenced when this epoch writes no more, or when the directory was taken away."""
        if self._written_epoch() != self.epoch:
            raise Fenced

    def _written_epoch(self) -> int:
        try:
            return int((self.root / EPOCH_FILE).read_text() or 0)
        except FileNotFoundError:
            return 0

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file that others read; raises Fenced."""
        self.check()
        self._replace(name, data)

    def _replace(self, name: str, data: bytes) -> None:
        path = self.root / name
        # The epoch in it: two lives never write into one temporary file.
        temporary = path.with_name(f".{path.name}.{self.epoch}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)

    def read(self, name: str) -> bytes:
        """A file's content; raises FileNotFoundError."""
        return (self.root / name).read_bytes()

    def remove(self, *names: str) -> None:
        """Files that nobody asks for any more; one that is gone already is fine."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.root / name).unlink()

    def load(self) -> State:
        """What was written of this broadcast; a fresh state when nothing was."""
        try:
            return _state.decode(self.read(STATE_FILE))
        except FileNotFoundError:
            return State()

    def save(self, state: State) -> None:
        """Keep ``state`` for the next epoch; raises Fenced."""
        self.write(STATE_FILE, msgspec.json.encode(state))

    def sweep(self, state: State) -> None:
        """Remove what an earlier epoch was killed in the middle of, and no state knows."""
        known = {
            f"{name}/{file}"
            for name, rendition in state.renditions.items()
            for segment in rendition.segments
            for file in (segment.name, *(part.name for part in segment.parts))
        }
        for name in RENDITIONS:
            for path in (self.root / name).iterdir():
                its_name = f"{name}/{path.name}"
                if path.name.endswith(".tmp") or (path.suffix == ".m4s" and its_name not in known):
                    self.remove(its_name)

    def open_parts(self, name: str, slot: int) -> dict[int, list[tuple[int, int]]]:
        """The slots from ``slot`` on that ``name`` has parts of: slot to (epoch, part) pairs, in order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for path in (self.root / name).iterdir():
            match = _PART.fullmatch(path.name)
            if match and int(match[1]) >= slot:
                found.setdefault(int(match[1]), []).append((int(match[2]), int(match[3])))
        return {its_slot: sorted(parts) for its_slot, parts in sorted(found.items())}


def recover(directory: Directory, state: State) -> None:
    """Close, on every rung, the segment that a killed child had half written, from its parts.

    Afterwards all rungs end with the same slot; one that has less of it has a gap there.
    """
    for name, rendition in state.renditions.items():
        after = rendition.segments[-1].slot + 1 if rendition.segments else 0
        for slot, parts in directory.open_parts(name, after).items():
            epoch = parts[-1][0]
            last = rendition.segments[-1] if rendition.segments else None
            if epoch not in state.epochs or rendition.timescale == 0 or (last and slot != last.slot + 1):
                continue
            discontinuity = last is not None and last.epoch != epoch
            indices = [index for its_epoch, index in parts if its_epoch == epoch]
            begins = state.epochs[epoch]
            rendition.append(
                _close(directory, name, slot, epoch, indices, begins, rendition.timescale, discontinuity)
            )
    level(state)


def level(state: State) -> None:
    """Gaps where another rung has a slot and this one has not."""
    known = {segment.slot: segment for rendition in state.renditions.values() for segment in rendition.segments}
    for rendition in state.renditions.values():
        after = rendition.segments[-1].slot + 1 if rendition.segments else min(known, default=0)
        for slot in range(after, state.next_slot()):
            rendition.append(gap_like(known[slot]))


def skip(state: State, count: int) -> None:
    """Gaps on every rung: ``count`` slots that nobody captured."""
    for rendition in state.renditions.values():
        for _ in range(count):
            last = rendition.segments[-1]
            rendition.append(gap(last.slot + 1, last.epoch, last.ends_at))


def _close(
    directory: Directory,
    name: str,
    slot: int,
    epoch: int,
    indices: list[int],
    begins: float,
    timescale: int,
    discontinuity: bool,
) -> Segment:
    parts: list[Part] = []
    chunks: list[bytes] = []
    decode_time, ticks = 0, 0
    for index in indices:
        data = directory.read(f"{name}/{part_name(slot, epoch, index)}")
        span = fmp4.span(data)
        decode_time = span.decode_time if not chunks else decode_time
        ticks += span.duration
        parts.append(
            Part(name=part_name(slot, epoch, index), seconds=span.duration / timescale, independent=span.key)
        )
        chunks.append(data)
    whole = b"".join(chunks)
    directory.write(f"{name}/{segment_name(slot, epoch)}", whole)
    return Segment(
        slot=slot,
        epoch=epoch,
        seconds=ticks / timescale,
        captured_at=begins + decode_time / timescale,
        decode_time=decode_time,
        ticks=ticks,
        size=len(whole),
        discontinuity=discontinuity,
        parts=tuple(parts),
    )
