"""The real recorder, at its own pace: one file out of whatever was killed, and not a frame after the end."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from models.ladder import HEIGHT, WIDTH
from tests.fakes.clock_clip import RATE, Clip, read_number
from tests.fakes.egress_server import FakeEgress, Publisher
from tests.integration.transcode import played, processes
from tests.integration.transcode.processes import KEY, Process
from workers.transcode.jobs import LOST, OK, WHOLE

ROOM = "private-ses_x"


@contextmanager
def recorder(node: FakeEgress | None, directory: Path, epoch: int, free_bytes: int = 0) -> Iterator[Process]:
    job = {
        "recordingId": "rec_x",
        "roomId": ROOM,
        "egressUrl": node.url if node else "",
        "directory": str(directory),
        "epoch": epoch,
        "preset": "ultrafast",
        "freeBytes": free_bytes,
    }
    with processes.running("workers.transcode.recorder", job) as process:
        yield process


def probe(path: Path) -> dict[str, Any]:
    """What somebody else's tool finds in the file; it must find nothing wrong."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    found = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert found.stderr == b""
    return dict(json.loads(found.stdout))


WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0)
SIDE_BY_SIDE = ((0.0, 0.25, 0.5, 0.5), (0.5, 0.25, 0.5, 0.5))


def numbers(path: Path, place: tuple[float, float, float, float] = WHOLE_PICTURE) -> list[int]:
    """The numbers of all pictures, read in a part of each, without repeats."""
    found: list[int] = []
    for picture in played.pictures(path.read_bytes()):
        number = read_number(played.part(picture.bright, *place))
        if not found or number != found[-1]:
            found.append(number)
    return found


def test_what_was_killed_plays_and_all_of_it_becomes_one_file(tmp_path: Path, clips: dict[str, Clip]) -> None:
    with FakeEgress(ROOM, KEY, [Publisher("ada", clips["wide"])]) as node:
        with recorder(node, tmp_path, 1) as first:
            first.until("progress")
            first.until("progress")
            encoder = first.child()
            first.process.send_signal(signal.SIGKILL)
            assert first.status() == -signal.SIGKILL
            assert processes.ends(encoder)
        part = tmp_path / "part_1.mp4"
        # then it plays as far as it came
        kinds = {stream["codec_type"]: stream for stream in probe(part)["streams"]}
        assert (kinds["video"]["codec_name"], kinds["audio"]["codec_name"]) == ("h264", "aac")
        assert (kinds["video"]["width"], kinds["video"]["height"]) == (WIDTH, HEIGHT)
        before = numbers(part)
        assert before == sorted(before)
        assert len(before) > 3
        # when its encoder is killed in the next one's life, and a third one is told to end
        with recorder(node, tmp_path, 2) as second:
            second.until("progress")
            processes.kill(second.child())
            assert second.status() == LOST
        with recorder(node, tmp_path, 3) as third:
            third.until("progress")
            third.tell("END")
            said = third.until("ended")
            assert (said["reason"], third.status()) == ("ENDED", OK)
    # then there is one file of all three, for nobody else to read, with its index in front
    whole = tmp_path / WHOLE
    assert [path.name for path in tmp_path.iterdir()] == [WHOLE]
    assert said["size"] == whole.stat().st_size
    assert stat.S_IMODE(whole.stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    data = whole.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert float(probe(whole)["format"]["duration"]) * 1000 == pytest.approx(said["durationMs"], abs=50)
    joined = played.pictures(data)
    assert numbers(whole)[: len(before) - 1] == before[:-1]
    assert [picture.at for picture in joined] == sorted(picture.at for picture in joined)
    # and who is asked to complete it once more finds it complete
    with recorder(None, tmp_path, 4) as fourth:
        assert fourth.until("ended")["size"] == said["size"]


def test_the_last_frame_handed_out_is_the_last_one_recorded(tmp_path: Path, clips: dict[str, Clip]) -> None:
    seconds = 3.0
    with FakeEgress(ROOM, KEY, [Publisher("ada", clips["wide"]), Publisher("bob", clips["other"])],
                    closes=seconds) as node, recorder(node, tmp_path, 1) as only:  # fmt: skip
        assert only.until("ended")["reason"] == "STREAM_ENDED"
        assert only.status() == OK
    for place in SIDE_BY_SIDE:
        # One that came a moment later than the other has the whole picture's first ones to itself.
        seen = numbers(tmp_path / WHOLE, place)[-int(RATE * seconds / 2) :]
        assert seen == sorted(seen)
        assert seconds * RATE - 6 <= seen[-1] <= seconds * RATE
    with av.open(str(tmp_path / WHOLE)) as film:
        assert film.duration is not None
        assert film.duration / 1e6 <= seconds + 0.2


def test_nothing_is_recorded_before_the_node_permits_it(tmp_path: Path) -> None:
    with FakeEgress(ROOM, KEY, [], status=403) as node, recorder(node, tmp_path, 1) as only:
        # It asks again: the permission may be on its way.
        node.refused.wait(processes.PATIENCE_SECONDS)
        only.tell("END")
        said = only.until("ended")
        assert (said["reason"], said.get("size", 0), only.status()) == ("ENDED", 0, OK)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_it(tmp_path: Path, clips: dict[str, Clip]) -> None:
    with FakeEgress(ROOM, KEY, [Publisher("ada", clips["wide"])]) as node, \
            recorder(node, tmp_path, 1, free_bytes=10**18) as only:  # fmt: skip
        assert only.until("ended")["reason"] == "NO_SPACE"
        assert only.status() == OK


def test_a_supervisor_that_is_gone_leaves_it_to_the_next(tmp_path: Path, clips: dict[str, Clip]) -> None:
    with FakeEgress(ROOM, KEY, [Publisher("ada", clips["wide"])]) as node, recorder(node, tmp_path, 1) as only:
        only.until("progress")
        assert only.process.stdin is not None
        only.process.stdin.close()
        assert only.until("ended")["reason"] == "HANDED_ON"
        assert only.status() == OK
    assert [path.name for path in tmp_path.iterdir()] == ["part_1.mp4"]
    assert probe(tmp_path / "part_1.mp4")


@pytest.mark.parametrize("left", [b"", b"not a film at all", b"\0" * 4096])
def test_what_no_player_could_open_is_left_out(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "part_1.mp4").write_bytes(left)
    with recorder(None, tmp_path, 2) as only:
        assert only.until("ended").get("size", 0) == 0
        assert only.status() == OK
    assert list(tmp_path.iterdir()) == []


def test_half_a_film_of_who_was_killed_in_making_it_does_not_stay(tmp_path: Path) -> None:
    for name in (".whole_1.mp4", ".parts_1.txt"):
        (tmp_path / name).write_bytes(b"private")
    with recorder(None, tmp_path, 2) as only:
        assert (only.until("ended").get("size", 0), only.status()) == (0, OK)
    assert list(tmp_path.iterdir()) == []
