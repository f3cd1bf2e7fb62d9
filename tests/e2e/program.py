"""A demo person's program: goes on and off the air, accepts, without a browser.

On the air it keeps its seat in the room, without a picture: a stream without its creator ends by itself.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

from websockets.sync.client import ClientConnection, connect

from models.clock import utc_now
from models.db import Database
from models.services import accounts
from ops.house import House
from ops.supervise import DEMO_PASSWORD

SECONDS = 120


class Program:
    """Calls the public REST interface as one person; with a ``token`` of their own, or as a demo person."""

    def __init__(self, house: House, handle: str, token: str = "") -> None:
        self.url = house.environment["PUBLIC_URL"]
        self.handle = handle
        self._token = token
        if not token:
            body = {"email": f"{handle}@demo.test", "password": DEMO_PASSWORD}
            self._token = self.call("POST", "/api/auth/token", body)["token"]
        self.stream_id: str | None = None
        self.room_id: str | None = None
        self._seats = ExitStack()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Content-Type", "application/json")
        if method != "GET":
            request.add_header("Idempotency-Key", uuid.uuid4().hex)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=SECONDS) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found

    def go_live(self, title: str = "On air") -> None:
        """On the air, and in the room."""
        stream = self.call("POST", "/api/streaming/streams", {"title": title})
        self.stream_id, self.room_id = stream["streamId"], stream["roomId"]
        deadline = time.monotonic() + SECONDS
        while (answer := self.join(stream["roomId"])[1])["type"] != "JOINED":
            # The node may still have to open the room.
            assert time.monotonic() < deadline, answer

    def join(self, room_id: str) -> tuple[ClientConnection, dict[str, Any]]:
        """A seat's socket, open until the end, and the room's first answer."""
        granted = self.call("POST", "/api/rtc/grants", {"roomId": room_id, "role": "participant"})
        address = self.url.replace("http", "ws", 1) + "/api/rtc/signaling"
        bearer = {"Authorization": f"Bearer {granted['grant']}"}
        # Nobody reads what comes later, and pings are to be answered all the same.
        opened = connect(address, additional_headers=bearer, max_queue=None, open_timeout=SECONDS, proxy=None)
        seat = self._seats.enter_context(opened)
        join = {"type": "JOIN_ROOM", "roomId": room_id, "userId": granted["userId"], "isSpectator": False}
        seat.send(json.dumps(join))
        answer: dict[str, Any] = json.loads(seat.recv(SECONDS))
        return seat, answer

    def end(self) -> None:
        """Off the air, unless the stream has ended already, and out of every seat."""
        try:
            if self.stream_id:
                self.call("DELETE", f"/api/streaming/streams/{self.stream_id}")
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
        self.stream_id = None
        self._seats.close()

    def accept_one(self, handle: str) -> str:
        """Accept the open request of ``handle``; the session's id."""
        listed = self.call("GET", "/api/streaming/private-requests")["requests"]
        [request_id] = [each["requestId"] for each in listed if each["fan"]["handle"] == handle]
        accepted = self.call("POST", "/api/streaming/private-accept", {"requestId": request_id})
        return str(accepted["sessionId"])


def viewers_of(house: House, count: int) -> list[Program]:
    """So many people with a program each, made without the slow hashing of a password."""
    db, now = Database(f"sqlite:///{house.var / 'greenroom.db'}"), utc_now()
    made = []
    for number in range(count):
        handle = f"viewer_{number}"
        with db.transaction() as tx:
            person = accounts.create_person(
                tx,
                email=f"{handle}@demo.test",
                handle=handle,
                display_name=handle,
                password_hash="none",
                roles=("fan",),
                now=now,
            )
            token = accounts.open_sign_in(tx, person.user_id, kind="token", now=now).token
        made.append(Program(house, handle, token))
    db.close()
    return made
