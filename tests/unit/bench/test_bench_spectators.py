"""The arithmetic of ``bench-spectators``: what a picture's squares say, and how old a picture of a loop is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.spectators import segment_lags
from bench.spectators_clip import BITS, age, frame_number
from bench.spectators_costs import SegmentMeter, written

LIGHT, DARK = 230.0, 20.0


def squares(number: int) -> list[float]:
    ones = [bool(number >> bit & 1) for bit in range(BITS)]
    return [LIGHT if one else DARK for one in ones] + [DARK if one else LIGHT for one in ones]


@pytest.mark.parametrize("number", [0, 1, 137, 299, 511])
def test_a_picture_says_its_number(number: int) -> None:
    assert frame_number(squares(number)) == number


def test_a_picture_that_is_unclear_says_nothing() -> None:
    clear = squares(137)
    assert frame_number([128.0, *clear[1:]]) is None
    assert frame_number([clear[BITS], *clear[1:]]) is None
    assert frame_number(clear[:-1]) is None


def test_of_a_clip_that_repeats_the_likely_age_is_taken() -> None:
    # Frame 30 is sent one second after the start, and again every ten.
    assert age(30, started_at=100.0, shown_at=126.0, about=5.2) == pytest.approx(5.0)
    assert age(30, started_at=100.0, shown_at=126.0, about=14.0) == pytest.approx(15.0)


def test_a_playlist_says_how_many_segments_there_were_and_when_each_was_captured(tmp_path: Path) -> None:
    assert written(tmp_path / "index.m3u8") == 0
    (tmp_path / "s00007_1.m4s").touch()
    (tmp_path / "index.m3u8").write_text(
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:6\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n#EXT-X-GAP\n"
        "#EXTINF:2.00000,\ns00006_1.m4s\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:02.000Z\n"
        "#EXTINF:2.00000,\ns00007_1.m4s\n"
    )
    assert written(tmp_path / "index.m3u8") == 8
    written_at = (tmp_path / "s00007_1.m4s").stat().st_mtime
    assert segment_lags(tmp_path) == {"s00007_1.m4s": pytest.approx(written_at - 1767225604.0)}


def test_cpu_is_counted_between_segments_and_not_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter([10.0, 10.8, 12.0])
    monkeypatch.setattr("bench.spectators_costs.cpu_seconds", lambda pids: next(used))
    playlist = tmp_path / "index.m3u8"
    meter = SegmentMeter(playlist, [1])
    for segments in (1, 1, 2, 3):
        playlist.write_text("#EXTM3U\n" + "#EXTINF:2.0,\n" * segments)
        meter.look()
    # two segments after the first note: two CPU seconds for four of media
    assert meter.media_seconds == 4
    assert meter.cores() == [0.5]
