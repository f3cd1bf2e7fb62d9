"""A media node's egress, without the node: encoded clips handed out by the real protocol, on a schedule.

Publishers join, leave, stall, switch off and change their picture's size at times given beforehand, in
seconds since the first reader connected.
"""

from __future__ import annotations

import http
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from models import egress_tickets
from models.errors import Forbidden
from models.messages import egress
from tests.fakes.clock_clip import PACKETS_A_SECOND, RATE, Clip

NETWORK_SECONDS = 0.03

Send = Callable[[str | bytes], None]


@dataclass
class Publisher:
    """Somebody with a camera. ``turns``: from when on which clip; ``off``: camera off from, to."""

    user_id: str
    clip: Clip
    joins: float = 0.0
    leaves: float = 1e9
    stalls: tuple[tuple[float, float], ...] = ()
    off: tuple[tuple[float, float], ...] = ()
    turns: tuple[tuple[float, Clip], ...] = ()
    sound: bool = True

    def clip_at(self, moment: float) -> Clip:
        return next((clip for since, clip in reversed(self.turns) if since <= moment), self.clip)


@dataclass
class FakeEgress:
    """A node with one room. ``with FakeEgress(...) as node`` serves it."""

    room_id: str
    key: bytes
    publishers: list[Publisher]
    closes: float = 1e9
    status: int = 101
    cuts: tuple[float, ...] = ()
    """When the node loses all its connections, without a word."""
    clock: Callable[[], float] = time.time
    began: float = 0.0
    key_frames_wanted: list[int] = field(default_factory=list)
    connections: int = 0
    refused: threading.Event = field(default_factory=threading.Event)
    """Set once somebody was refused."""

    def __enter__(self) -> FakeEgress:
        self._server: Server = serve(
            self._serve, "127.0.0.1", 0, process_request=self._check, compression=None, max_size=65536
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._thread.join(10)

    @property
    def url(self) -> str:
        """As a job names it."""
        host, port = self._server.socket.getsockname()[:2]
        return f"ws://{host}:{port}"

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.status != 101:
            self.refused.set()
            return connection.respond(http.HTTPStatus(self.status), "")
        if request.path != egress.PATH + self.room_id:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "")
        ticket = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            egress_tickets.verify(ticket, self.room_id, self.key, time.time())
        except Forbidden:
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "")
        return None

    def _serve(self, connection: ServerConnection) -> None:
        self.connections += 1
        self.began = self.began or self.clock()
        opened = self.clock() - self.began
        reader = threading.Thread(target=self._listen, args=(connection,), daemon=True)
        reader.start()
        seats = [Seat(publisher, 2 * index + 1) for index, publisher in enumerate(self.publishers)]
        try:
            while not self._stop.is_set():
                elapsed = self.clock() - self.began
                if any(opened < cut <= elapsed for cut in self.cuts):
                    connection.socket.close()
                    return
                if elapsed >= self.closes:
                    connection.send(egress.encode(egress.RoomClosed(reason="STREAM_ENDED")).decode())
                    return
                for seat in seats:
                    seat.play(connection.send, elapsed, self.began)
                self._stop.wait(0.004)
        except ConnectionClosed:
            return

    def _listen(self, connection: ServerConnection) -> None:
        try:
            for message in connection:
                self.key_frames_wanted.append(egress.decode_client(message).source_id)
        except ConnectionClosed:
            return


class Seat:
    """One publisher, as one reader hears of them."""

    def __init__(self, publisher: Publisher, source_id: int) -> None:
        self._publisher = publisher
        self._picture_id, self._sound_id = source_id, source_id + 1
        self._codec = ""
        self._here = False
        self._off = False
        self._next_picture = self._next_sound = 0

    def play(self, send: Send, elapsed: float, began: float) -> None:
        """Send what is due."""
        publisher = self._publisher
        here = publisher.joins <= elapsed < publisher.leaves
        if here != self._here:
            self._here = here
            (self._join if here else self._leave)(send, elapsed)
        if not here:
            return
        off = any(since <= elapsed < until for since, until in publisher.off)
        if off != self._off:
            self._off = off
            state = egress.SourceStateChanged(source_id=self._picture_id, state="off" if off else "on")
            send(egress.encode(state).decode())
        due = elapsed - NETWORK_SECONDS
        silent = any(since <= elapsed < until for since, until in publisher.stalls)
        while self._next_picture / RATE <= due:
            self._picture(send, began, silent or off)
        while self._next_sound / PACKETS_A_SECOND <= due:
            if publisher.sound and not silent:
                sounds = publisher.clip.sounds
                captured = round((began + self._next_sound / PACKETS_A_SECOND) * 1e6)
                packet = sounds[self._next_sound % len(sounds)]
                send(egress.pack(egress.EncodedFrame(self._sound_id, captured, True, False, packet)))
            self._next_sound += 1

    def _picture(self, send: Send, began: float, silent: bool) -> None:
        moment = self._next_picture / RATE
        clip = self._publisher.clip_at(moment)
        data, key = clip.pictures[self._next_picture % len(clip.pictures)]
        if not silent:
            captured = round((began + moment) * 1e6)
            send(egress.pack(egress.EncodedFrame(self._picture_id, captured, key, False, data)))
        self._next_picture += 1

    def _join(self, send: Send, elapsed: float) -> None:
        publisher = self._publisher
        self._next_picture, self._next_sound = int(elapsed * RATE), int(elapsed * PACKETS_A_SECOND)
        for source_id, kind, codec in (
            (self._picture_id, "video", publisher.clip.codec),
            *([(self._sound_id, "audio", "OPUS")] if publisher.sound else []),
        ):
            source = egress.Source(
                source_id=source_id,
                user_id=publisher.user_id,
                display_name=publisher.user_id.title(),
                kind=kind,
                codec=codec,
            )
            send(egress.encode(source).decode())

    def _leave(self, send: Send, _elapsed: float) -> None:
        for source_id in (self._picture_id, *([self._sound_id] if self._publisher.sound else [])):
            send(egress.encode(egress.SourceEnded(source_id=source_id)).decode())
