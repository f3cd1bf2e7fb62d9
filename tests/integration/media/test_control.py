"""A real media process on a real broker: commands, facts, outages, SIGSTOP, SIGTERM and what follows."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pika
import pytest
from media_clients import loopback_gathering, until
from seats import CREATOR, FAN, SECRET, Seat, fields, live_spec, private_spec, signed_grant
from websockets.asyncio.client import connect

from models.errors import Unconfirmed
from models.messages import codec, events
from models.messages.commands import CloseRoom, Command, GrantBudget, OpenRoom, Reply, SyncRooms
from models.messages.routing import COMMANDS_EXCHANGE, MEDIA_EVENTS_QUEUE
from ops.ports import free_port
from ops.rabbitmq import RabbitNode
from web.rpc import NodeRpc
from workers.broker import declare_all, parameters

NODE = "media-test"


class Control:
    """The control plane's side of the broker, for one test."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._rpc = NodeRpc(amqp_url)
        self.heard: list[Any] = []
        self._open()

    def _open(self) -> None:
        self._connection = pika.BlockingConnection(parameters(self._url))
        self._channel = self._connection.channel()
        self._channel.exchange_declare(COMMANDS_EXCHANGE, exchange_type="direct", durable=True)

    def away(self) -> None:
        """Let go of the broker before it dies."""
        self._connection.close()

    def back(self) -> None:
        self._open()

    def declare(self) -> None:
        declare_all(self._channel, MEDIA_EVENTS_QUEUE)

    def call(self, command: Command) -> Reply:
        return self._rpc.call(NODE, command, 10)

    def fetch(self) -> None:
        """Take what has arrived on the events' queue."""
        while True:
            method, _, body = self._channel.basic_get(MEDIA_EVENTS_QUEUE, auto_ack=True)
            if method is None:
                return
            envelope = msgspec.json.decode(body)
            assert envelope["actor_name"] == "on_media_event"
            self.heard.append(codec.decode_event(envelope["args"][0]))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    async def hears(self, kind: type[Any], count: int = 1) -> Any:
        def arrived() -> bool:
            self.fetch()
            return len(self.of(kind)) >= count

        await until(arrived, kind.__name__)
        return self.of(kind)[-1]

    def close(self) -> None:
        self._rpc.close()
        if self._connection.is_open:
            self._connection.close()


class MediaProcess:
    """``python -m media`` on ports of its own."""

    def __init__(self, amqp_url: str) -> None:
        self.port = free_port()
        self._environment = {
            **os.environ,
            "AMQP_URL": amqp_url,
            "SECRET_KEY": SECRET,
            "TESTING": "1",
            "MEDIA_NODE_ID": NODE,
            "MEDIA_PORT": str(self.port),
            "MEDIA_ADDRESSES": "127.0.0.1",
            "MEDIA_UDP_PORT": "0",
        }
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen([sys.executable, "-m", "media"], env=self._environment)
        return self.process

    async def answers(self) -> None:
        def healthy() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=1) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        await until(healthy, "media answers")

    async def join(self, room_id: str, user_id: str) -> Seat:
        seat = Seat(await connect(f"ws://127.0.0.1:{self.port}/signaling", compression=None))
        await seat.join(room_id, user_id, signed_grant(room_id, user_id))
        assert not seat.errors
        return seat

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(timeout=60)


@pytest.fixture
def control(amqp_url: str) -> Iterator[Control]:
    opened = Control(amqp_url)
    yield opened
    opened.close()


@pytest.fixture
def media(amqp_url: str) -> Iterator[MediaProcess]:
    started = MediaProcess(amqp_url)
    yield started
    started.stop()


def play(scene: Callable[[], Any]) -> None:
    """Run an async scene with clients on loopback."""

    async def bounded() -> None:
        async with asyncio.timeout(240), loopback_gathering():
            await scene()

    asyncio.run(bounded())


async def running_call(control: Control, media: MediaProcess, name: str, paid_ms: int) -> tuple[Seat, Seat]:
    spec = private_spec(name, paid_ms)
    assert control.call(OpenRoom(room=spec, **fields())).ok
    creator, fan = await media.join(spec.room_id, CREATOR), await media.join(spec.room_id, FAN)
    await creator.publish()
    await fan.clock("running")
    return creator, fan


def test_commands_are_carried_out_once_and_facts_come_back(control: Control, media: MediaProcess) -> None:
    async def scene() -> None:
        # The queue is declared late: what was said before waits.
        await media.answers()
        opening = OpenRoom(room=private_spec("facts", 60_000), **fields())
        await until(lambda: _ok(control, opening), "the command is answered")
        control.declare()
        ready = await control.hears(events.NodeReady)
        assert ready.signaling_url == f"ws://127.0.0.1:{media.port}/signaling"
        opened = await control.hears(events.RoomOpened)
        assert (opened.session_id, opened.paid_ms) == ("ses_facts", 60_000)
        assert control.call(opening).ok
        grant = GrantBudget(room_id="private-ses_facts", session_id="ses_facts", paid_ms=120_000, **fields())
        assert control.call(grant).ok
        assert (await control.hears(events.MediaDelivered)).paid_ms == 120_000
        late = CloseRoom(room_id="private-ses_facts", reason="MODERATION", **fields() | {"deadline_at": 1.0})
        assert control.call(late).code == "TOO_LATE"
        assert control.call(CloseRoom(room_id="live-no", reason="MODERATION", **fields())).code == "NOT_CONNECTED"
        foreign = SyncRooms(boot_id="boot_other", open=(), close=("private-ses_facts",), **fields())
        assert control.call(foreign).code == "OTHER_BOOT"
        again = await control.hears(events.NodeReady, len(control.of(events.NodeReady)) + 1)
        assert again.boot_id == ready.boot_id, "whoever listens to another life is told of this one"
        sync = SyncRooms(boot_id=ready.boot_id, open=(live_spec(),), close=("private-ses_facts",), **fields())
        assert control.call(sync).ok
        end = await control.hears(events.CallEnded)
        assert (end.fact, end.delivered_ms, end.creator_connected) == ("closed", 0, False)
        assert len(control.of(events.RoomOpened)) == 2

    play(scene)


def _ok(control: Control, command: Command) -> bool:
    """Before the node has bound its queue nobody answers."""
    try:
        return control.call(command).ok
    except Unconfirmed:
        return False


def test_a_dead_broker_pauses_nothing_and_the_end_is_told_afterwards(
    control: Control, media: MediaProcess, rabbit: RabbitNode
) -> None:
    async def scene() -> None:
        control.declare()
        await control.hears(events.NodeReady)
        creator, fan = await running_call(control, media, "alone", 6_000)
        try:
            control.away()
            rabbit.kill()
            assert await fan.closed() == 4001
            assert fan.terminated == "TIME_EXPIRED"
            assert not any(clock["state"] == "paused" for clock in fan.of("SESSION_CLOCK"))
        finally:
            await asyncio.to_thread(rabbit.start)
        control.back()
        end = await control.hears(events.CallEnded)
        assert (end.fact, end.delivered_ms) == ("time_expired", 6_000)
        await control.hears(events.NodeReady, 2)
        assert len({end.message_id for end in control.of(events.CallEnded)}) == 1
        await asyncio.gather(creator.close(), fan.close())

    play(scene)


def test_a_stopped_process_gives_no_free_media_and_bills_nothing_twice(
    control: Control, media: MediaProcess
) -> None:
    async def scene() -> None:
        control.declare()
        await control.hears(events.NodeReady)
        # Longer than a slow machine needs for its first pictures.
        creator, fan = await running_call(control, media, "frozen", 9_000)
        await fan.decodes(20)
        media.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(6)  # the fault itself: three times the longest gap that counts
        media.process.send_signal(signal.SIGCONT)
        await fan.clock("paused")
        assert fan.of("SESSION_CLOCK")[-1]["cause"] == "node"
        await fan.clock("running")
        assert await fan.closed() == 4001
        end = await control.hears(events.CallEnded)
        assert (end.fact, end.delivered_ms) == ("time_expired", 9_000)
        assert end.node_pause_ms >= 5_000
        assert end.creator_pause_ms < 1_000
        # 30 frames a second were sent for some 15 s; 9 s of them were paid.
        assert fan.frames["video"] <= 9 * 30 + 15
        await asyncio.gather(creator.close(), fan.close())

    play(scene)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "crash"])
def test_the_next_boot_goes_on_where_the_last_report_stood(
    control: Control, media: MediaProcess, how: signal.Signals
) -> None:
    async def scene() -> None:
        control.declare()
        await control.hears(events.NodeReady)
        creator, fan = await running_call(control, media, "again", 60_000)
        await fan.decodes(60)
        media.process.send_signal(how)
        await fan.closed()
        await creator.closed()
        media.process.wait(timeout=60)
        if how == signal.SIGTERM:
            assert media.process.returncode == 0
            assert fan.close_code == 1012
            control.fetch()
            assert control.of(events.MediaDelivered)[-1].delivered_ms > 1_000
        assert control.of(events.CallEnded) == []
        control.fetch()
        last = control.of(events.MediaDelivered)[-1]

        media.start()
        ready = await control.hears(events.NodeReady, 2)
        assert ready.boot_id != last.boot_id
        spec = private_spec("again", 60_000, delivered_ms=last.delivered_ms, resumed=True)
        assert control.call(SyncRooms(boot_id=ready.boot_id, open=(spec,), close=(), **fields())).ok
        back = [await media.join(spec.room_id, user) for user in (CREATOR, FAN)]
        await back[1].hears("SESSION_CLOCK")
        clock = back[1].of("SESSION_CLOCK")[0]
        assert (clock["state"], clock["cause"], clock["deliveredMs"]) == ("paused", "node", last.delivered_ms)
        await back[0].publish()
        await back[1].clock("running")
        await back[1].decodes()
        assert control.call(CloseRoom(room_id=spec.room_id, reason="ENDED_BY_FAN", **fields())).ok
        end = await control.hears(events.CallEnded)
        assert end.fact == "closed"
        assert last.delivered_ms < end.delivered_ms < last.delivered_ms + 30_000
        await asyncio.gather(*(seat.close() for seat in (creator, fan, *back)))

    play(scene)
