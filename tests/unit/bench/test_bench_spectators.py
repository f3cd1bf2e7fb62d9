"""The arithmetic of ``bench-spectators``: what a picture's squares say, and how old a picture of a loop is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.spectators import segment_lags
from bench.spectators_clip import BITS, age, frame_number
from bench.spectators_costs import SegmentMeter, Written, written
from bench.spectators_lips import describe_lips, middle, slope
from bench.spectators_rooms import pace_of

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


def test_a_drift_is_found_in_spite_of_outliers_and_its_interval_holds_it() -> None:
    # Given ten milliseconds an hour, coarse as pictures are, and three beeps that belong to nothing
    points = [(second / 3600, 5.0 + 10.0 * second / 3600 + (second * 7 % 5 - 2)) for second in range(600)]
    points[10] = (10 / 3600, 400.0)
    points[300] = (300 / 3600, -350.0)
    points[599] = (599 / 3600, 480.0)
    # When the slope is asked for
    found = slope(points)
    # Then it is theirs, and between its bounds
    assert found.value == pytest.approx(10.0, abs=2.0)
    assert found.low < 10.0 < found.high
    assert -10.0 < found.low < found.high < 30.0


def test_of_two_points_there_is_no_drift_to_tell() -> None:
    with pytest.raises(ValueError, match="three points"):
        slope([(0.0, 1.0), (1.0, 2.0)])
    assert "too few" in describe_lips([(0.0, 0.004), (1.0, 0.004)])[0]


def test_the_middle_has_bounds_that_are_the_same_each_time() -> None:
    found = middle([-4.0, -5.0, -3.0, -4.5, -3.5, 90.0, -4.0])
    assert found.value == -4.0
    assert -5.0 <= found.low <= -4.0 <= found.high <= 90.0
    assert middle([-4.0, -5.0, -3.0, -4.5, -3.5, 90.0, -4.0]) == found


def two_seconds_each(count: int, *, later: float = 0.0, apart: float = 2.0) -> dict[str, Written]:
    return {
        f"s{number:05}_1.m4s": Written(1000.0 + number * apart, 2.0, 0.5 + number * later)
        for number in range(count)
    }


def test_a_room_keeps_up_that_is_neither_late_nor_thin_nor_silent() -> None:
    steady = two_seconds_each(10)
    assert pace_of(steady, until=1020.5).keeps_up
    # whose segments come later and later
    assert not pace_of(two_seconds_each(10, later=0.2), until=1020.5).keeps_up
    # of which ticks are left out: two seconds of media for each 2.1 of capture
    thin = pace_of(two_seconds_each(10, apart=2.1), until=1021.5)
    assert thin.left_out == pytest.approx(0.9 / 20.9, abs=0.001)
    assert not thin.keeps_up
    # that stopped
    assert not pace_of(steady, until=1030.0).keeps_up
    # whose child was another at the end
    assert not pace_of({**steady, "s00010_2.m4s": Written(1020.0, 2.0, 0.5)}, until=1022.5).keeps_up
    # that made nothing
    assert not pace_of({}, until=1020.5).keeps_up
