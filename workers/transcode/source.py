"""The room as the media node hands it out: connects, decodes, and keeps who is there with picture and sound.

Knows nothing of composing. One thread reads and decodes; others look at what there is now.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import cast

import av
import numpy as np
from av.codec.context import Flags
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from models import log
from models.messages import egress
from workers.transcode.pictures import PictureTrack
from workers.transcode.sound import Samples, SoundTrack

LARGEST_FRAME_BYTES = 8 * 1024 * 1024
OPEN_SECONDS = 3.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 1.0
CLOCKS_AGREE_SECONDS = 0.3
"""A node's capture times are taken as they are unless even the fastest frame seems to miss by more."""
FIT_SECONDS = 10.0
ASK_AGAIN_SECONDS = 0.3
PRIVATE_STATUS = 403
"""The room is private."""
OPUS_DELAY_US = 6_500
"""An Opus encoder looks 312 samples ahead (RFC 7845, 4.2): what comes out of a packet was captured before it."""
_DECODERS = {"VP8": "vp8", "H264": "h264", "OPUS": "libopus"}

Now = Callable[[], float]
"""Unix seconds of a clock that never jumps."""


class ClockFit:
    """Capture times of the node's clock, in ours. Where both clocks are kept by NTP nothing is changed."""

    def __init__(self) -> None:
        self._least = [float("inf"), float("inf")]
        self._turn_at = 0.0

    def fit(self, captured_at: float, now: float) -> float:
        """``captured_at`` as our clock has it; ``now`` is when it arrived."""
        if now >= self._turn_at:
            self._least = [float("inf"), self._least[0]]
            self._turn_at = now + FIT_SECONDS
        self._least[0] = min(self._least[0], now - captured_at)
        apart = min(self._least)
        return captured_at + apart if abs(apart) > CLOCKS_AGREE_SECONDS else captured_at


class _Picture:
    """A video source: frames in, pictures out."""

    def __init__(self, source: egress.Source) -> None:
        self.user_id = source.user_id
        self.track = PictureTrack(source.display_name)
        self._decoder = cast(av.VideoCodecContext, av.CodecContext.create(_DECODERS[source.codec], "r"))
        self._decoder.thread_count = 1
        self._decoder.flags |= Flags.low_delay
        self._needs_key = True

    def take(self, frame: egress.EncodedFrame, captured_at: float) -> bool:
        """Decode; False when a key frame is needed first."""
        self._needs_key = (self._needs_key or frame.after_loss) and not frame.key_frame
        if self._needs_key:
            return False
        packet = av.Packet(frame.payload)
        try:
            for picture in self._decoder.decode(packet):
                self.track.add(captured_at, picture)
        except av.FFmpegError:
            self._needs_key = True
        return not self._needs_key


class _Sound:
    """An audio source: packets in, samples out."""

    def __init__(self, source: egress.Source) -> None:
        self.user_id = source.user_id
        self.track = SoundTrack()
        self._decoder = cast(av.AudioCodecContext, av.CodecContext.create(_DECODERS[source.codec], "r"))
        self._decoder.thread_count = 1

    def take(self, frame: egress.EncodedFrame, captured_at: float) -> None:
        """Decode; a packet that is none is silence."""
        try:
            pieces = [piece.to_ndarray() for piece in self._decoder.decode(av.Packet(frame.payload))]
        except av.FFmpegError:
            return
        for piece in pieces:
            samples: Samples = piece.reshape(-1, 2).astype(np.int16, copy=False)
            self.track.write(round(captured_at * 1e6) - OPUS_DELAY_US, samples)


class Room:
    """Who publishes now. One thread tells it what the node says; another looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: dict[int, _Picture] = {}
        self._sounds: dict[int, _Sound] = {}
        self._left_pictures: list[_Picture] = []
        self._left_sounds: list[_Sound] = []
        self._seats: dict[str, int] = {}
        self._fit = ClockFit()
        self.over = threading.Event()
        """Set when no frame will follow, ever."""
        self.over_reason = ""

    def pictures(self) -> list[PictureTrack]:
        """Everybody's pictures; who came first is first, also after a new camera or connection."""
        with self._lock:
            self._left_pictures = [one for one in self._left_pictures if not one.track.over]
            everybody = [*self._left_pictures, *self._pictures.values()]
            return [one.track for one in sorted(everybody, key=lambda one: self._seats[one.user_id])]

    def sounds(self) -> list[SoundTrack]:
        """Everybody's sound."""
        with self._lock:
            self._left_sounds = [one for one in self._left_sounds if not one.track.over]
            return [one.track for one in (*self._left_sounds, *self._sounds.values())]

    def reconnected(self) -> None:
        """What was heard belongs to a connection that is gone: its pictures stand until they are too old, or
        until the same people's come through the new one, which numbers its sources anew."""
        with self._lock:
            self._left_pictures = [*self._pictures.values()]
            self._left_sounds = [*self._sounds.values()]
            self._pictures, self._sounds = {}, {}
            self._fit = ClockFit()

    def told(self, message: egress.ServerMessage) -> None:
        """What the node says of its sources."""
        if isinstance(message, egress.Source):
            self._add(message)
        elif isinstance(message, egress.SourceStateChanged):
            picture = self._pictures.get(message.source_id)
            if picture is not None:
                picture.track.switch(off=message.state == "off")
        elif isinstance(message, egress.SourceEnded):
            self._remove(message.source_id)
        else:
            self.end(message.reason)

    def take(self, frame: egress.EncodedFrame, now: float) -> bool:
        """A frame that arrived at ``now``; False when its source must send a key frame first."""
        captured_at = self._fit.fit(frame.capture_us / 1e6, now)
        sound = self._sounds.get(frame.source_id)
        if sound is not None:
            sound.take(frame, captured_at)
            return True
        picture = self._pictures.get(frame.source_id)
        return picture is None or picture.take(frame, captured_at)

    def end(self, reason: str) -> None:
        """The room is closed, or closed to us."""
        self.over_reason = reason
        self.over.set()

    def _remove(self, source_id: int) -> None:
        """What came of it and waits for its moment is still shown and heard."""
        with self._lock:
            picture, sound = self._pictures.pop(source_id, None), self._sounds.pop(source_id, None)
            if picture is not None:
                picture.track.end()
                self._left_pictures.append(picture)
            if sound is not None:
                self._left_sounds.append(sound)

    def _add(self, source: egress.Source) -> None:
        with self._lock:
            self._seats.setdefault(source.user_id, len(self._seats))
            if source.kind == "video":
                self._pictures[source.source_id] = picture = _Picture(source)
                for old in [one for one in self._left_pictures if one.user_id == source.user_id][:1]:
                    picture.track = old.track
                    picture.track.take_up()
                    self._left_pictures.remove(old)
            else:
                self._sounds[source.source_id] = sound = _Sound(source)
                for old_sound in [one for one in self._left_sounds if one.user_id == source.user_id][:1]:
                    sound.track = old_sound.track
                    self._left_sounds.remove(old_sound)


class Egress:
    """The connection to the node. ``start`` it; it connects again until the room is over."""

    def __init__(
        self, room: Room, url: str, ticket: Callable[[], str], now: Now, *, patience: float = 0.0
    ) -> None:
        """``patience``: for how many seconds a private room may refuse us before that is its last word."""
        self._room = room
        self._url = url
        self._ticket = ticket
        self._now = now
        self._patience = patience
        self._refused_since: float | None = None
        self._asked_at: dict[int, float] = {}
        self._stop = threading.Event()
        self._connection: ClientConnection | None = None
        self._thread = threading.Thread(target=self._run, name="egress", daemon=True)

    def start(self) -> None:
        """Begin to connect and to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stop.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        self._thread.join(OPEN_SECONDS)

    def _run(self) -> None:
        pause, trouble = FIRST_RETRY_SECONDS, ""
        while not self._stop.is_set() and not self._room.over.is_set():
            try:
                self._read()
                pause, now = FIRST_RETRY_SECONDS, ""
            except InvalidStatus as error:
                now = f"status {error.response.status_code}"
                if error.response.status_code == PRIVATE_STATUS:
                    self._refused()
            except (OSError, WebSocketException) as error:
                now = type(error).__name__
            except Exception:
                log.failure("egress_failed")
                now = "defect"
            if now and now != trouble:
                log.event("egress_unreachable", level=logging.WARNING, error=now)
            trouble = now
            self._stop.wait(0 if self._room.over.is_set() else pause)
            pause = min(pause * 2, LONGEST_RETRY_SECONDS)

    def _refused(self) -> None:
        """By a room that is private; what permits us may still be on its way."""
        now = self._now()
        since = self._refused_since = self._refused_since or now
        if now - since >= self._patience:
            self._room.end("FORBIDDEN")

    def _read(self) -> None:
        """One connection, to its end. Raises OSError or WebSocketException when there is none."""
        with connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._ticket()}"},
            compression=None,
            max_size=LARGEST_FRAME_BYTES,
            open_timeout=OPEN_SECONDS,
            close_timeout=1,
            proxy=None,
        ) as connection:
            self._connection = connection
            self._refused_since = None
            self._room.reconnected()
            log.event("egress_connected")
            try:
                for message in connection:
                    self._message(connection, message)
            except (ConnectionClosed, ValueError) as error:
                log.event("egress_lost", error=type(error).__name__)
            finally:
                self._connection = None

    def _message(self, connection: ClientConnection, message: str | bytes) -> None:
        """Raises ValueError (msgspec's errors are some) for what is not the protocol."""
        if isinstance(message, str):
            self._room.told(egress.decode_server(message))
            return
        now, frame = self._now(), egress.unpack(message)
        if self._room.take(frame, now):
            return
        if now - self._asked_at.get(frame.source_id, 0.0) >= ASK_AGAIN_SECONDS:
            self._asked_at[frame.source_id] = now
            connection.send(egress.encode(egress.KeyFrameWanted(source_id=frame.source_id)).decode())
