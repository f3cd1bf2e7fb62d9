"""Twelve seconds of a room with joins, leaves, a stall and a turned phone, and every file they became."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from models.ladder import AUDIO, RENDITIONS, RUNGS, Tier, manifest_name, master_name
from tests.fakes.clock_clip import RATE, Clip
from tests.fakes.egress_server import Publisher
from tests.fakes.lock_step import BEGAN, LockStep, Patient
from tests.integration.transcode import played
from workers.transcode.directory import Directory
from workers.transcode.ladder import Ladder
from workers.transcode.packager import Packager
from workers.transcode.posters import Posters
from workers.transcode.program import Program
from workers.transcode.source import Room

SECONDS = 11.9
CLIP_FRAMES = 180
JOINS, LEAVES = 3.0, 8.0
CHANGES = (JOINS, LEAVES, 9.0, 9.5)
TOGETHER = ((JOINS, LEAVES), (9.0, 9.5))
# Spectators are promised 25 ms; without a network nothing but rounding is left.
AV_OFFSET_SECONDS = 0.004
PROFILES = {"Constrained Baseline": "42C0", "Main": "4D40", "High": "6400"}


@dataclass
class Played:
    """The run, and what it left."""

    root: Path
    ticks: int
    slots: list[int]
    begins: float


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Clip]) -> Played:
    """Ada all the time; Ben from 3 to 8, upright from 4.5, stalled from 6 to 7; a third one without sound."""
    root = tmp_path_factory.mktemp("broadcast")
    publishers = [
        Publisher("ada", clips["wide"]),
        Publisher("ben", clips["other"], JOINS, LEAVES, stalls=((6.0, 7.0),), turns=((4.5, clips["upright"]),)),
        Publisher("cid", clips["other"], 9.0, 9.5, sound=False),
    ]
    room = Room()
    clock = LockStep(room, publishers, SECONDS)
    program = Program(room, clock)
    slots: list[int] = []
    packager = Packager(
        Directory(root, 1), program.capture_time, low_latency=False, on_slot=lambda slot: slots.append(slot)
    )
    packager.resume()
    ladder = Ladder("ultrafast")
    posters = Posters(packager.directory, packager.state)
    begins = program.begin(room.over.is_set)
    assert begins is not None
    packager.begin(begins)
    pump = threading.Thread(target=packager.pump, args=(ladder.outputs,))
    pump.start()
    encoders = Patient(ladder)
    program.run(encoders, posters, room.over.is_set)
    ladder.end_input()
    pump.join()
    assert ladder.stop() == 0
    posters.stop()
    packager.finish(ended=True)
    return Played(root, encoders.taken, slots, begins)


def ada(root: Path, rung: str) -> list[tuple[float, played.Bright]]:
    """Ada's part of every picture: all of it, or the middle of the left half while there are two."""
    shown = []
    for picture in played.pictures(played.media(root, rung)):
        together = any(since <= picture.at < until for since, until in TOGETHER)
        where = (0.0, 0.25, 0.5, 0.5) if together else (0.0, 0.0, 1.0, 1.0)
        shown.append((picture.at, played.part(picture.bright, *where)))
    return shown


@pytest.mark.parametrize("rung", ["720p", "240p"])
def test_every_picture_is_shown_once_through_joins_leaves_stalls_and_turns(show: Played, rung: str) -> None:
    shown = ada(show.root, rung)
    # When exactly the layout changes is not what is asked here, and the node's last pictures were under way.
    steady = [(at, bright) for at, bright in shown[:-3] if not any(0 <= at - change < 0.6 for change in CHANGES)]
    numbers = played.numbers([bright for _, bright in steady])
    assert len(shown) == show.ticks
    assert numbers == [round(at * RATE) % CLIP_FRAMES for at, _ in steady]


@pytest.mark.parametrize("rung", [rung.name for rung in RUNGS])
def test_flash_and_beep_meet_on_every_rung(show: Played, rung: str) -> None:
    shown = [(at, bright) for at, bright in ada(show.root, rung) if at < JOINS or at > 10.1]
    flashes = played.flash_times(shown)
    beeps = played.beep_times(*played.samples(played.media(show.root, AUDIO)))
    offsets = [min((beep - flash for beep in beeps), key=abs) for flash in flashes]
    assert len(offsets) >= 3
    assert max(abs(offset) for offset in offsets) <= AV_OFFSET_SECONDS, offsets


def test_sound_goes_on_whoever_comes_and_goes(show: Played) -> None:
    start, heard = played.samples(played.media(show.root, AUDIO))
    assert [round(beep) for beep in played.beep_times(start, heard)] == list(range(12))
    # Ben's beep on top of Ada's, and neither distorted into the limit.
    alone, both = heard[int(2.02 * 48000) : int(2.08 * 48000)], heard[int(5.02 * 48000) : int(5.08 * 48000)]
    assert both.max() > 1.6 * alone.max()


def test_playlists_are_of_one_piece(show: Played) -> None:
    for name in RENDITIONS:
        listed = played.playlist(show.root, name)
        assert listed.media_sequence == 0
        assert listed.is_endlist
        assert listed.is_independent_segments
        assert listed.target_duration == 2
        assert [segment.uri for segment in listed.segments] == [f"s{slot:05d}_1.m4s" for slot in range(6)]
        assert not any(segment.discontinuity or segment.gap_tag for segment in listed.segments)
        assert listed.discontinuity_sequence == 0
        assert all(abs(segment.duration - 2) < 0.03 for segment in listed.segments[:-1])
        assert sum(segment.duration for segment in listed.segments) == pytest.approx(show.ticks / RATE, abs=0.03)


@pytest.mark.parametrize("rung", [rung.name for rung in RUNGS])
def test_program_date_time_is_when_the_picture_was_captured(show: Played, rung: str) -> None:
    for segment in played.playlist(show.root, rung).segments[:1] + played.playlist(show.root, rung).segments[5:]:
        first = played.pictures(played.media(show.root, rung, str(segment.uri)))[0]
        captured = BEGAN + (int(segment.uri[1:6]) // 3 * CLIP_FRAMES + played.numbers([first.bright])[0]) / RATE
        assert segment.program_date_time.timestamp() == pytest.approx(captured, abs=0.5 / RATE)


def test_key_frames_open_every_segment_at_the_same_times(show: Played) -> None:
    keys = {
        rung.name: [one.at for one in played.pictures(played.media(show.root, rung.name)) if one.key]
        for rung in RUNGS
    }
    for times in keys.values():
        assert times == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0, 10.0])


def probe(*arguments: str) -> dict[str, Any]:
    """What ffprobe says."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", *arguments]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout))


def test_ffprobe_reads_the_playlists(show: Played) -> None:
    for rung in RUNGS:
        stream = probe("-allowed_extensions", "ALL", str(show.root / rung.name / "index.m3u8"))["streams"][0]
        assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", rung.width, rung.height)
        assert stream["display_aspect_ratio"] == "16:9"
        assert stream["r_frame_rate"] == "30/1"
        assert stream["has_b_frames"] == 0
    sound = probe("-allowed_extensions", "ALL", str(show.root / AUDIO / "index.m3u8"))["streams"][0]
    assert (sound["codec_name"], sound["channels"], sound["sample_rate"]) == ("aac", 2, "48000")


@pytest.mark.parametrize(("tier", "names"), [("premium", ["720p", "480p", "240p"]), ("free", ["480p", "240p"])])
def test_masters_say_what_is_there(show: Played, tier: Tier, names: list[str]) -> None:
    master = m3u8.loads((show.root / master_name(tier)).read_text())
    assert [variant.uri for variant in master.playlists] == [f"{name}/index.m3u8" for name in [*names, AUDIO]]
    assert [medium.uri for medium in master.media] == [f"{AUDIO}/index.m3u8"]
    sound_bits = bits(show.root, AUDIO)
    for variant, name in zip(master.playlists, names, strict=False):
        info, rung = variant.stream_info, next(rung for rung in RUNGS if rung.name == name)
        stream = probe(str(whole(show.root, name)))["streams"][0]
        assert info.codecs == f"avc1.{PROFILES[stream['profile']]}{stream['level']:02X},mp4a.40.2"
        assert info.resolution == (rung.width, rung.height)
        assert info.frame_rate == 30
        picture_bits = bits(show.root, name)
        assert info.bandwidth == pytest.approx(max(picture_bits[:5]) + max(sound_bits[:5]), rel=0.02)
        assert sum(picture_bits) / 6 <= info.average_bandwidth <= info.bandwidth


def bits(root: Path, name: str) -> list[float]:
    """Bits a second of each segment."""
    listed = played.playlist(root, name).segments
    return [(root / name / str(one.uri)).stat().st_size * 8 / one.duration for one in listed]


def whole(root: Path, name: str) -> Path:
    """A rung as one file, beside the broadcast."""
    path = root.parent / f"{root.name}-{name}.mp4"
    path.write_bytes(played.media(root, name))
    return path


@pytest.mark.parametrize(("tier", "names"), [("premium", ["720p", "480p", "240p"]), ("free", ["480p", "240p"])])
def test_the_dash_manifest_names_the_same_segments(show: Played, tier: Tier, names: list[str]) -> None:
    parsed = MPEGDASHParser.parse((show.root / manifest_name(tier)).read_text())
    assert (parsed.type, parsed.minimum_update_period) == ("dynamic", None)
    (period,) = parsed.periods
    pictures, sound = period.adaptation_sets
    assert [one.id for one in pictures.representations] == names
    for representation in [*pictures.representations, *sound.representations]:
        (template,) = representation.segment_templates
        number = template.start_number
        listed = played.playlist(show.root, representation.id).segments
        durations = [
            entry.d / template.timescale
            for entry in template.segment_timelines[0].Ss
            for _ in range((entry.r or 0) + 1)
        ]
        assert durations == pytest.approx([one.duration for one in listed], abs=1e-4)
        for offset, segment in enumerate(listed):
            media = template.media.replace("$RepresentationID$", representation.id)
            assert media.replace("$Number%05d$", f"{number + offset:05d}") == f"{representation.id}/{segment.uri}"


def test_ffmpeg_plays_the_dash_manifest(show: Played) -> None:
    streams = probe(str(show.root / manifest_name("premium")))["streams"]
    assert sorted(stream["codec_type"] for stream in streams) == ["audio", "video", "video", "video"]
    # A live manifest never ends for ffmpeg: ask for what there is.
    command = ["ffmpeg", "-v", "error", "-t", "10", "-i", manifest_name("premium"), "-map", "0", "-f", "null", "-"]
    played_all = subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=show.root)
    assert played_all.stderr == b""


def test_poster_and_storyboard(show: Played) -> None:
    poster = probe(str(show.root / "poster.jpg"))["streams"][0]
    assert (poster["codec_name"], poster["width"], poster["height"]) == ("mjpeg", 640, 360)
    sprite = probe(str(show.root / "storyboard_0.jpg"))["streams"][0]
    assert (sprite["width"], sprite["height"]) == (800, 540)
    cues = (show.root / "storyboard.vtt").read_text()
    assert cues.startswith("WEBVTT\n")
    assert "storyboard_0.jpg#xywh=160,0,160,90" in cues


def test_nothing_is_left_over(show: Played) -> None:
    assert [path.name for path in show.root.rglob("*.tmp")] == []
    for name in RENDITIONS:
        files = {path.name for path in (show.root / name).iterdir()}
        assert files == {"index.m3u8", "init_1.mp4", *(f"s{slot:05d}_1.m4s" for slot in range(6))}
    assert show.slots == [0, 1, 2, 3, 4, 5]
