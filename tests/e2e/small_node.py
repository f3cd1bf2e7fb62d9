"""A media node of the smallest kind, to hold the browser modules against without the rest of the house.

It speaks docs/contract.md §4 over a real WebSocket and answers with aiortc's own peer connections, which decode
and encode again: enough for two seats. It trickles its candidates before its descriptions, the order in
which a careless client loses them. Beside it a static server serves the modules and hands out grants.
Must not know the product's media process.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from aiortc.sdp import candidate_from_sdp
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

STATIC = Path(__file__).parents[2] / "web" / "static"
SESSION = {"sessionId": "s1", "paidMs": 600_000, "deliveredMs": 0, "ratePerMinute": 100, "minuteMs": 60_000}
Message = dict[str, Any]
PATIENCE_SECONDS = 60


@dataclass
class Seat:
    """One joined user."""

    room_id: str
    user_id: str
    socket: ServerConnection
    publish: RTCPeerConnection = field(default_factory=RTCPeerConnection)
    subscribe: RTCPeerConnection = field(default_factory=RTCPeerConnection)
    tracks: list[MediaStreamTrack] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    revision: int = 0
    offering: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Two offers at once would give the browser m-lines in an order that it has not seen."""

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))


class SmallNode:
    """Start it, point browsers at ``url``, tell it what to say to whom."""

    def __init__(self) -> None:
        self.seats: dict[str, Seat] = {}
        self.joins: list[Message] = []
        self.refuse_next: list[str] = []
        """Codes with which the next joins are refused."""
        self.asked_first: list[str] = []
        """Who asked over a fresh socket whether we are there, and joined then."""
        self._deaf: set[ServerConnection] = set()
        self._relay = MediaRelay()
        self._sink = MediaBlackhole()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        handler = partial(_StaticAndGrants, directory=str(STATIC), node=self)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http_thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self.signaling_url = ""

    @property
    def url(self) -> str:
        """Where the browser begins: a secure context, being localhost."""
        return f"http://localhost:{self._http.server_port}"

    def start(self) -> None:
        self._thread.start()
        self._http_thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)
        self._http_thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        """Run ``step`` on the node's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(PATIENCE_SECONDS)

    def tell(self, user_id: str, **message: Any) -> None:
        """Say something to a user."""
        self.run(self.seats[user_id].say(**message))

    def terminate(self, user_id: str, reason: str) -> None:
        """TERMINATE_CALL and the close that always follows it."""

        async def cut(seat: Seat) -> None:
            await seat.say(type="TERMINATE_CALL", reason=reason, redirectUrl="/models")
            await seat.socket.close(4001)

        self.run(cut(self.seats[user_id]))

    def drop(self, user_id: str) -> None:
        """Break the socket without a word."""

        async def abort(seat: Seat) -> None:
            seat.socket.transport.abort()

        self.run(abort(self.seats[user_id]))

    def turn_away(self, user_id: str) -> None:
        """Hear nothing any more that comes over this seat's socket, and leave it open."""
        self._deaf.add(self.seats[user_id].socket)

    async def _serve(self) -> None:
        async with serve(self._client, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.signaling_url = f"ws://127.0.0.1:{port}/signaling"
            await self._sink.start()
            self._ready.set()
            await self._stop.wait()
        for seat in self.seats.values():
            await asyncio.gather(seat.publish.close(), seat.subscribe.close())
        await self._sink.stop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _client(self, socket: ServerConnection) -> None:
        seat: Seat | None = None
        asked = False
        try:
            async for text in socket:
                message = json.loads(text)
                if socket in self._deaf:
                    continue
                if message["type"] == "PING":
                    asked = True
                    await socket.send('{"type": "PONG"}')
                elif message["type"] == "JOIN_ROOM":
                    if asked:
                        self.asked_first.append(message["userId"])
                    seat = await self._join(socket, message)
                elif seat:
                    seat.heard.append(message)
                    await self._heard(seat, message)
        except ConnectionClosed:
            return

    async def _join(self, socket: ServerConnection, message: Message) -> Seat | None:
        self.joins.append(message)
        code = self.refuse_next.pop(0) if self.refuse_next else "UNAVAILABLE" if message["isSpectator"] else ""
        if code:
            await socket.send(json.dumps({"type": "ERROR", "code": code, "message": f"Refused: {code}."}))
            return None
        seat = Seat(message["roomId"], message["userId"], socket)
        old = self.seats.pop(seat.user_id, None)
        if old:
            await asyncio.gather(old.publish.close(), old.subscribe.close())
        self.seats[seat.user_id] = seat
        seat.publish.on("track", lambda track: self._published(seat, track))
        names = [other.user_id for other in self._others(seat)]
        others = [{"userId": name, "displayName": name, "tracks": []} for name in names]
        about = {"roomId": seat.room_id, "userId": seat.user_id, "participants": others}
        await seat.say(type="JOINED", **about, iceServers=[], session=SESSION)
        await self._offer_in_turn(seat)
        return seat

    def _others(self, seat: Seat) -> list[Seat]:
        return [each for each in self.seats.values() if each.room_id == seat.room_id and each is not seat]

    def _published(self, seat: Seat, track: MediaStreamTrack) -> None:
        seat.tracks.append(track)
        self._sink.addTrack(self._relay.subscribe(track))

    async def _heard(self, seat: Seat, message: Message) -> None:
        kinds: dict[str, Callable[[Seat, Message], Coroutine[Any, Any, None]]] = {
            "OFFER": self._answer,
            "ANSWER": self._answered,
            "ICE_CANDIDATE": self._candidate,
        }
        if handler := kinds.get(message["type"]):
            await handler(seat, message)

    async def _answer(self, seat: Seat, message: Message) -> None:
        seat.tracks.clear()
        await seat.publish.setRemoteDescription(RTCSessionDescription(message["sdp"], "offer"))
        await seat.publish.setLocalDescription(await seat.publish.createAnswer())
        sdp = await self._trickle(seat, "publish", seat.publish.localDescription.sdp)
        await seat.say(type="ANSWER", pc="publish", sdp=sdp)
        for other in self._others(seat):
            await self._offer_in_turn(other)

    async def _offer_in_turn(self, seat: Seat) -> None:
        async with seat.offering:
            await self._offer(seat)

    async def _offer(self, seat: Seat) -> None:
        """Offer the tracks of all others; a node of two seats never takes a track away."""
        present = {sender.track.id for sender in seat.subscribe.getSenders() if sender.track}
        for other in self._others(seat):
            for track in other.tracks:
                if f"{seat.user_id}-{track.id}" not in present and len(present) < 2:
                    copy = self._relay.subscribe(track)
                    copy._id = f"{seat.user_id}-{track.id}"  # names the owner's track, so that it is offered once
                    seat.subscribe.addTrack(copy)
                    present.add(copy._id)
        if not present:
            return
        await seat.subscribe.setLocalDescription(await seat.subscribe.createOffer())
        seat.revision += 1
        other = self._others(seat)[0]
        tracks = {
            transceiver.mid: {
                "trackId": f"t{transceiver.mid}",
                "userId": other.user_id,
                "kind": transceiver.kind,
            }
            for transceiver in seat.subscribe.getTransceivers()
        }
        sdp = await self._trickle(seat, "subscribe", seat.subscribe.localDescription.sdp)
        await seat.say(type="OFFER", pc="subscribe", sdp=sdp, revision=seat.revision, tracks=tracks)

    async def _trickle(self, seat: Seat, pc: str, sdp: str) -> str:
        """Send the candidates by themselves, and first; return the description without them."""
        lines = sdp.splitlines()
        for line in (line for line in lines if line.startswith("a=candidate")):
            candidate = {"candidate": line[2:], "sdpMLineIndex": 0}
            await seat.say(type="ICE_CANDIDATE", pc=pc, candidate=candidate)
        return "\r\n".join(line for line in lines if not line.startswith(("a=candidate", "a=end-of"))) + "\r\n"

    async def _answered(self, seat: Seat, message: Message) -> None:
        if message["revision"] == seat.revision:
            await seat.subscribe.setRemoteDescription(RTCSessionDescription(message["sdp"], "answer"))

    async def _candidate(self, seat: Seat, message: Message) -> None:
        found = message["candidate"]
        pc = seat.publish if message["pc"] == "publish" else seat.subscribe
        if found and ".local" not in found["candidate"] and pc.remoteDescription:
            candidate = candidate_from_sdp(found["candidate"].removeprefix("candidate:"))
            candidate.sdpMid = found["sdpMid"]
            await pc.addIceCandidate(candidate)


class _StaticAndGrants(SimpleHTTPRequestHandler):
    """The files of web/static, an empty page, and grants for anybody."""

    def __init__(self, *args: Any, node: SmallNode, **kwargs: Any) -> None:
        self._node = node
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        if self.path.startswith("/js/"):
            super().do_GET()
            return
        self._answer(b"<!doctype html><meta charset=utf-8><title>Empty</title><main></main>", "text/html")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user_id = self.headers["Cookie"].removeprefix("user=")
        grant = f"{asked['roomId']} {user_id}"
        answer = {"grant": grant, "userId": user_id, "signalingUrl": self._node.signaling_url}
        self._answer(json.dumps(answer).encode(), "application/json")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
