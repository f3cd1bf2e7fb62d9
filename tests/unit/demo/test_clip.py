"""The clip's pace and timestamps, without a file: packets at their own rate, for ever, never in a burst."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path
from typing import Any

import pytest

from demo import media_file
from demo.clip import PacketTrack

PACKETS = [b"key", b"a", b"b", b"key", b"c", b"d"]


class FakeClip:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def elapsed(self) -> float:
        return self.seconds


def track(clip: FakeClip) -> PacketTrack:
    return PacketTrack("video", PACKETS, per_second=10, clock_rate=90_000, key_every=3, clip=clip)  # type: ignore[arg-type]


def received(clip: FakeClip, one: PacketTrack, count: int) -> list[Any]:
    async def take() -> list[Any]:
        packets = []
        for _ in range(count):
            packets.append(await one.recv())
            clip.seconds += 0.1
        return packets

    return asyncio.run(take())


def test_the_file_goes_round_and_its_clock_goes_on() -> None:
    packets = received(clip := FakeClip(), track(clip), 8)
    assert [bytes(packet) for packet in packets] == [*PACKETS, b"key", b"a"]
    assert [packet.pts for packet in packets] == [number * 9_000 for number in range(8)]


def test_a_packet_waits_until_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a clock that only moves while something sleeps
    clip, slept = FakeClip(), []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        clip.seconds += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    one = track(clip)

    async def take() -> None:
        for _ in range(3):
            await one.recv()

    # when
    asyncio.run(take())
    # then
    assert slept == [0.1, 0.1]


def test_after_a_stop_it_goes_on_with_a_key_frame_of_now() -> None:
    # given
    clip = FakeClip()
    one = track(clip)
    received(clip, one, 2)
    # when the process stood still for four seconds
    clip.seconds = 4.2
    [packet] = received(clip, one, 1)
    # then what was missed is not sent
    assert bytes(packet) == b"key"
    assert packet.pts == 42 * 9_000


def test_the_file_is_made_by_one_process_at_a_time_and_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        # Another process that wants it now waits.
        with path.with_suffix(".lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.touch()
        made.append(path)

    monkeypatch.setattr(media_file, "_make", make)
    assert media_file.media_file(tmp_path) == media_file.media_file(tmp_path) == made[0]
    assert len(made) == 1
