"""The load: couples of a creator and their fans who go through calls as fast as the house lets them.

Every call to the house is repeated under the same key until it is answered, as a client's should be: so a
process may be killed at any moment, and whatever happens twice must not cost twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import uuid
from pathlib import Path

import msgspec

from chaos.people import creator_email, fan_email
from demo import PASSWORD
from demo.peer import JSON, ApiError, Peer
from demo.side import Side

RATE = 100
AGAIN_AFTER_SECONDS = 0.3
ANSWER_SECONDS = 60.0
RECEIPT_SECONDS = 60.0
AWAY = (OSError, TimeoutError, http.client.HTTPException)
CARDS = ("succeeds", "fails", "fails-later", "disputed")


class Counts(msgspec.Struct):
    """What the couples did."""

    requests: int = 0
    calls: int = 0
    receipts: int = 0
    extensions: int = 0
    tips: int = 0
    purchases: int = 0
    refusals: int = 0
    repeats: int = 0


class Couple:
    """One creator and their fans, one call after another until told to stop."""

    def __init__(self, url: str, number: int, fans: int, clip: Path, seed: int, counts: Counts) -> None:
        self._url = url
        self._number = number
        self._clip = clip
        self._counts = counts
        self._random = random.Random(f"{seed}:{number}")  # noqa: S311 (repeatable on purpose)
        self._creator = Peer(url)
        self._fans = [Peer(url) for _ in range(fans)]

    async def play(self, stop: asyncio.Event) -> None:
        """Until ``stop``; the last call is played to its end."""
        try:
            await self._sign_in()
            while not stop.is_set():
                with contextlib.suppress(ApiError):
                    await self._round(self._random.choice(self._fans))
        finally:
            for peer in (self._creator, *self._fans):
                await peer.close()

    async def _sign_in(self) -> None:
        await _signed_in(self._creator, creator_email(self._number))
        terms = {
            "enabled": True, "ratePerMinute": RATE, "minMinutes": 1,
            "autoAccept": self._random.choice(("manual", "all")),
        }  # fmt: skip
        await self._ask(self._creator, "PUT", "/api/streaming/private-settings", terms)
        for number, fan in enumerate(self._fans):
            await _signed_in(fan, fan_email(self._number, number))

    async def _round(self, fan: Peer) -> None:
        if self._random.random() < 0.3:
            await self._buy(fan)
        stream_id = await self._live()
        minutes = self._random.randint(1, 3)
        wish = {"creatorId": self._creator.user_id, "streamId": stream_id, "minutes": minutes}
        request = await self._ask(fan, "POST", "/api/streaming/private-request", wish)
        self._counts.requests += 1
        answer = self._random.choices(("accept", "decline", "cancel", "nothing"), (12, 1, 1, 1))[0]
        subject = {"requestId": request["requestId"]}
        try:
            if answer == "decline":
                await self._ask(self._creator, "POST", "/api/streaming/private-decline", subject)
            elif answer == "cancel":
                await self._ask(fan, "POST", "/api/streaming/private-cancel", subject)
            elif answer == "accept":
                await self._ask(self._creator, "POST", "/api/streaming/private-accept", subject)
        except ApiError as refusal:
            # The rule, the clock or a repeat was quicker; what became of it is looked up.
            if refusal.code != "REQUEST_NOT_PENDING":
                raise
        view = await self._answered(fan, request["requestId"])
        if view["status"] == "accepted":
            await self._call(fan, view["sessionId"], view["roomId"])

    async def _live(self) -> str:
        """The creator's stream, public: a new one, the running one, or back from private."""
        while True:
            try:
                stream = await self._ask(self._creator, "POST", "/api/streaming/streams", {})
            except ApiError as refusal:
                if refusal.code != "ALREADY_LIVE":
                    raise
                stream = {"streamId": refusal.problem["streamId"]}
                with contextlib.suppress(ApiError):
                    address = f"/api/streaming/streams/{stream['streamId']}/resume"
                    await self._ask(self._creator, "POST", address, {})
            found = await self._ask(self._creator, "GET", "/api/streaming/streams")
            for each in found["streams"]:
                if each["streamId"] == stream["streamId"] and each["status"] == "live":
                    return str(each["streamId"])
            await asyncio.sleep(AGAIN_AFTER_SECONDS)

    async def _call(self, fan: Peer, session_id: str, room_id: str) -> None:
        self._counts.calls += 1
        sides = (
            Side(self._creator, room_id, self._clip, decode=False),
            Side(fan, room_id, None, decode=False),
        )
        staying = [asyncio.create_task(side.stay()) for side in sides]
        try:
            await self._meddle(fan, session_id, staying)
            view = await self._ended(fan, session_id)
            if view["totalHeld"] != view["earnings"] + view["commission"] + view["refunded"]:
                raise AssertionError(f"a receipt that does not add up: {view}")
            self._counts.receipts += 1
        finally:
            for task in staying:
                task.cancel()
            await asyncio.gather(*staying, return_exceptions=True)
            for side in sides:
                for seat in side.seats:
                    await side.peer.forget(seat)

    async def _meddle(self, fan: Peer, session_id: str, staying: list[asyncio.Task[str]]) -> None:
        """What people do in a call; then wait until it is over for one of them."""
        await asyncio.sleep(self._random.uniform(0, 4))
        subject = {"sessionId": session_id}
        act = self._random.choice(("stay", "stay", "extend", "tip", "fan ends", "creator ends", "fan vanishes"))
        with contextlib.suppress(ApiError):
            if act == "extend":
                await self._ask(fan, "POST", "/api/streaming/private-extend", {**subject, "minutes": 1})
                self._counts.extensions += 1
            elif act == "tip":
                tip = {"creatorId": self._creator.user_id, "amount": 7, **subject}
                await self._ask(fan, "POST", "/api/streaming/tips", tip)
                self._counts.tips += 1
            elif act == "fan ends":
                await self._ask(fan, "POST", "/api/streaming/private-end", subject)
            elif act == "creator ends":
                await self._ask(self._creator, "POST", "/api/streaming/private-end", subject)
            elif act == "fan vanishes":
                staying[1].cancel()
        await asyncio.wait(staying, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    async def _buy(self, fan: Peer) -> None:
        self._counts.purchases += 1
        card = self._random.choices(CARDS, (6, 2, 1, 1))[0]
        with contextlib.suppress(ApiError):
            await self._ask(fan, "POST", "/api/wallet/top-up", {"packageId": "tokens-200", "card": card})

    async def _answered(self, fan: Peer, request_id: str) -> JSON:
        """The request once it is no longer open."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                view = await self._ask(fan, "GET", f"/api/streaming/private-requests/{request_id}")
                if view["status"] not in ("pending", "queued"):
                    return view
                await asyncio.sleep(AGAIN_AFTER_SECONDS)

    async def _ended(self, fan: Peer, session_id: str) -> JSON:
        async with asyncio.timeout(RECEIPT_SECONDS):
            while True:
                view = await self._ask(fan, "GET", f"/api/streaming/private-sessions/{session_id}")
                if view["status"] == "ended":
                    return view
                await asyncio.sleep(AGAIN_AFTER_SECONDS)

    async def _ask(self, peer: Peer, method: str, path: str, body: JSON | None = None) -> JSON:
        """One call, repeated under one key until it is answered; ApiError when it is refused."""
        key = uuid.UUID(int=self._random.getrandbits(128)).hex
        while True:
            try:
                return await peer.call(method, path, body, key=key)
            except ApiError as refusal:
                if refusal.status < 500 and refusal.code not in ("RATE_LIMITED", "IN_PROGRESS"):
                    self._counts.refusals += 1
                    raise
            except AWAY:
                pass
            self._counts.repeats += 1
            await asyncio.sleep(AGAIN_AFTER_SECONDS)


async def _signed_in(peer: Peer, email: str) -> None:
    while True:
        try:
            await peer.sign_in(email, PASSWORD)
        except (*AWAY, ApiError):
            await asyncio.sleep(AGAIN_AFTER_SECONDS)
        else:
            return
