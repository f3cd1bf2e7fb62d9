"""The mock fan of demo mode: asks every creator who goes live, and really comes when accepted.

``python -m demo.mock_fan``. An outside client like any other; its request appears three seconds after a
creator goes live, marked as a mock's. It runs until SIGTERM and comes back after every outage.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

from websockets.exceptions import WebSocketException

from demo import PASSWORD
from demo.media_file import media_file
from demo.peer import ApiError, Peer
from demo.seat import Refused
from models import log
from models.config import Settings, SettingsError, load_settings

EMAIL = "mock_fan@demo.test"
ASK_AFTER_SECONDS = 3.0
AGAIN_AFTER_SECONDS = 2.0
OUTAGES = (ApiError, OSError, TimeoutError, WebSocketException)


class MockFan:
    """Asks each stream once, takes every seat that it is given."""

    def __init__(self, peer: Peer, clip: asyncio.Task[Path]) -> None:
        self._peer = peer
        self._clip = clip
        self._asked: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard = 0

    async def run(self) -> None:
        """Follow the feed for as long as it lasts."""
        try:
            while True:
                await self._peer.wait_for_news(self._heard)
                for notification in self._peer.notifications[self._heard :]:
                    self._heard += 1
                    self._on_notification(notification.message)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_notification(self, message: dict[str, str]) -> None:
        match message["type"]:
            case "RESYNC":
                self._start(self._catch_up())
            case "STREAM_STARTED":
                self._start(self._ask(message["streamId"], message["creatorId"]))
            case "PRIVATE_ACCEPTED":
                self._start(self._come(message["roomId"]))

    async def _catch_up(self) -> None:
        """Who went live while nobody listened is asked as well."""
        try:
            listed = await self._peer.call("GET", "/api/streaming/streams")
        except OUTAGES as error:
            log.event("mock_could_not_look", error=type(error).__name__)
            return
        for stream in listed["streams"]:
            if stream["status"] == "live":
                self._start(self._ask(stream["streamId"], stream["creatorId"]))

    def _start(self, doing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger("greenroom").error("mock_fan_failed", exc_info=error)

    async def _ask(self, stream_id: str, creator_id: str) -> None:
        if stream_id in self._asked:
            return
        self._asked.add(stream_id)
        # Whoever asks must be able to come: on the very first run the file may not be there yet.
        await asyncio.gather(asyncio.sleep(ASK_AFTER_SECONDS), asyncio.shield(self._clip))
        try:
            offer = await self._peer.call("GET", f"/api/streaming/private-settings/{creator_id}")
            wish = {
                "creatorId": creator_id,
                "streamId": stream_id,
                "minutes": offer["minMinutes"],
                "maxTotalCost": offer["quote"]["totalCost"],
            }
            answer = await self._peer.call("POST", "/api/streaming/private-request", wish)
            log.event("mock_asked", request_id=answer["requestId"])
        except (ApiError, OSError) as refusal:
            log.event("mock_refused", stream_id=stream_id, code=getattr(refusal, "code", "OUTAGE"))

    async def _come(self, room_id: str) -> None:
        """Sit there until the room says that it is over; a lost connection is not that."""
        try:
            clip = await asyncio.shield(self._clip)
            while True:
                seat = await self._peer.join(room_id, publish=clip)
                log.event("mock_joined", room_id=room_id)
                ended = await seat.ended
                log.event("mock_left", room_id=room_id, reason=ended.reason, frames=seat.seen.frames)
                await self._peer.forget(seat)
                if ended.reason is not None:
                    return
                await asyncio.sleep(AGAIN_AFTER_SECONDS)
        except (Refused, *OUTAGES) as error:
            log.event("mock_could_not_join", room_id=room_id, error=type(error).__name__)


async def stay(settings: Settings) -> None:
    """Be the mock fan until cancelled; the house may come and go."""
    # Made meanwhile: it takes seconds, and is needed only once a creator has accepted.
    clip = asyncio.create_task(asyncio.to_thread(media_file, settings.var_dir))
    outage = False
    while True:
        try:
            async with Peer(f"http://{settings.host}:{settings.port}") as peer:
                await peer.sign_in(EMAIL, PASSWORD)
                outage = False
                log.event("mock_fan_waits")
                await MockFan(peer, clip).run()
        except OUTAGES as error:
            if not outage:
                log.event("mock_fan_outage", error=type(error).__name__)
            outage = True
        await asyncio.sleep(AGAIN_AFTER_SECONDS)


async def _until_signal(settings: Settings) -> None:
    staying = asyncio.create_task(stay(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, staying.cancel)
    try:
        await staying
    except asyncio.CancelledError:
        log.event("mock_fan_stopped")


def main() -> int:
    """0 after SIGTERM, 2 when the settings are not the demo's."""
    try:
        settings = load_settings()
        if not settings.demo:
            raise SettingsError("The mock fan is for demo mode: set DEMO=1")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    log.configure("demo", settings.log_level)
    asyncio.run(_until_signal(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
