"""The real process, at its own pace: started as a supervisor does, killed as machines do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.ladder import RENDITIONS
from tests.fakes.clock_clip import Clip
from tests.fakes.egress_server import FakeEgress, Publisher
from tests.integration.transcode import played, processes
from tests.integration.transcode.processes import KEY, Process
from workers.transcode.jobs import FENCED, LOST, OK

ROOM = "live-str_x"


@contextmanager
def child(node: FakeEgress, directory: Path, epoch: int) -> Iterator[Process]:
    job = {
        "broadcastId": "brd_x",
        "roomId": ROOM,
        "egressUrl": node.url,
        "directory": str(directory),
        "epoch": epoch,
        "preset": "ultrafast",
    }
    with processes.running("workers.transcode.child", job) as process:
        yield process


def test_killed_children_are_followed_by_others_and_viewers_by_one_sequence(
    tmp_path: Path, clips: dict[str, Clip]
) -> None:
    with FakeEgress(ROOM, KEY, [Publisher("ada", clips["wide"])]) as node:
        with child(node, tmp_path, 1) as first:
            assert first.until("ready")["slot"] == 0
            encoder = first.child()
            assert processes.SECRET.encode() not in Path(f"/proc/{encoder}/environ").read_bytes()
            # Not even one that stands still and notices nothing is left behind.
            os.kill(encoder, signal.SIGSTOP)
            first.process.send_signal(signal.SIGKILL)
            assert first.status() == -signal.SIGKILL
            assert processes.ends(encoder)
        with child(node, tmp_path, 2) as second:
            again = second.until("ready")["slot"]
            with child(node, tmp_path, 1) as late:
                assert late.status() == FENCED
            os.kill(second.child(), signal.SIGKILL)
            assert second.status() == LOST
        assert not played.playlist(tmp_path, "720p").is_endlist
        with child(node, tmp_path, 3) as third:
            third.tell("END")
            assert third.until("ended")["reason"] == "ENDED"
            assert third.status() == OK

    assert isinstance(again, int)
    for name in RENDITIONS:
        listed = played.playlist(tmp_path, name)
        assert listed.is_endlist
        slots = [int(str(segment.uri)[1:6]) for segment in listed.segments]
        assert slots == list(range(listed.media_sequence, listed.media_sequence + len(slots)))
        by_slot = dict(zip(slots, listed.segments, strict=True))
        assert by_slot[again].discontinuity
        assert by_slot[again].init_section.uri == "init_2.mp4"
        assert not any(segment.discontinuity for slot, segment in by_slot.items() if slot < again)
    data = played.media(tmp_path, "240p", f"s{again:05d}_2.m4s")
    assert len(played.pictures(data)) == 60


def test_a_lost_node_is_found_again_and_a_closed_room_ends_the_broadcast(
    tmp_path: Path, clips: dict[str, Clip]
) -> None:
    publisher = Publisher("ada", clips["wide"])
    with FakeEgress(ROOM, KEY, [publisher], closes=5.0, cuts=(2.0,)) as node, child(node, tmp_path, 1) as only:
        assert only.until("ended")["reason"] == "STREAM_ENDED"
        assert only.status() == OK
        assert node.connections == 2
    listed = played.playlist(tmp_path, "480p")
    assert listed.is_endlist
    assert not any(segment.discontinuity or segment.gap_tag for segment in listed.segments)


def test_a_supervisor_that_is_gone_leaves_the_broadcast_to_the_next(
    tmp_path: Path, clips: dict[str, Clip]
) -> None:
    with FakeEgress(ROOM, KEY, [Publisher("ada", clips["wide"])]) as node, child(node, tmp_path, 1) as only:
        only.until("ready")
        assert only.process.stdin is not None
        only.process.stdin.close()
        assert only.until("ended")["reason"] == "HANDED_ON"
        assert only.status() == OK
    assert not played.playlist(tmp_path, "480p").is_endlist


def test_a_room_that_is_private_is_let_alone(tmp_path: Path, clips: dict[str, Clip]) -> None:
    with FakeEgress(ROOM, KEY, [], status=403) as node, child(node, tmp_path, 1) as only:
        assert only.until("ended")["reason"] == "FORBIDDEN"
        assert only.status() == OK
    assert not list(tmp_path.rglob("*.m4s"))
