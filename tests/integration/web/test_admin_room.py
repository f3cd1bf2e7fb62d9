"""/admin, one room, with a real node's listener behind it: live figures, and honest words where there are none."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from web_people import People, Someone
from websockets.sync.client import connect

from media.node import Node
from media.port import Port
from media.signaling import SignalingServer
from models import grants, ids
from models.clock import utc_now
from models.config import Settings
from models.grants import Grant
from models.messages import commands, signaling
from models.messages.commands import RoomSpec
from models.services import streams
from web import node_figures

PATIENCE = 60.0


class RunningNode:
    """A media node with its private listener, on an event loop of its own."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.node = self._on_loop(self._make(settings))
        self._server = SignalingServer(self.node)
        port = self._on_loop(self._server.start("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{port}/signaling"
        self._key = settings.key("grants")

    async def _make(self, settings: Settings) -> Node:
        self._port = Port(("127.0.0.1",))
        node = Node(settings, lambda event: None, self._port)
        node.start()
        return node

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def open(self, room_id: str, creator_id: str) -> None:
        command = commands.OpenRoom(
            message_id=ids.new_id("msg"), cause_id="test", deadline_at=utc_now().timestamp() + 60,
            room=RoomSpec(room_id=room_id, creator_id=creator_id),
        )  # fmt: skip

        async def carry_out() -> None:
            assert self.node.carry_out(command).ok

        self._on_loop(carry_out())

    def grant(self, room_id: str, user_id: str) -> str:
        now = utc_now().timestamp()
        made = Grant(
            jti=ids.new_id("grt"), room_id=room_id, user_id=user_id, display_name="Somebody", role="participant",
            publish=True, issued_at=now, expires_at=now + 60,
        )  # fmt: skip
        return grants.sign(made, self._key)

    def close(self) -> None:
        async def stop() -> None:
            self.node.suspend()
            await self._server.stop()
            await self.node.close()
            self._port.close()

        self._on_loop(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


@pytest.fixture
def node(settings: Settings) -> Iterator[RunningNode]:
    running = RunningNode(settings)
    yield running
    running.close()


@pytest.fixture
def admin(people: People) -> Someone:
    return people.make("admin")


Look = Callable[[str], str]


@pytest.fixture
def look(client: FlaskClient, admin: Someone) -> Look:
    def read(room_id: str) -> str:
        answer = client.get(f"/admin/rooms/{room_id}?part=1", headers=admin.headers())
        assert answer.status_code == 200
        return answer.get_data(as_text=True)

    return read


def test_who_is_in_the_room_shows_with_live_figures(people: People, node: RunningNode, look: Look) -> None:
    # Given a public stream on a node
    creator = people.creator()
    room_id = people.live(creator).room_id
    people.node(node.url)
    node.open(room_id, creator.user_id)
    # Then there is nobody in it
    assert "Nobody is in this room" in look(room_id)
    # When the creator takes the seat
    with connect(node.url) as seat:
        join = signaling.JoinRoom(
            room_id=room_id, user_id=creator.user_id, grant=node.grant(room_id, creator.user_id)
        )
        seat.send(signaling.encode(join).decode())
        assert '"JOINED"' in str(seat.recv(PATIENCE))
        until = time.monotonic() + PATIENCE
        while "0 kbit/s" not in (page := look(room_id)):
            assert time.monotonic() < until, "the node never sampled twice"
    # Then it shows by name, with what is measured and what is not known
    assert f'<a class="link" href="/admin/people/{creator.user_id}">{creator.person.handle}</a>' in page
    assert f'data-seat="{creator.user_id}"' in page
    assert "Not measured yet" in page
    assert "no media connection" in page
    assert "unknown" in page


def test_a_room_that_its_node_does_not_have(people: People, node: RunningNode, look: Look) -> None:
    room_id = people.live(people.creator()).room_id
    people.node(node.url)
    assert "does not have this room" in look(room_id)


def test_a_node_that_is_away(people: People, look: Look) -> None:
    room_id = people.live(people.creator()).room_id
    assert "The media node does not answer." in look(room_id)


def test_a_node_that_hangs_is_not_waited_for(
    people: People, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_figures, "PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        room_id = people.live(people.creator()).room_id
        people.node(f"ws://127.0.0.1:{frozen.getsockname()[1]}/signaling")
        assert "The media node does not answer." in look(room_id)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        b"\x00" * 99, b"",
    ],
)
def test_a_node_that_talks_nonsense(people: People, look: Look, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        speaker = threading.Thread(target=speak)
        speaker.start()
        room_id = people.live(people.creator()).room_id
        people.node(f"ws://127.0.0.1:{listener.getsockname()[1]}/signaling")
        assert "The media node does not answer." in look(room_id)
        speaker.join(PATIENCE)


def test_a_room_that_is_closed_and_one_that_never_was(
    people: People, client: FlaskClient, admin: Someone, look: Look
) -> None:
    creator = people.creator()
    stream = people.live(creator)
    people.database.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator.person, utc_now()))
    page = look(stream.room_id)
    assert "This room is closed." in page
    assert "Participants table" not in page
    assert client.get("/admin/rooms/live-str_never", headers=admin.headers()).status_code == 404
