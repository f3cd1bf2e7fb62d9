"""What lies on disk at every moment, also after a kill: a directory that the next life goes on from."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from models.ladder import AUDIO, RENDITIONS, manifest_name, master_name
from workers.transcode.directory import Directory, Fenced
from workers.transcode.fmp4 import span
from workers.transcode.packager import Packager
from workers.transcode.segments import GRACE, WINDOW

SECONDS = 40
BEGAN = 1_700_000_000.0
SAMPLE_SECONDS = {"video": 1 / 30, "audio": 1024 / 48000}

Stream = tuple[bytes, list[bytes]]
"""What comes before the first sample, and each sample's fragment."""


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stream]:
    """A minute picture and silence, as the encoders write them."""
    directory = tmp_path_factory.mktemp("streams")
    flags = "empty_moov+default_base_moof+frag_every_frame+skip_trailer"
    container = ["-use_editlist", "0", "-movflags", flags, "-f", "mp4"]
    quick = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-bf", "0"]
    picture = [*quick, "-video_track_timescale", "90000"]
    made: dict[str, Stream] = {}
    for kind, source, encoder in (
        ("video", f"color=size=32x18:rate=30:duration={SECONDS}", picture),
        ("audio", f"anullsrc=r=48000:cl=stereo:duration={SECONDS}", ["-c:a", "aac"]),
    ):
        path = directory / f"{kind}.mp4"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, *encoder, *container]
        subprocess.run([*command, str(path)], check=True, timeout=100)
        head, *fragments = path.read_bytes().split(b"moof")
        # Each box begins with its size, four bytes before its name.
        starts = [head, *fragments]
        made[kind] = (
            head[:-4],
            [
                starts[index][-4:] + b"moof" + (body if index == len(fragments) - 1 else body[:-4])
                for index, body in enumerate(fragments)
            ],
        )
    return made


class Life:
    """One epoch: a packager, and how far each rung has come."""

    def __init__(self, root: Path, epoch: int, streams: dict[str, Stream], *, low_latency: bool = False) -> None:
        self.begins = 0.0
        self.slots: list[int] = []
        self.packager = Packager(
            Directory(root, epoch),
            lambda media: self.begins + media,
            low_latency=low_latency,
            on_slot=self.slots.append,
        )
        self._streams = streams
        self._fed = dict.fromkeys(RENDITIONS, 0)
        self.packager.resume()

    def begin(self, captured_at: float) -> Life:
        self.begins = captured_at
        self.packager.begin(captured_at)
        for name in RENDITIONS:
            self.packager.feed(name, self._streams[kind(name)][0])
        return self

    def feed(self, name: str, until: float) -> None:
        """One rung's samples that begin before ``until`` seconds of this epoch."""
        fragments = self._streams[kind(name)][1]
        while self._fed[name] * SAMPLE_SECONDS[kind(name)] < until - 1e-9:
            self.packager.feed(name, fragments[self._fed[name]])
            self._fed[name] += 1

    def play(self, until: float, step: float = 1 / 30) -> Life:
        """All rungs, tick by tick."""
        now = 0.0
        while now < until:
            now = min(until, now + step)
            for name in RENDITIONS:
                self.feed(name, now)
        return self


def kind(name: str) -> str:
    return "audio" if name == AUDIO else "video"


def listed(root: Path, name: str) -> m3u8.M3U8:
    return m3u8.loads((root / name / "index.m3u8").read_text())


def check_files(root: Path, rungs: tuple[str, ...] = RENDITIONS) -> None:
    """Everything that a playlist names is there, whole, and as long as it says."""
    for name in rungs:
        for segment in listed(root, name).segments:
            if segment.gap_tag:
                continue
            data = (root / name / str(segment.uri)).read_bytes()
            timescale = 48_000 if name == AUDIO else 90_000
            assert span(data).duration / timescale == pytest.approx(segment.duration, abs=1e-5)
            assert (root / name / str(segment.init_section.uri)).exists()


def check_agreement(root: Path) -> None:
    """All rungs count discontinuities alike, slot by slot, as players that change rungs do."""
    counts: dict[int, set[int]] = {}
    for name in RENDITIONS:
        playlist = listed(root, name)
        count = playlist.discontinuity_sequence
        for slot, segment in zip(slots(playlist), playlist.segments, strict=True):
            count += segment.discontinuity
            counts.setdefault(slot, set()).add(count)
    assert {slot: found for slot, found in counts.items() if len(found) > 1} == {}


def slots(playlist: m3u8.M3U8) -> list[int]:
    """By name, which must agree with the media sequence."""
    named = [int(str(segment.uri)[1:6]) for segment in playlist.segments]
    assert named == list(range(playlist.media_sequence, playlist.media_sequence + len(named)))
    return named


def test_a_playlist_names_six_and_a_few_more_stay_for_those_who_read_an_older_one(
    tmp_path: Path, streams: dict[str, Stream]
) -> None:
    Life(tmp_path, 1, streams).begin(BEGAN).play(38.3)
    for name in RENDITIONS:
        assert slots(listed(tmp_path, name)) == list(range(13, 19))
        kept = sorted(path.name for path in (tmp_path / name).glob("*_1.m4s"))
        assert kept == [f"s{slot:05d}_1.m4s" for slot in range(19 - WINDOW - GRACE, 19)]
        # Of the open slot alone: it could not be closed after a kill without them.
        assert {path.name[:6] for path in (tmp_path / name).glob("*.p*.m4s")} <= {"s00019"}
    check_files(tmp_path)


def test_after_a_kill_the_half_written_segment_is_closed_and_the_gap_named(
    tmp_path: Path, streams: dict[str, Stream]
) -> None:
    Life(tmp_path, 1, streams).begin(BEGAN).play(5.2)
    (tmp_path / "480p" / ".s00002_1.m4s.1.tmp").write_bytes(b"half")

    second = Life(tmp_path, 2, streams)
    for name in RENDITIONS:
        resumed = listed(tmp_path, name)
        assert slots(resumed) == [0, 1, 2]
        assert resumed.segments[2].duration == pytest.approx(1.0, abs=0.05)
    check_files(tmp_path)

    # It ended at 5 seconds; the next life begins at 9.5: two slots are nobody's.
    second.begin(BEGAN + 9.5).play(4.1)
    for name in RENDITIONS:
        after = listed(tmp_path, name)
        assert slots(after) == [1, 2, 3, 4, 5, 6]
        assert [bool(segment.gap_tag) for segment in after.segments] == [False, False, True, True, False, False]
        assert [segment.discontinuity for segment in after.segments] == [False, False, False, False, True, False]
        assert after.segments[1].init_section.uri == "init_1.mp4"
        assert after.segments[4].init_section.uri == "init_2.mp4"
        assert after.segments[4].program_date_time.timestamp() == pytest.approx(BEGAN + 9.5, abs=0.002)
        assert after.discontinuity_sequence == 0
        assert not list((tmp_path / name).glob("*.tmp"))
    check_files(tmp_path)

    second.play(16.1)
    for name in RENDITIONS:
        later = listed(tmp_path, name)
        assert slots(later) == list(range(7, 13))
        assert later.discontinuity_sequence == 1
        assert (tmp_path / name / "init_1.mp4").exists()

    second.play(30.1)
    for name in RENDITIONS:
        assert [path.name for path in (tmp_path / name).glob("init_*")] == ["init_2.mp4"]


def test_rungs_that_a_kill_left_at_different_places_go_on_together(
    tmp_path: Path, streams: dict[str, Stream]
) -> None:
    first = Life(tmp_path, 1, streams).begin(BEGAN).play(3.9)
    for name, until in (("720p", 5.1), ("480p", 4.0), (AUDIO, 4.1)):
        first.feed(name, until)
    Life(tmp_path, 2, streams).begin(BEGAN + 5.2).play(2.1)
    for name in RENDITIONS:
        assert slots(listed(tmp_path, name)) == [0, 1, 2, 3]
        third = listed(tmp_path, name).segments[2]
        assert bool(third.gap_tag) == (name != "720p")
    check_files(tmp_path)
    check_agreement(tmp_path)


def test_a_rung_that_was_killed_before_its_first_segment_counts_like_the_others(
    tmp_path: Path, streams: dict[str, Stream]
) -> None:
    first = Life(tmp_path, 1, streams).begin(BEGAN)
    first.feed("720p", 3.1)
    first.feed(AUDIO, 0.2)
    second = Life(tmp_path, 2, streams).begin(BEGAN + 5)
    second.play(0.4)
    second.feed("240p", 1.1)
    Life(tmp_path, 3, streams).begin(BEGAN + 7).play(2.1)
    assert [slots(listed(tmp_path, name)) for name in RENDITIONS] == [[0, 1, 2, 3, 4]] * 4
    check_agreement(tmp_path)
    check_files(tmp_path)


@pytest.mark.parametrize("number", range(4))
def test_wherever_it_is_killed_the_sequence_goes_on(
    tmp_path: Path, streams: dict[str, Stream], number: int, seed: int
) -> None:
    chance = random.Random(seed + number)
    begins, newest = BEGAN, -1
    for epoch in range(1, 8):
        life = Life(tmp_path, epoch, streams).begin(begins)
        played = chance.uniform(0, 7)
        life.play(played)
        for name in RENDITIONS:
            life.feed(name, played + chance.uniform(0, 0.6))
        begins += played + chance.uniform(0, 9)
        written = tuple(name for name in RENDITIONS if (tmp_path / name / "index.m3u8").exists())
        check_files(tmp_path, written)
        if written == RENDITIONS:
            check_agreement(tmp_path)
        newest = max([newest, *(slots(listed(tmp_path, name))[-1] for name in written)])
    last = Life(tmp_path, 8, streams).begin(begins).play(4.1)
    last.packager.finish(ended=True)
    ends = {slots(listed(tmp_path, name))[-1] for name in RENDITIONS}
    assert len(ends) == 1
    assert ends.pop() > newest
    check_files(tmp_path)
    check_agreement(tmp_path)
    # As many segments as ever, and no file that nobody knows.
    for name in RENDITIONS:
        assert len(list((tmp_path / name).glob("*.m4s"))) <= WINDOW + GRACE
        assert len(list((tmp_path / name).glob("init_*.mp4"))) <= WINDOW + GRACE


def test_a_newer_life_fences_an_older_one_off(tmp_path: Path, streams: dict[str, Stream]) -> None:
    old = Life(tmp_path, 1, streams).begin(BEGAN).play(3.9)
    Life(tmp_path, 2, streams).begin(BEGAN + 5).play(2.1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(Fenced):
        old.play(4.6)
    with pytest.raises(Fenced):
        old.packager.finish(ended=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(Fenced):
        Life(tmp_path, 1, streams)


def test_low_latency_playlists_name_parts_and_the_next_one(tmp_path: Path, streams: dict[str, Stream]) -> None:
    life = Life(tmp_path, 1, streams, low_latency=True).begin(BEGAN)
    hinted: dict[str, set[str]] = {name: set() for name in RENDITIONS}
    for half in range(1, 28):
        life.play(half / 2 + 0.01)
        for name in RENDITIONS:
            hints = listed(tmp_path, name).data["preload_hint"]
            hinted[name].add(hints["uri"])
    for name in RENDITIONS:
        now = listed(tmp_path, name)
        parts = [part for segment in now.segments for part in segment.parts]
        assert now.data["server_control"]["can_block_reload"] == "YES"
        assert all(float(part.duration) <= now.part_inf.part_target + 1e-5 for part in parts)
        assert all(float(part.duration) >= 0.85 * now.part_inf.part_target for part in parts)
        for part in parts:
            assert (tmp_path / name / str(part.uri)).exists()
            # What was hinted at is what came.
            assert part.uri in hinted[name] | {"s00000_1.p0.m4s"}
        complete = [segment for segment in now.segments if segment.uri]
        assert [len(segment.parts) for segment in complete] == [0, 0, 0, 4, 4, 4]
        reports = {report.uri: report for report in now.rendition_reports}
        assert set(reports) == {f"../{other}/index.m3u8" for other in RENDITIONS if other != name}
        for segment in complete[-3:]:
            whole = (tmp_path / name / str(segment.uri)).read_bytes()
            assert whole == b"".join((tmp_path / name / str(part.uri)).read_bytes() for part in segment.parts)
            assert segment.parts[0].independent == "YES"


def test_without_low_latency_nobody_hears_of_parts(tmp_path: Path, streams: dict[str, Stream]) -> None:
    Life(tmp_path, 1, streams).begin(BEGAN).play(5.2)
    for name in RENDITIONS:
        assert "PART" not in (tmp_path / name / "index.m3u8").read_text()


def test_an_ended_broadcast_says_so_and_goes_on_for_nobody(tmp_path: Path, streams: dict[str, Stream]) -> None:
    life = Life(tmp_path, 1, streams).begin(BEGAN).play(5.2)
    life.packager.finish(ended=True)
    assert all(listed(tmp_path, name).is_endlist for name in RENDITIONS)
    manifest = MPEGDASHParser.parse((tmp_path / manifest_name("free")).read_text())
    assert manifest.minimum_update_period is None
    assert float(str(manifest.media_presentation_duration)[2:-1]) == pytest.approx(5.2, abs=0.05)
    assert Life(tmp_path, 2, streams).packager.state.ended


def test_restarts_are_periods_in_dash(tmp_path: Path, streams: dict[str, Stream]) -> None:
    Life(tmp_path, 1, streams).begin(BEGAN).play(5.2)
    Life(tmp_path, 2, streams).begin(BEGAN + 8).play(6.1)
    manifest = MPEGDASHParser.parse((tmp_path / manifest_name("premium")).read_text())
    first, second = manifest.periods
    assert (first.start, second.start) == ("PT0.000S", "PT8.000S")
    for period, start, init in ((first, 1, "init_1.mp4"), (second, 4, "init_2.mp4")):
        for adaptation in period.adaptation_sets:
            for representation in adaptation.representations:
                (template,) = representation.segment_templates
                assert template.initialization.endswith(init)
                assert template.start_number == start


def test_a_young_broadcast_announces_what_the_encoders_may_do_and_an_older_one_what_they_did(
    tmp_path: Path, streams: dict[str, Stream]
) -> None:
    life = Life(tmp_path, 1, streams).begin(BEGAN).play(2.1)
    young = m3u8.loads((tmp_path / master_name("premium")).read_text())
    life.play(8.1)
    old = m3u8.loads((tmp_path / master_name("premium")).read_text())
    assert young.playlists[0].stream_info.bandwidth > 2_500_000
    assert old.playlists[0].stream_info.bandwidth < 100_000


def test_what_was_never_begun_is_ended_without_a_file_for_players(
    tmp_path: Path, streams: dict[str, Stream]
) -> None:
    Life(tmp_path, 1, streams).packager.finish(ended=True)
    assert not list(tmp_path.rglob("*.m3u8"))
    assert not list(tmp_path.rglob("*.mpd"))
