"""A demo person's program: goes on and off the air, accepts, without a browser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus
from typing import Any

from ops.house import House
from ops.supervise import DEMO_PASSWORD


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

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Content-Type", "application/json")
        if method != "GET":
            request.add_header("Idempotency-Key", uuid.uuid4().hex)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=20) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found

    def go_live(self, title: str = "On air") -> None:
        stream = self.call("POST", "/api/streaming/streams", {"title": title})
        self.stream_id, self.room_id = stream["streamId"], stream["roomId"]

    def end(self) -> None:
        """Off the air, unless the clock has ended the stream already: nobody was seen in it."""
        try:
            if self.stream_id:
                self.call("DELETE", f"/api/streaming/streams/{self.stream_id}")
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
        self.stream_id = None

    def accept_one(self, handle: str) -> str:
        """Accept the open request of ``handle``; the session's id."""
        listed = self.call("GET", "/api/streaming/private-requests")["requests"]
        [request_id] = [each["requestId"] for each in listed if each["fan"]["handle"] == handle]
        accepted = self.call("POST", "/api/streaming/private-accept", {"requestId": request_id})
        return str(accepted["sessionId"])
