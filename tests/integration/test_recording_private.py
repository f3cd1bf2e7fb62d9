"""Private media on disk: none without both consents, in one file with them, not a frame after a withdrawal.

A house of real processes plays a private call whose creator sends numbered pictures. Whatever any of its
processes has open for writing is looked at all the while, and its directories before and after.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from demo import PASSWORD
from demo.peer import ApiError, Peer
from demo.seat import Refused, Seat
from models import egress_tickets
from models.clock import utc_now
from models.config import load_settings
from models.messages.egress import PATH
from ops.house import House, HouseError
from tests.conftest import MakeHouse
from tests.fakes import clock_clip
from tests.integration.test_private_frames import Numbered, number_in
from tests.integration.transcode import played

PATIENCE_SECONDS = 90.0
SECONDS = 12
"""Of numbers before they begin anew."""
SIZE = (320, 180)
BOOKS = (".db", ".db-wal", ".db-shm", ".log")
"""What the house may write at any time."""
HEARTBEATS = ("/tmp/wgunicorn-", "/dev/shm/pym-")
"""Without a name: gunicorn's heartbeat of a worker, and the memory that Dramatiq's processes share."""


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    made = make_house(
        demo=True,
        names=("media", "worker", "transcode", "clock", "web"),
        TRANSCODE_PRESET="ultrafast",
        RECORDINGS_FREE_MB="1",
    )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def clip(servers_directory: Path) -> clock_clip.Clip:
    directory = servers_directory / "numbered-recording"
    directory.mkdir()
    return clock_clip.make(directory, codec="VP8", width=SIZE[0], height=SIZE[1], seconds=SECONDS)


# --- what is written ----------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [each for child in task.read_text().split() for each in family(int(child))]
    return found


def open_for_writing(pid: int) -> set[Path]:
    """Regular files that the process can write to now (proc(5): fdinfo's flags are open(2)'s, in octal)."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            info = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text()
            flags = int(info.split("flags:")[1].split()[0], 8)
            file = os.stat(fd)
            path = os.readlink(fd)
            known = file.st_nlink == 0 and path.startswith(HEARTBEATS)
            if flags & os.O_ACCMODE != os.O_RDONLY and stat.S_ISREG(file.st_mode) and not known:
                found.add(Path(path))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Watch:
    """Everything that any process of the house had open for writing, but its books."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.seen: set[Path] = set()
        self.rounds = 0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._enough.wait(0.02):
            for child in tuple(self._house.children.values()):
                try:
                    pids = family(child.pid)
                    found = {path for pid in pids for path in open_for_writing(pid)}
                    self.seen |= {path for path in found if path.suffix not in BOOKS}
                except (FileNotFoundError, ProcessLookupError, HouseError):
                    continue
            self.rounds += 1


def files(house: House) -> set[Path]:
    """All files of the house but its books."""
    return {path for path in house.var.rglob("*") if path.is_file() and path.suffix not in BOOKS}


def recordings(house: House) -> list[Path]:
    return sorted((house.var / "recordings").glob("rec_*"))


# --- who plays ----------------------------------------------------------------------------------------


@asynccontextmanager
async def call(house: House, clip: clock_clip.Clip) -> AsyncIterator[tuple[Peer, Peer, str, list[Seat], Numbered]]:
    """A creator who sends and a fan who watches, in private; the creator offers recordings."""
    url = house.environment["PUBLIC_URL"]
    async with Peer(url) as creator, Peer(url) as fan:
        await creator.sign_in("creator_a@demo.test", PASSWORD)
        await fan.sign_in("fan_a@demo.test", PASSWORD)
        terms = {"enabled": True, "ratePerMinute": 1, "minMinutes": 1, "autoAccept": "manual"}
        await creator.call("PUT", "/api/streaming/private-settings", terms)
        await creator.call("PUT", "/api/streaming/recording-offer", {"offered": True, "price": 5, "shared": True})
        stream = await creator.call("POST", "/api/streaming/streams", {})
        wish = {"creatorId": creator.user_id, "streamId": stream["streamId"], "minutes": 10}
        request = await fan.call("POST", "/api/streaming/private-request", wish)
        accepted = await creator.call("POST", "/api/streaming/private-accept", {"requestId": request["requestId"]})
        sent = Numbered(clip)
        seats = [await creator.join(accepted["roomId"]), await fan.join(accepted["roomId"], decode=False)]
        await seats[0].publish(sent)
        await seats[0].wait_for_clock("running")
        yield creator, fan, accepted["sessionId"], seats, sent
        await fan.call("POST", "/api/streaming/private-end", {"sessionId": accepted["sessionId"]})
        await asyncio.gather(*(seat.ended for seat in seats))
        await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")


async def agree(person: Peer, session_id: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            seen = await person.call("GET", f"/api/streaming/private-sessions/{session_id}/recording")
            try:
                body = {"sessionId": session_id, **seen["terms"]}
                return dict(await person.call("POST", "/api/streaming/recording-consent", body))
            except ApiError as refusal:
                # The node's word that the call is live may still be on its way.
                if refusal.problem["code"] != "SESSION_NOT_LIVE":
                    raise
                await asyncio.sleep(0.1)


async def status(person: Peer, session_id: str, wanted: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            seen = await person.call("GET", f"/api/streaming/private-sessions/{session_id}/recording")
            if seen["status"] == wanted:
                return dict(seen)
            await asyncio.sleep(0.05)


async def read_room(house: House, room_id: str) -> int:
    """What the node answers to somebody with a good ticket for this room."""
    settings = load_settings(house.environment)
    key = egress_tickets.room_key(settings.key(egress_tickets.KEY_PURPOSE), room_id)
    ticket = egress_tickets.sign(room_id, key, utc_now().timestamp())
    address = f"ws://127.0.0.1:{settings.media_port}{PATH}{room_id}"
    try:
        async with connect(address, additional_headers={"Authorization": f"Bearer {ticket}"}, max_size=None):
            return 101
    except InvalidStatus as refusal:
        return int(refusal.response.status_code)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 (what is waited for is a file of another process)
            await asyncio.sleep(0.05)


def marks(seat: Seat) -> list[str]:
    return [message["state"] for message in seat.messages if message["type"] == "RECORDING"]


def recorder_of(directory: Path) -> int:
    """The pid; 0 while there is none."""
    try:
        return int(json.loads((directory / "child.json").read_text())["pid"])
    except (FileNotFoundError, json.JSONDecodeError):
        return 0


def parts(directory: Path) -> int:
    return len(list(directory.glob("part_*")))


def plays(path: Path) -> float:
    """Seconds, as somebody else's tool finds them; it must find nothing wrong."""
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    found = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    assert found.stderr == ""
    return float(found.stdout)


def numbers(path: Path) -> list[int]:
    """Of the creator's pictures, without repeats; the stand-in card has none."""
    found: list[int] = []
    for picture in played.pictures(path.read_bytes()):
        number = number_in(picture.bright)
        if number is not None and (not found or number != found[-1]):
            found.append(number)
    return found


# --- the promises -------------------------------------------------------------------------------------


def test_private_media_is_on_disk_with_two_keys_alone_and_not_a_frame_longer(
    house: House, clip: clock_clip.Clip
) -> None:
    async def play() -> None:
        async with call(house, clip) as (creator, fan, session_id, (seat, _), sent):
            room_id = f"private-{session_id}"
            # given a call in which nobody, and then one, has agreed
            before = files(house)
            with Watch(house) as watch:
                assert await read_room(house, room_id) == 403
                await agree(fan, session_id)
                assert await read_room(house, room_id) == 403
                await asyncio.sleep(2)
            # then no process of the house has written any file but its books
            assert watch.rounds > 10
            assert watch.seen == set()
            assert files(house) == before
            assert marks(seat) == []

            # when both have
            with Watch(house) as watch:
                await agree(creator, session_id)
                await status(creator, session_id, "running")
                assert marks(seat) == ["on"]
                [directory] = recordings(house)
                await asyncio.sleep(1)
                # and the recorder is killed, and then its whole worker
                first = recorder_of(directory)
                os.kill(first, signal.SIGKILL)
                await until(lambda: recorder_of(directory) not in (0, first) and parts(directory) > 1)
                assert plays(directory / "part_1.mp4") > 0.5
                second = recorder_of(directory)
                house.children["transcode"].signal(signal.SIGKILL)
                await until(lambda: recorder_of(directory) not in (0, second) and parts(directory) > 2)
                await asyncio.sleep(2)
                # and the fan takes it back
                answer = await fan.call("POST", "/api/streaming/recording-withdraw", {"sessionId": session_id})
                shown = sent.video._next
                assert answer["stopped"] is True
                assert await read_room(house, room_id) == 403
                assert marks(seat) == ["on", "off"]
                await status(creator, session_id, "kept")
                clocks = len(seat.clocks)
                await until(lambda: len(seat.clocks) > clocks)  # the call goes on
                await asyncio.sleep(2)
            # then there was one directory for it, and nothing else anywhere
            assert {path.parent for path in watch.seen} == {directory}
            whole = directory / "recording.mp4"
            assert {path for path in files(house) - before if path.name != ".recordings"} == {
                whole, directory / "child.json"
            }  # fmt: skip
            assert stat.S_IMODE(whole.stat().st_mode) == 0o600
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            # and no picture that was sent after the withdrawal was confirmed is in the file
            after = (shown - 1 - numbers(whole)[-1]) % (SECONDS * clock_clip.RATE)
            print(f"{after} pictures were sent after the last recorded one, before the withdrawal's answer")
            assert after < 2 * clock_clip.RATE
            assert plays(whole) > 4
            # nor is it begun again
            with pytest.raises(ApiError, match="RECORDING_OVER"):
                await agree(creator, session_id)
            assert await read_room(house, room_id) == 403

    asyncio.run(play())


def test_a_node_that_was_killed_goes_on_with_what_both_still_agree_to(house: House, clip: clock_clip.Clip) -> None:
    async def play() -> None:
        async with call(house, clip) as (creator, fan, session_id, taken, _):
            room_id = f"private-{session_id}"
            before = set(recordings(house))
            await agree(creator, session_id)
            await agree(fan, session_id)
            await status(fan, session_id, "running")
            [directory] = set(recordings(house)) - before
            # when the node is killed, and both come back to its next life
            house.children["media"].signal(signal.SIGKILL)
            seats = [await rejoin(creator, room_id), await rejoin(fan, room_id)]
            taken += seats
            await seats[0].publish(Numbered(clip))
            # then they see the mark again, and the same recorder goes on
            await until(lambda: all(marks(seat) == ["on"] for seat in seats))
            assert parts(directory) == 1
            size = (directory / "part_1.mp4").stat().st_size
            await until(lambda: (directory / "part_1.mp4").stat().st_size > size)
            # and a word to the node itself is enough to stop it
            await seats[1]._send({"type": "STOP_RECORDING"})
            await until(lambda: all(marks(seat) == ["on", "off"] for seat in seats))
            kept = await status(creator, session_id, "kept")
            assert kept["stopReason"] == "stopped"
            assert plays(directory / "recording.mp4") > 1

    asyncio.run(play())


async def rejoin(person: Peer, room_id: str) -> Seat:
    """As a browser does when its node was restarted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await person.join(room_id, decode=False)
            except (ApiError, Refused, OSError, TimeoutError):
                await asyncio.sleep(0.2)
