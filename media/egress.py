"""Egress: whoever has a ticket reads a room's encoded pictures and sounds, whole, with their capture times.

A ``Tap`` hangs in a room as long as somebody reads it; without one the packet path asks ``is None`` and
nothing else. A reader never slows the room: its queue is bounded in bytes and in time, and one that is too
slow loses pictures up to the next key frame. When the room closes, every queue is emptied at once: what was
not written yet is never sent. A defect here ends egress, not forwarding.
Knows no tickets and no rules about rooms: the node decides who may read what.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Literal, NamedTuple

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from media.capture_times import SenderClock
from media.depacketizing import Depacketizer, Frame, depacketizer_for
from media.layers import Kept
from media.tracks import PublishedTrack
from models import log
from models.messages import egress as say
from models.messages.commands import Reason
from models.messages.egress import Codec, EncodedFrame, SourceState
from models.messages.signaling import Kind

MOST_READERS = 2
"""A transcode child, and its successor while the first one goes."""
MOST_BYTES = 4 << 20
MOST_MS = 2_000
MOST_MESSAGES = 1_024
RETRY_US = 500_000
"""Between two requests for the same key frame: the first one may still be on its way."""
SEND_BUFFER = 256 << 10
"""What the kernel may hold for a reader: more of it would only be older when it is read."""
CLOSE_SECONDS = 2.0
POLICY_VIOLATION, GOING_AWAY, NORMAL = 1008, 1012, 1000
_CODECS: dict[str, Codec] = {"VP8": "VP8", "H264": "H264", "opus": "OPUS"}


# --- the room's side ----------------------------------------------------------------------------------


class Tapped:
    """One track that is read: packets in, frames out to every reader."""

    def __init__(
        self, tap: Tap, source: say.Source, track: PublishedTrack, depacketizer: Depacketizer, clock: SenderClock
    ) -> None:
        self.source = source
        self.track = track
        self.clock = clock
        self.times = clock.track(track.clock_rate)
        self.state: SourceState = "on"
        self._tap = tap
        self._depacketizer = depacketizer
        self._report: object = None
        self._asked_us = 0

    def packet(self, kept: Kept) -> None:
        """What the packet path calls, after it has forwarded the packet. Never raises."""
        try:
            now_us = self._tap.now_us()
            self._read_report()
            frames = self._depacketizer.packet(
                kept.sequence, kept.timestamp, bool(kept.marker), kept.payload, now_us
            )
            self._hand_out(frames, now_us)
        except Exception:
            self._failed()

    def due(self, now_us: int) -> None:
        """What waited long enough for a lost packet. Never raises."""
        try:
            if frames := self._depacketizer.due(now_us):
                self._hand_out(frames, now_us)
        except Exception:
            self._failed()

    def want_key_frame(self) -> None:
        """Ask the publisher; its throttle makes many requests one."""
        self._asked_us = self._tap.now_us()
        self.track.request_keyframe(time.monotonic_ns() // 1_000_000)

    def _read_report(self) -> None:
        report = self.track.report
        if report is not self._report and report is not None:
            info, at_ms = report
            self.times.report(info, self._tap.unix_us(at_ms * 1000))
        self._report = report

    def _hand_out(self, frames: list[Frame], now_us: int) -> None:
        wanted = self._depacketizer.needs_key
        source_id, kind = self.source.source_id, self.source.kind
        for frame in frames:
            encoded = EncodedFrame(
                source_id, self.times.capture_us(frame.timestamp, frame.arrival_us), frame.key,
                frame.after_loss, frame.data,
            )  # fmt: skip
            for reader in self._tap.readers:
                wanted |= reader.frame(kind, encoded, now_us // 1000)
        if wanted and now_us - self._asked_us >= RETRY_US:
            self.want_key_frame()

    def _failed(self) -> None:
        log.failure("egress_failed", track_id=self.track.track_id)
        self._tap.withdrawn(self.track.track_id)


class Tap:
    """What a room hands out while it is read. Belongs to the node's event loop; nothing here waits."""

    def __init__(self, room_id: str, on_idle: Callable[[], None]) -> None:
        """``on_idle`` is called when the last reader has gone."""
        self.readers: list[Reader] = []
        self._room_id = room_id
        self._on_idle = on_idle
        self._sources: dict[str, Tapped] = {}
        self._clocks: dict[str, SenderClock] = {}
        self._last_id = 0
        # Wall time as it was when the tap began: a clock that is set meanwhile moves no capture time.
        self._epoch_us = (time.time_ns() - time.monotonic_ns()) // 1000

    def unix_us(self, monotonic_us: int) -> int:
        """That moment as microseconds of Unix time."""
        return monotonic_us + self._epoch_us

    def now_us(self) -> int:
        """Now, as microseconds of Unix time."""
        return self.unix_us(time.monotonic_ns() // 1000)

    # sources

    def published(self, track: PublishedTrack, display_name: str, state: SourceState | None) -> None:
        """A track of the room, from now on read; one whose codec is not taken apart is left out."""
        depacketizer, codec = depacketizer_for(track.codec), _CODECS.get(track.codec)
        if depacketizer is None or codec is None:
            log.event("egress_codec_refused", room_id=self._room_id, codec=track.codec)
            return
        source = say.Source(
            source_id=self._new_id(), user_id=track.user_id, display_name=display_name, kind=track.kind,
            codec=codec,
        )  # fmt: skip
        clock = self._clocks.setdefault(track.user_id, SenderClock())
        tapped = self._sources[track.track_id] = Tapped(self, source, track, depacketizer, clock)
        track.tap = tapped.packet
        self._tell(source)
        tapped.want_key_frame()
        if state is not None:
            self.state(track.track_id, state)

    def withdrawn(self, track_id: str) -> None:
        """That track is no more; harmless to repeat."""
        tapped = self._sources.pop(track_id, None)
        if tapped is None:
            return
        tapped.track.tap = None
        tapped.clock.forget(tapped.times)
        if not tapped.clock.in_use:
            self._clocks.pop(tapped.track.user_id, None)
        self._tell(say.SourceEnded(source_id=tapped.source.source_id))

    def state(self, track_id: str, state: SourceState) -> None:
        """What the room announced of that track."""
        tapped = self._sources.get(track_id)
        if tapped is not None and tapped.state != state:
            tapped.state = state
            self._tell(say.SourceStateChanged(source_id=tapped.source.source_id, state=state))

    def want_key_frame(self, source_id: int) -> None:
        """A reader's wish; of a source that has ended it is nobody's."""
        for tapped in self._sources.values():
            if tapped.source.source_id == source_id:
                tapped.want_key_frame()

    def tick(self) -> None:
        """Twenty times a second."""
        now_us = self.now_us()
        for tapped in tuple(self._sources.values()):
            tapped.due(now_us)

    def _new_id(self) -> int:
        used = {tapped.source.source_id for tapped in self._sources.values()}
        self._last_id = self._last_id % 0xFFFF + 1
        while self._last_id in used:
            self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def _tell(self, message: say.ServerMessage) -> None:
        for reader in tuple(self.readers):
            reader.tell(message)

    # readers

    def add(self, reader: Reader) -> None:
        """One more reader: it is told what there is, and key frames are asked for."""
        self.readers.append(reader)
        log.event("egress_opened", room_id=self._room_id, readers=len(self.readers))
        for tapped in self._sources.values():
            reader.tell(tapped.source)
            if tapped.state != "on":
                reader.tell(say.SourceStateChanged(source_id=tapped.source.source_id, state=tapped.state))
            tapped.want_key_frame()

    def remove(self, reader: Reader) -> None:
        """A reader less; harmless to repeat. After the last one nothing is tapped."""
        if reader not in self.readers:
            return
        self.readers.remove(reader)
        log.event("egress_closed", room_id=self._room_id, readers=len(self.readers), dropped=reader.dropped)
        if not self.readers:
            self._untap()
            self._on_idle()

    def close(self, reason: Reason | Literal["RECORDING_STOPPED"]) -> None:
        """The room is closed, or closed to readers: not one frame more is sent. They are told why. Synchronous."""
        self._end([say.RoomClosed(reason=reason)], NORMAL)

    def suspend(self) -> None:
        """The node stops: readers come back to the next boot."""
        self._end([], GOING_AWAY)

    def _end(self, words: Sequence[say.ServerMessage], code: int) -> None:
        self._untap()
        for reader in tuple(self.readers):
            reader.end(words, code)

    def _untap(self) -> None:
        for tapped in self._sources.values():
            tapped.track.tap = None
        self._sources.clear()
        self._clocks.clear()


# --- a reader's side ----------------------------------------------------------------------------------


class _Item(NamedTuple):
    """Something queued: a frame (with its kind), or text."""

    data: bytes | str
    kind: Kind | None
    source_id: int
    at_ms: int


class Reader:
    """One egress connection: a task that reads requests, a writer of its own, a bounded queue between."""

    def __init__(self, socket: ServerConnection, tap: Tap) -> None:
        self.dropped = 0
        """Frames that were taken from the queue again."""
        self._socket = socket
        self._tap = tap
        self._queue: deque[_Item | int] = deque()
        self._bytes = 0
        self._messages = 0
        self._wake = asyncio.Event()
        self._ended = False
        self._seeing: set[int] = set()
        """Sources whose pictures can be decoded from what was queued."""
        self._missed: set[int] = set()
        """Sources of which something was dropped since the last frame queued."""

    # what the tap calls

    def frame(self, kind: Kind, frame: EncodedFrame, now_ms: int) -> bool:
        """Queue a frame, or drop it; True if a key frame of its source is wanted."""
        if self._ended:
            return False
        source_id = frame.source_id
        if self._too_slow(now_ms):
            self._thin_out(now_ms)
        if kind == "video" and source_id not in self._seeing:
            if not frame.key_frame:
                self._missed.add(source_id)
                return not self._queue
            self._seeing.add(source_id)
        if source_id in self._missed:
            self._missed.discard(source_id)
            frame = frame._replace(after_loss=True)
        self._put(_Item(say.pack(frame), kind, source_id, now_ms))
        return False

    def tell(self, message: say.ServerMessage) -> None:
        """Queue a message; a reader that leaves a thousand of them unread is cut off."""
        if self._ended:
            return
        if isinstance(message, say.SourceEnded):
            self._seeing.discard(message.source_id)
            self._missed.discard(message.source_id)
        self._messages += 1
        if self._messages > MOST_MESSAGES:
            self._ended = True
            self._socket.transport.abort()
            return
        self._put(_Item(say.encode(message).decode(), None, 0, 0))

    def end(self, words: Sequence[say.ServerMessage], code: int) -> None:
        """Forget what is queued, say these last words, close. Synchronous; the writing is bounded."""
        if self._ended:
            return
        self._ended = True
        self._queue.clear()
        self._bytes = 0
        for word in words:
            self._put(_Item(say.encode(word).decode(), None, 0, 0))
        self._queue.append(code)
        self._wake.set()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._socket.transport.abort)

    def _put(self, item: _Item) -> None:
        self._queue.append(item)
        self._bytes += len(item.data)
        self._wake.set()

    def _too_slow(self, now_ms: int) -> bool:
        if self._bytes > MOST_BYTES:
            return True
        # Texts have no age of their own; what is behind them has.
        oldest = next((item for item in self._queue if isinstance(item, _Item) and item.kind), None)
        return oldest is not None and now_ms - oldest.at_ms > MOST_MS

    def _thin_out(self, now_ms: int) -> None:
        """Drop every picture, and sound that is too old; if sound alone is too much, that too."""
        sound = sum(len(item.data) for item in self._queue if isinstance(item, _Item) and item.kind == "audio")
        kept: deque[_Item | int] = deque()
        for item in self._queue:
            if isinstance(item, _Item) and item.kind is not None:
                fresh = now_ms - item.at_ms <= MOST_MS and sound <= MOST_BYTES
                if item.kind == "video" or not fresh:
                    self.dropped += 1
                    self._missed.add(item.source_id)
                    self._seeing.discard(item.source_id)
                    continue
            kept.append(item)
        self._queue = kept
        self._bytes = sum(len(item.data) for item in kept if isinstance(item, _Item))

    # the connection's life

    async def run(self) -> None:
        """Serve until either side closes."""
        self._tap.add(self)
        writer = asyncio.create_task(self._write())
        try:
            self._socket.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER)
            await self._read()
        except ConnectionClosed:
            pass
        finally:
            self._tap.remove(self)
            if not self._ended:
                writer.cancel()
            await asyncio.wait([writer], timeout=CLOSE_SECONDS + 1)

    async def _read(self) -> None:
        while True:
            text = await self._socket.recv()
            try:
                message = say.decode_client(text)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                log.event("egress_bad_message")
                self.end([], POLICY_VIOLATION)
                continue
            self._tap.want_key_frame(message.source_id)

    async def _write(self) -> None:
        """``send`` writes before it waits: what was taken from the queue is on its way, or never was there."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    item = self._queue.popleft()
                    if isinstance(item, int):
                        await self._socket.close(item)
                        return
                    self._bytes -= len(item.data)
                    self._messages -= item.kind is None
                    await self._socket.send(item.data)
        except ConnectionClosed:
            return
