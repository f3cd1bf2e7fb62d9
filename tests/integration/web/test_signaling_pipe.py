"""The signaling pipe as deployed, with a media node at its far end."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from live_web import PATIENCE, FakeNode, LiveWeb, close_code
from web_people import People, Someone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from models import grants, ids
from models.clock import utc_now
from models.config import Settings, load_settings
from models.grants import Grant
from models.messages.signaling import MAX_FRAME_BYTES

PATH = "/api/rtc/signaling"


@pytest.fixture
def people(live_people: People) -> People:
    return live_people


@pytest.fixture
def settings(live_environment: dict[str, str]) -> Settings:
    return load_settings(live_environment)


@pytest.fixture
def node() -> Iterator[FakeNode]:
    opened = FakeNode()
    yield opened
    opened.close()


@pytest.fixture
def room(people: People, node: FakeNode) -> str:
    room_id = people.live(people.creator()).room_id
    people.node(node.url)
    return room_id


def grant_for(
    settings: Settings, room_id: str, user_id: str, *, age: float = 0.0, key: bytes | None = None
) -> str:
    now = utc_now().timestamp() - age
    grant = Grant(
        jti=ids.new_id("grt"),
        room_id=room_id,
        user_id=user_id,
        display_name="Fan",
        role="participant",
        publish=False,
        issued_at=now,
        expires_at=now + 60,
    )
    return grants.sign(grant, key or settings.key("grants"))


def join(room_id: str, user_id: str, grant: str | None) -> str:
    message: dict[str, Any] = {"type": "JOIN_ROOM", "roomId": room_id, "userId": user_id, "isSpectator": False}
    return json.dumps(message | ({"grant": grant} if grant else {}))


def said(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.recv(timeout=PATIENCE))
    return message


def refusal(client: ClientConnection) -> tuple[str, int | None]:
    """The code of the ERROR that comes next, and of the close after it."""
    message = said(client)
    assert message["type"] == "ERROR"
    return message["code"], close_code(client)


@pytest.fixture
def joined(
    live: LiveWeb, node: FakeNode, settings: Settings, room: str, fan: Someone
) -> Iterator[ClientConnection]:
    """A browser whose join has reached the node."""
    with live.socket(PATH) as client:
        client.send(join(room, fan.user_id, grant_for(settings, room, fan.user_id)))
        assert json.loads(str(node.hear()))["type"] == "JOIN_ROOM"
        yield client


def test_a_join_reaches_the_node_and_messages_flow_both_ways(joined: ClientConnection, node: FakeNode) -> None:
    inside = node.connection()

    inside.send('{"type":"JOINED","roomId":"r"}')
    assert said(joined)["type"] == "JOINED"
    joined.send('{"type":"OFFER","pc":"publish","sdp":"v=0 \u2603"}')
    assert node.hear() == '{"type":"OFFER","pc":"publish","sdp":"v=0 \u2603"}'
    joined.send('{"type":"PING"}')
    assert node.hear() == '{"type":"PING"}'


def test_messages_keep_their_order(joined: ClientConnection, node: FakeNode) -> None:
    inside = node.connection()
    for number in range(60):
        joined.send(f'{{"type":"ICE_CANDIDATE","n":{number}}}')
        inside.send(str(number))

    assert [json.loads(str(node.hear()))["n"] for _ in range(60)] == list(range(60))
    assert [joined.recv(timeout=PATIENCE) for _ in range(60)] == [str(number) for number in range(60)]


def test_the_last_message_and_the_code_of_a_cut_reach_the_browser(
    joined: ClientConnection, node: FakeNode
) -> None:
    inside = node.connection()

    inside.send('{"type":"TERMINATE_CALL","reason":"TIME_EXPIRED","redirectUrl":"/models"}')
    inside.close(4001, "terminated")
    assert said(joined)["reason"] == "TIME_EXPIRED"
    assert close_code(joined) == 4001


def test_a_cut_reaches_a_browser_whose_messages_nobody_takes(joined: ClientConnection, node: FakeNode) -> None:
    inside = node.connection()
    node.reading.clear()
    joined.socket.settimeout(1.0)
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        for _ in range(90):
            joined.send("x" * 60_000)
    joined.socket.settimeout(None)

    inside.send('{"type":"TERMINATE_CALL","reason":"TIME_EXPIRED","redirectUrl":"/models"}')
    node.reading.set()
    inside.close(4001, "terminated")
    assert said(joined)["reason"] == "TIME_EXPIRED"
    assert close_code(joined) == 4001


def test_a_browser_that_goes_takes_the_nodes_side_with_it(joined: ClientConnection, node: FakeNode) -> None:
    joined.close()

    assert node.hear() == 1000


def test_a_browser_that_is_cut_off_takes_the_nodes_side_with_it(joined: ClientConnection, node: FakeNode) -> None:
    joined.socket.shutdown(socket.SHUT_RDWR)

    assert node.hear() == 1000


def test_when_the_node_dies_the_browser_is_told_to_come_back(joined: ClientConnection, node: FakeNode) -> None:
    node.vanish()

    assert close_code(joined) == 1012


def test_a_node_that_is_down_is_unavailable(
    live: LiveWeb, settings: Settings, room: str, fan: Someone, node: FakeNode
) -> None:
    node.close()
    with live.socket(PATH) as client:
        client.send(join(room, fan.user_id, grant_for(settings, room, fan.user_id)))
        assert refusal(client) == ("UNAVAILABLE", 1013)


def test_a_program_sends_its_grant_as_bearer_without_an_origin(
    live: LiveWeb, settings: Settings, room: str, fan: Someone, node: FakeNode
) -> None:
    grant = grant_for(settings, room, fan.user_id)
    with live.socket(PATH, bearer=grant, origin=None) as client:
        client.send(join(room, fan.user_id, None))
        # The grant travels on in the message, unchanged.
        assert json.loads(str(node.hear()))["grant"] == grant


# --- before the join --------------------------------------------------------------------------------


def test_ping_is_answered_before_a_join_and_nothing_else_is_done(live: LiveWeb) -> None:
    with live.socket(PATH) as client:
        client.send('{"type":"PING"}')
        assert said(client) == {"type": "PONG"}
        leave, unknown = '{"type":"LEAVE_ROOM"}', '{"type":"NONSENSE"}'
        for message in (leave, unknown, "{", "[" * 5_000, b"\x00\x01", '"\\ud800"'):
            client.send(message)
            assert said(client)["code"] == "BAD_MESSAGE"
        client.send('{"type":"PING"}')
        assert said(client) == {"type": "PONG"}


def test_a_socket_that_never_joins_is_closed(live: LiveWeb) -> None:
    with live.socket(PATH) as client:
        message = json.loads(client.recv(timeout=PATIENCE))
        assert message["code"] == "BAD_MESSAGE"
        assert close_code(client) == 1008


@pytest.mark.parametrize("kind", ["forged", "expired", "future", "mangled", "none", "room", "user", "huge"])
def test_a_grant_that_is_not_for_this_is_forbidden(
    live: LiveWeb, settings: Settings, room: str, fan: Someone, node: FakeNode, people: People, kind: str
) -> None:
    good, other = grant_for(settings, room, fan.user_id), people.fan()
    payload = base64.urlsafe_b64encode(b'{"roomId":"x"}').decode()
    offered = {
        "forged": grant_for(settings, room, fan.user_id, key=b"another key"),
        "expired": grant_for(settings, room, fan.user_id, age=61),
        "future": grant_for(settings, room, fan.user_id, age=-3600),
        "mangled": f"{payload}.{good.split('.')[1]}",
        "none": None,
        "room": grant_for(settings, "live-other", fan.user_id),
        "user": grant_for(settings, room, other.user_id),
        "huge": "g" * 5_000,
    }[kind]
    with live.socket(PATH) as client:
        client.send(join(room, fan.user_id, offered))
        assert refusal(client) == ("FORBIDDEN", 1008)
    assert node.connections.empty()


def test_a_room_that_is_closed_is_not_found(live: LiveWeb, settings: Settings, room: str, fan: Someone) -> None:
    with live.socket(PATH) as client:
        client.send(join("live-gone", fan.user_id, grant_for(settings, "live-gone", fan.user_id)))
        assert refusal(client) == ("ROOM_NOT_FOUND", 1008)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_a_page_of_another_origin_gets_no_socket(live: LiveWeb, origin: str | None) -> None:
    for path in (PATH, "/api/events"):
        with pytest.raises(InvalidStatus) as refused:
            live.socket(path, origin=origin)
        assert refused.value.response.status_code == 403
        assert b"ORIGIN_REFUSED" in (refused.value.response.body or b"")


def test_a_listed_origin_gets_one(live: LiveWeb) -> None:
    with live.socket(PATH, origin="https://partner.example") as client:
        client.send('{"type":"PING"}')
        assert said(client) == {"type": "PONG"}


# --- too much ---------------------------------------------------------------------------------------


def flood(client: ClientConnection, messages: int, text: str = '{"type":"PING"}') -> None:
    """Send until it is over, or so many."""
    try:
        for _ in range(messages):
            client.send(text)
    except ConnectionClosed:
        return


def last_error(client: ClientConnection) -> tuple[str | None, int | None]:
    """The code of the last ERROR before the close, and the close code."""
    code = None
    try:
        while True:
            message = json.loads(client.recv(timeout=PATIENCE))
            code = message["code"] if message["type"] == "ERROR" else code
    except ConnectionClosed:
        return code, client.close_code


def test_a_flood_before_the_join_is_ended(live: LiveWeb) -> None:
    with live.socket(PATH) as client:
        flood(client, 2_000)
        assert last_error(client) == ("RATE_LIMITED", 1008)


def test_a_flood_after_the_join_is_ended_on_both_sides(joined: ClientConnection, node: FakeNode) -> None:
    flood(joined, 5_000)

    assert last_error(joined) == ("RATE_LIMITED", 1008)
    heard = [node.hear()]
    while isinstance(heard[-1], str):
        heard.append(node.hear())
    # The burst, and what the bucket regained meanwhile; never the flood.
    assert len(heard) < 1_000


def test_a_frame_over_64_kib_closes_the_socket(live: LiveWeb) -> None:
    for size in (MAX_FRAME_BYTES + 1, 10_000_000):
        with live.socket(PATH) as client:
            flood(client, 1, "x" * size)
            assert close_code(client) in (1009, 1006)


def test_a_message_in_many_frames_counts_as_a_whole(live: LiveWeb) -> None:
    with live.socket(PATH) as client:
        with contextlib.suppress(ConnectionClosed):
            client.send("x" * 1_000 for _ in range(100))
        assert close_code(client) in (1009, 1006)


def test_bytes_that_are_no_websocket_close_the_socket(live: LiveWeb) -> None:
    with live.socket(PATH) as client:
        client.socket.sendall(os.urandom(4_096))
        assert close_code(client) is not None


def test_a_node_that_takes_nothing_slows_the_browser_and_fills_no_memory(
    joined: ClientConnection, node: FakeNode
) -> None:
    # The node reads one frame more, then stops; frames are large, so that sockets' buffers fill.
    node.reading.clear()
    joined.socket.settimeout(1.0)
    sent = 0
    try:
        for _ in range(60):
            joined.send("x" * 60_000)
            sent += 1
    except (TimeoutError, ConnectionClosed):
        pass
    node.reading.set()

    heard = 0
    while heard < sent and isinstance(node.hear(), str):
        heard += 1
    assert heard >= 1


def test_connects_are_limited_for_each_address(live: LiveWeb) -> None:
    def connect_often() -> None:
        # Twice the limit: a window may end in between on a slow machine.
        for _ in range(241):
            with live.socket(PATH):
                pass

    with pytest.raises(InvalidStatus) as refused:
        connect_often()
    assert refused.value.response.status_code == 429
    assert "Retry-After" in refused.value.response.headers
    live.move()
    with live.socket(PATH) as client:
        client.send('{"type":"PING"}')
        assert said(client) == {"type": "PONG"}
