"""Who is there: sources come, go, switch off and come again; broken media asks for a key frame and no more."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import numpy as np
import pytest

from models.messages import egress
from workers.transcode.source import Room

BEGAN = 1_700_000_000.0


@pytest.fixture(scope="module")
def vp8() -> list[bytes]:
    """A key frame and what follows it."""
    encoder = cast(av.VideoCodecContext, av.CodecContext.create("libvpx", "w"))
    encoder.width, encoder.height, encoder.pix_fmt = 64, 36, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"deadline": "realtime", "lag-in-frames": "0"}
    packets = []
    for number in range(5):
        planar = np.full((54, 64), 40 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(planar, format="yuv420p")
        frame.pts = number
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def source(number: int, user_id: str = "ada") -> egress.Source:
    return egress.Source(source_id=number, user_id=user_id, display_name=user_id, kind="video", codec="VP8")


def frame(
    number: int, index: int, vp8: list[bytes], *, key: bool = False, loss: bool = False
) -> egress.EncodedFrame:
    return egress.EncodedFrame(number, round((BEGAN + index / 30) * 1e6), key, loss, vp8[index])


def send(room: Room, it: egress.EncodedFrame) -> bool:
    return room.take(it, it.capture_us / 1e6 + 0.03)


def pictures(room: Room, at: float) -> int:
    return sum(track.look(BEGAN + at) is not None for track in room.pictures())


def test_pictures_begin_with_a_key_frame_and_begin_anew_after_a_loss(vp8: list[bytes]) -> None:
    room = Room()
    room.told(source(1))
    assert not send(room, frame(1, 1, vp8))
    assert pictures(room, 0.1) == 0
    assert send(room, frame(1, 0, vp8, key=True))
    assert send(room, frame(1, 1, vp8))
    assert not send(room, frame(1, 2, vp8, loss=True))
    assert not send(room, frame(1, 3, vp8))
    assert send(room, frame(1, 0, vp8, key=True, loss=True))


def test_what_is_no_picture_asks_for_one_that_is(vp8: list[bytes]) -> None:
    room = Room()
    room.told(source(1))
    send(room, frame(1, 0, vp8, key=True))
    assert not room.take(egress.EncodedFrame(1, round(BEGAN * 1e6), False, False, b"\x00"), BEGAN)
    assert not send(room, frame(1, 1, vp8))
    assert send(room, frame(1, 0, vp8, key=True))


def test_frames_of_nobody_are_passed_over(vp8: list[bytes]) -> None:
    assert send(Room(), frame(9, 0, vp8, key=True))


def test_who_came_first_stays_first_with_a_new_camera(vp8: list[bytes]) -> None:
    room = Room()
    room.told(source(1, "ada"))
    room.told(source(2, "ben"))
    ada, ben = room.pictures()
    room.told(egress.SourceEnded(source_id=1))
    room.told(source(3, "ada"))
    assert room.pictures() == [ada, ben]
    # And stands as long as anybody's when it stalls.
    send(room, frame(3, 0, vp8, key=True))
    assert pictures(room, 0.0) == 1
    assert pictures(room, 2.0) == 1


def test_after_a_reconnect_pictures_stand_until_the_same_people_come_again(vp8: list[bytes]) -> None:
    room = Room()
    room.told(source(1))
    send(room, frame(1, 0, vp8, key=True))
    assert pictures(room, 0.0) == 1
    room.reconnected()
    assert pictures(room, 1.0) == 1
    room.told(source(1))
    assert len(room.pictures()) == 1
    assert pictures(room, 3.5) == 0


def test_who_left_is_gone_after_their_last_picture(vp8: list[bytes]) -> None:
    room = Room()
    room.told(source(1))
    send(room, frame(1, 0, vp8, key=True))
    room.told(egress.SourceEnded(source_id=1))
    assert pictures(room, 0.0) == 1
    assert pictures(room, 1.0) == 0
    assert room.pictures() == []


def test_a_closed_room_is_over() -> None:
    room = Room()
    room.told(egress.RoomClosed(reason="STREAM_PRIVATE"))
    assert room.over.is_set()
    assert room.over_reason == "STREAM_PRIVATE"
