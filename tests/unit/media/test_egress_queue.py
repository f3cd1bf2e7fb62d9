"""A reader's queue is bounded and honest about what it lost; a tap ends for all of its readers at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Close

from media import egress as egress_module
from media import rtp
from media.egress import MOST_BYTES, MOST_MESSAGES, MOST_MS, Reader, Tap
from media.tracks import PublishedTrack
from models.messages import egress
from models.messages.egress import EncodedFrame

VIDEO, AUDIO = 1, 2


def vp8(key: bool, body: bytes = b"0123456789") -> bytes:
    """One packet that is a whole frame."""
    tag = (len(body) << 5 | 0x10 | (not key)).to_bytes(3, "little")
    return b"\x10" + tag + (b"\x9d\x01\x2a\x40\x01\xf0\x00" if key else b"") + body


class Transport:
    def __init__(self) -> None:
        self.aborted = False

    def get_extra_info(self, name: str) -> Transport:
        return self

    def setsockopt(self, *_: int) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


class Socket:
    """A WebSocket whose other end reads only while ``reading`` is set."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.sent: list[str | bytes] = []
        self.code: int | None = None
        self.reading = asyncio.Event()
        self.reading.set()
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    async def send(self, data: str | bytes) -> None:
        self.sent.append(data)
        await self.reading.wait()

    async def recv(self) -> str | bytes:
        data = await self.incoming.get()
        if data is None:
            raise ConnectionClosedOK(Close(1000, ""), None)
        return data

    async def close(self, code: int) -> None:
        self.code = code
        self.incoming.put_nowait(None)

    @property
    def frames(self) -> list[EncodedFrame]:
        return [egress.unpack(data) for data in self.sent if isinstance(data, bytes)]

    @property
    def messages(self) -> list[egress.ServerMessage]:
        return [egress.decode_server(data) for data in self.sent if isinstance(data, str)]


class House:
    """A tap with one reader on a socket of ours."""

    def __init__(self) -> None:
        self.idle = 0
        self.tap = Tap("live-str_one", self._idle)
        self.socket = Socket()
        self.reader = Reader(cast(Any, self.socket), self.tap)
        self.task = asyncio.create_task(self.reader.run())
        self.now_ms = 1_000

    def _idle(self) -> None:
        self.idle += 1

    def put(self, source_id: int, *, key: bool = False, size: int = 10, after_ms: int = 33) -> bool:
        self.now_ms += after_ms
        kind: Any = "video" if source_id == VIDEO else "audio"
        frame = EncodedFrame(source_id, self.now_ms * 1000, key or kind == "audio", False, bytes(size))
        return self.reader.frame(kind, frame, self.now_ms)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def leave(self) -> None:
        self.socket.reading.set()
        self.socket.incoming.put_nowait(None)
        await self.task


def scene(play: Callable[[House], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        house = House()
        await house.settle()
        try:
            await play(house)
        finally:
            await house.leave()

    def test() -> None:
        asyncio.run(run())

    test.__name__ = play.__name__
    return test


def track(codec: Any = "VP8", kind: Any = "video", **more: Any) -> PublishedTrack:
    return PublishedTrack(
        track_id=f"trk_{codec}", user_id="usr_a", kind=kind, codec=codec,
        clock_rate=90_000 if kind == "video" else 48_000, **more,
    )  # fmt: skip


def send(source: PublishedTrack, sequence: int, payload: bytes, timestamp: int | None = None) -> None:
    """A packet as the packet path hands it on."""
    kept = source.accept(sequence, sequence * 3000 if timestamp is None else timestamp, 0x80, payload, 0)
    assert kept is not None
    assert source.tap is not None
    source.tap(kept)


# --- the queue ----------------------------------------------------------------------------------------


@scene
async def test_a_reader_sees_nothing_before_a_key_frame_and_hears_at_once(house: House) -> None:
    assert house.put(VIDEO), "a key frame is wanted"
    house.put(AUDIO)
    house.put(VIDEO, key=True)
    house.put(VIDEO)
    await house.settle()
    assert [(f.source_id, f.key_frame, f.after_loss) for f in house.socket.frames] == [
        (AUDIO, True, False),
        (VIDEO, True, True),
        (VIDEO, False, False),
    ]


@scene
async def test_who_is_too_slow_loses_pictures_up_to_a_key_frame_and_keeps_fresh_sound(house: House) -> None:
    house.socket.reading.clear()
    house.put(VIDEO, key=True)  # on its way
    await house.settle()
    wanted = []
    while not house.reader.dropped:
        wanted.append(house.put(VIDEO, size=100_000))
        house.put(AUDIO, after_ms=0)
        assert house.reader._bytes <= MOST_BYTES + 101_000
    assert not any(wanted), "while it does not read nothing is asked for"
    assert not house.put(VIDEO)
    house.socket.reading.set()
    await house.settle()
    assert house.put(VIDEO), "it reads again: a key frame, please"
    house.put(VIDEO, key=True)
    house.put(VIDEO)
    await house.settle()
    pictures = [f for f in house.socket.frames if f.source_id == VIDEO]
    assert [(f.key_frame, f.after_loss) for f in pictures] == [(True, False), (True, True), (False, False)]
    sounds = [f for f in house.socket.frames if f.source_id == AUDIO]
    assert len(sounds) > 30
    assert not any(f.after_loss for f in sounds)


@scene
async def test_what_is_queued_is_never_older_than_two_seconds(house: House) -> None:
    house.socket.reading.clear()
    house.put(AUDIO)
    await house.settle()
    for _ in range(300):
        house.put(AUDIO, after_ms=20)
        ages = [house.now_ms - item.at_ms for item in house.reader._queue if not isinstance(item, int)]
        assert max(ages) <= MOST_MS
    house.socket.reading.set()
    await house.settle()
    assert house.socket.frames[1].after_loss or house.socket.frames[-1].after_loss


@scene
async def test_sound_alone_can_be_too_much(house: House) -> None:
    house.socket.reading.clear()
    house.put(AUDIO)
    await house.settle()
    for _ in range(200):
        house.put(AUDIO, size=100_000, after_ms=0)
        assert house.reader._bytes <= MOST_BYTES + 101_000


@scene
async def test_a_message_is_never_dropped_but_a_thousand_end_it(house: House) -> None:
    house.socket.reading.clear()
    house.put(AUDIO)
    await house.settle()
    for number in range(MOST_MESSAGES):
        house.reader.tell(egress.SourceEnded(source_id=number))
    for _ in range(200):
        house.put(VIDEO, key=True, size=100_000)
    queued = [item.data for item in house.reader._queue if not isinstance(item, int)]
    assert sum(isinstance(data, str) for data in queued) == MOST_MESSAGES
    assert not house.socket.transport.aborted
    house.reader.tell(egress.SourceEnded(source_id=1))
    assert house.socket.transport.aborted
    assert house.put(VIDEO, key=True) is False


@scene
async def test_messages_that_were_read_do_not_count(house: House) -> None:
    for number in range(3 * MOST_MESSAGES):
        house.reader.tell(egress.SourceEnded(source_id=number % 9))
        if number % 100 == 0:
            await house.settle()
    assert not house.socket.transport.aborted


@scene
async def test_the_end_takes_back_what_was_not_written(house: House) -> None:
    house.socket.reading.clear()
    for _ in range(5):
        house.put(AUDIO)
    await house.settle()
    house.tap.close("STREAM_PRIVATE")
    house.put(AUDIO)
    house.tap.close("STREAM_ENDED")
    house.socket.reading.set()
    await house.settle()
    assert len(house.socket.frames) == 1, "the one that was written before"
    assert house.socket.messages == [egress.RoomClosed(reason="STREAM_PRIVATE")]
    assert house.socket.sent[-1] == egress.encode(egress.RoomClosed(reason="STREAM_PRIVATE")).decode()
    assert house.socket.code == 1000


@scene
async def test_a_stop_says_nothing_and_closes_with_1012(house: House) -> None:
    source = track()
    house.tap.published(source, "Ada", None)
    house.put(AUDIO)
    house.tap.suspend()
    assert source.tap is None
    await house.settle()
    assert (house.socket.frames, house.socket.messages, house.socket.code) == ([], [], 1012)


@scene
async def test_the_last_reader_leaves_nothing_tapped(house: House) -> None:
    source = track()
    house.tap.published(source, "Ada", None)
    assert source.tap is not None
    await house.leave()
    assert (source.tap, house.idle) == (None, 1)


# --- the tap ------------------------------------------------------------------------------------------


@scene
async def test_packets_become_frames_for_every_reader(house: House) -> None:
    asked: list[int] = []
    source = track(ask_keyframe=lambda layer: asked.append(1))
    house.tap.published(source, "Ada", "stalled")
    assert asked == [1]
    send(source, 0, vp8(True))
    send(source, 1, vp8(False))
    await house.settle()
    assert house.socket.messages == [
        egress.Source(source_id=1, user_id="usr_a", display_name="Ada", kind="video", codec="VP8"),
        egress.SourceStateChanged(source_id=1, state="stalled"),
    ]
    assert [frame.payload for frame in house.socket.frames] == [vp8(True)[1:], vp8(False)[1:]]
    house.tap.withdrawn(source.track_id)
    house.tap.withdrawn(source.track_id)
    await house.settle()
    assert house.socket.messages[2:] == [egress.SourceEnded(source_id=1)]
    assert source.tap is None


@scene
async def test_a_sender_report_places_frames_in_time(house: House) -> None:
    source = track()
    house.tap.published(source, "Ada", None)
    now_us = house.tap.now_us()
    an_hour_ahead = now_us // 1_000_000 + 2_208_988_800 + 3600
    source.report = (rtp.SenderInfo(1, an_hour_ahead << 32, 90_000), 0)
    send(source, 0, vp8(True), timestamp=90_000)
    send(source, 1, vp8(False), timestamp=90_000 + 9_000)
    await house.settle()
    first, second = house.socket.frames
    assert 0 < second.capture_us - first.capture_us <= 100_000
    assert abs(first.capture_us - now_us) < 5_000_000


@scene
async def test_a_codec_that_is_not_taken_apart_is_left_out_and_said(house: House) -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("greenroom").addHandler(handler)
    logging.getLogger("greenroom").setLevel(logging.INFO)
    try:
        source = track(codec="VP9")
        house.tap.published(source, "Ada", None)
        house.tap.state(source.track_id, "off")
        house.tap.withdrawn(source.track_id)
    finally:
        logging.getLogger("greenroom").removeHandler(handler)
    await house.settle()
    assert source.tap is None
    assert house.socket.messages == []
    assert [line for line in records if "codec_refused" in line] == [
        "egress_codec_refused room_id=live-str_one codec=VP9"
    ]


@scene
async def test_a_defect_of_ours_ends_the_source_and_not_the_packet_path(house: House) -> None:
    source = track()
    house.tap.published(source, "Ada", None)
    kept = source.accept(0, 0, 0x80, vp8(True), 0)
    assert kept is not None
    assert source.tap is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress_module.Tapped, "_hand_out", lambda *_: 1 / 0)
        source.tap(kept)
    await house.settle()
    assert house.socket.messages[-1] == egress.SourceEnded(source_id=1)
    assert source.tap is None


@scene
async def test_one_missing_key_frame_is_asked_for_once(house: House) -> None:
    asked: list[int] = []
    source = track(ask_keyframe=lambda layer: asked.append(1))
    house.tap.published(source, "Ada", None)
    for sequence in range(50):
        send(source, sequence, vp8(False))
    assert asked == [1]
    # Nor did the throttle keep a request that would go out after the key frame has come.
    assert not source.feed.throttle.due(1 << 60)
    later_us = house.tap.now_us() + egress_module.RETRY_US
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.tap, "now_us", lambda: later_us)
        send(source, 50, vp8(False))
    assert source.feed.throttle.sent + source.feed.throttle.due(1 << 60) == 2, "nobody answered: once more"


@scene
async def test_ids_of_sources_are_not_used_twice(house: House) -> None:
    house.tap._last_id = 0xFFFE
    for name in ("VP8", "H264"):
        house.tap.published(track(codec=name), "Ada", None)
    house.tap._last_id = 0xFFFE
    house.tap.published(track(codec="opus", kind="audio"), "Ada", None)
    await house.settle()
    ids = [message.source_id for message in house.socket.messages if isinstance(message, egress.Source)]
    assert ids == [0xFFFF, 1, 2]


@scene
async def test_a_reader_s_wish_reaches_the_publisher_and_garbage_ends_it(house: House) -> None:
    asked: list[int] = []
    source = track(ask_keyframe=lambda layer: asked.append(1))
    house.tap.published(source, "Ada", None)
    source.feed.throttle._last_ms = None
    house.socket.incoming.put_nowait(egress.encode(egress.KeyFrameWanted(source_id=1)).decode())
    await house.settle()
    assert len(asked) == 2
    house.socket.incoming.put_nowait("garbage")
    await house.settle()
    assert house.socket.code == 1008
