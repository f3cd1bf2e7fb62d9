"""A person's client in asyncio: sign-in, REST, the event feed and seats, by the public contract alone.

Used by the demo, the mock fan, the end-to-end tests and the benchmarks. It imports nothing of the house.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from demo.clip import Clip
from demo.seat import PATIENCE_SECONDS, Refused, Seat, use_loopback

JSON = dict[str, Any]
REQUEST_SECONDS = 20.0
STILL_OPENING = ("ROOM_NOT_FOUND", "UNAVAILABLE")
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.2, 5.0


class ApiError(Exception):
    """A refusal: the HTTP status and the problem's code."""

    def __init__(self, status: int, problem: JSON) -> None:
        self.status = status
        self.code: str = problem.get("code", "")
        self.problem = problem
        super().__init__(f"{status} {self.code}: {problem.get('detail', '')}")


class Notification(msgspec.Struct, frozen=True):
    """What the feed said, and when it got here (``time.monotonic``)."""

    at: float
    message: JSON


class Peer:
    """One person at one house. Use as ``async with Peer(url) as fan``."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.token = ""
        self.user_id = ""
        self.notifications: list[Notification] = []
        self._told = asyncio.Condition()
        self._feed: asyncio.Task[None] | None = None
        self._feed_open = asyncio.Event()
        self._seats: list[Seat] = []
        if "//localhost" in base_url or "//127." in base_url:
            use_loopback()

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the feed and every seat."""
        for seat in self._seats:
            await seat.close()
        self._seats = []
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.gather(self._feed, return_exceptions=True)
            self._feed = None

    async def sign_in(self, email: str, password: str, *, feed: bool = True) -> None:
        """Get a bearer token and, unless told otherwise, open the event feed."""
        answer = await self.call("POST", "/api/auth/token", {"email": email, "password": password})
        self.token, self.user_id = answer["token"], answer["userId"]
        if feed:
            self._feed = asyncio.create_task(self._follow_feed(), name="feed")
            await asyncio.wait_for(self._feed_open.wait(), PATIENCE_SECONDS)

    async def call(self, method: str, path: str, body: JSON | None = None, *, key: str | None = None) -> JSON:
        """One REST call; ApiError when refused. Unsafe ones carry an Idempotency-Key, ``key`` or a fresh one."""
        return await asyncio.to_thread(self._call, method, path, body, key)

    async def go_live(self) -> JSON:
        """Start a stream. In a house that starts, the web app may be there before a media node is: ApiError only
        when there is none for PATIENCE_SECONDS, or for another reason."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self.call("POST", "/api/streaming/streams", {})
            except ApiError as error:
                if error.code != "NO_MEDIA_NODE" or time.monotonic() > until:
                    raise
            await asyncio.sleep(FIRST_BACKOFF_SECONDS)

    async def told(
        self, kind: str, *, since: float = 0.0, seconds: float = PATIENCE_SECONDS, **fields: Any
    ) -> Notification:
        """The first notification of that type and with those fields since ``since``; TimeoutError."""

        def found() -> Notification | None:
            wanted = {"type": kind, **fields}
            return next(
                (one for one in self.notifications if one.at >= since and wanted.items() <= one.message.items()),
                None,
            )

        async with self._told:
            await asyncio.wait_for(self._told.wait_for(lambda: found() is not None), seconds)
        notification = found()
        assert notification is not None
        return notification

    async def wait_for_news(self, heard: int) -> None:
        """Wait until the feed has said more than ``heard`` things."""
        async with self._told:
            await self._told.wait_for(lambda: len(self.notifications) > heard)

    async def join(self, room_id: str, *, publish: Path | None = None, decode: bool = True) -> Seat:
        """Fetch a grant and take a seat; publish that file if there is one. ApiError or seat.Refused."""
        seat = await self._take_seat(room_id, decode)
        self._seats.append(seat)
        if publish is not None:
            await seat.publish(Clip(publish))
        return seat

    async def _take_seat(self, room_id: str, decode: bool) -> Seat:
        """A room that was announced a moment ago may still be opening: a few tries, each with a new grant."""
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, None):
            try:
                grant = await self.call("POST", "/api/rtc/grants", {"roomId": room_id, "role": "participant"})
                return await Seat.take(
                    grant["signalingUrl"], room_id, grant["userId"], grant["grant"], decode=decode
                )
            except Refused as refusal:
                if pause is None or str(refusal) not in STILL_OPENING:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def forget(self, seat: Seat) -> None:
        """Close a seat for good."""
        await seat.close()
        self._seats.remove(seat)

    async def receipt(
        self, session_id: str, *, seconds: float = PATIENCE_SECONDS, signed: bool = False
    ) -> JSON:
        """The session's receipt, once it has ended, or once the clock has ``signed`` it; TimeoutError."""
        path = f"/api/streaming/private-sessions/{session_id}"
        async with asyncio.timeout(seconds):
            while True:
                view = await self.call("GET", path)
                if view["status"] == "ended" and (not signed or "signature" in view):
                    return view
                await asyncio.sleep(0.05)

    def _call(self, method: str, path: str, body: JSON | None, key: str | None) -> JSON:
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if method != "GET":
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
            headers["Content-Type"] = "application/json"
        data = json.dumps(body or {}).encode() if method in ("POST", "PUT") else None
        request = urllib.request.Request(  # noqa: S310 (the house's own address)
            self.base_url + path, data=data, method=method, headers=headers
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=REQUEST_SECONDS) as answer:
                return _json(answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise ApiError(refusal.code, _json(refusal.read())) from None

    async def _follow_feed(self) -> None:
        """Keep the feed open for ever; what came in between is what RESYNC is for."""
        url = "ws" + self.base_url.removeprefix("http") + "/api/events"
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            try:
                headers = {"Authorization": f"Bearer {self.token}"}
                async with connect(url, additional_headers=headers, proxy=None) as socket:
                    backoff = FIRST_BACKOFF_SECONDS
                    async for text in socket:
                        await self._hear(json.loads(text))
            except (OSError, TimeoutError, InvalidHandshake, WebSocketException):
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            self._feed_open.clear()
            await asyncio.sleep(backoff)

    async def _hear(self, message: JSON) -> None:
        self._feed_open.set()
        async with self._told:
            self.notifications.append(Notification(time.monotonic(), message))
            self._told.notify_all()


def _json(body: bytes) -> JSON:
    with contextlib.suppress(ValueError):
        decoded = json.loads(body or b"{}")
        if isinstance(decoded, dict):
            return decoded
    return {"detail": body[:200].decode(errors="replace")}
