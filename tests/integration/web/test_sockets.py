"""The server's end of a WebSocket against peers that talk too much, listen too little, or just vanish."""

from __future__ import annotations

import base64
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import pytest
from flask import Flask
from flask.blueprints import Blueprint
from live_web import PATIENCE, close_code
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.sync.client import ClientConnection, connect
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from models.messages.signaling import MAX_FRAME_BYTES
from web import sockets
from web.sockets import MOST_UNREAD, BoundedServer, Closed

# Whatever one read of the library may hold: the smallest frame of a client has six bytes.
MOST_IN_ONE_READ = 4096 // 6


class Silent(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


class Meeting:
    """One app with one socket; each connection's server end is handed to the test and ends with it."""

    def __init__(self) -> None:
        self.app = Flask(__name__)
        self.met: queue.Queue[BoundedServer] = queue.Queue()
        self.over = threading.Event()
        self.talk: Callable[[BoundedServer], None] = self._hand_over
        blueprint = Blueprint("meeting", __name__)
        sockets.route(blueprint, "/meet")(lambda ws: self.talk(ws))
        self.app.register_blueprint(blueprint)
        sockets.init_app(self.app)
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, self.app, threaded=True, request_handler=Silent
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.port: int = self._server.server_port

    def _hand_over(self, ws: BoundedServer) -> None:
        self.met.put(ws)
        self.over.wait(60)

    def connect(self, **options: Any) -> ClientConnection:
        """A client that behaves."""
        options = {"compression": None, "proxy": None, "close_timeout": 10} | options
        return connect(f"ws://127.0.0.1:{self.port}/meet", **options)

    def raw(self, receive_buffer: int | None = None) -> socket.socket:
        """A client that has shaken hands and does nothing by itself: reads nothing, answers no ping."""
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", self.port))
        key = base64.b64encode(b"k" * 16).decode()
        lines = ["GET /meet HTTP/1.1", "Host: here", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")
        return sock

    def ours(self) -> BoundedServer:
        """The server's end of the connection that was made last."""
        return self.met.get(timeout=PATIENCE)

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    opened = Meeting()
    yield opened
    opened.close()


@pytest.fixture
def pinging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meeting]:
    """The same, in more of a hurry to hear whether its peers live."""
    monkeypatch.setattr(sockets, "PING_SECONDS", 0.5)
    opened = Meeting()
    yield opened
    opened.close()


def masked(text: bytes) -> bytes:
    """A short text frame of a client (RFC 6455 section 5.2), masked with zeros."""
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


def fill(sock: socket.socket, data: bytes) -> int:
    """Send ``data`` again and again until TCP holds it back; how many were sent whole."""
    sock.settimeout(1.0)
    sent = 0
    try:
        while sent * len(data) < 200_000_000:
            sock.sendall(data)
            sent += 1
    except TimeoutError:
        return sent
    raise AssertionError("nothing holds the sender back")


def test_flask_sock_serves_with_our_class(meeting: Meeting) -> None:
    # An upgrade of flask-sock that looks the class up elsewhere would silently undo all that follows.
    with meeting.connect():
        assert type(meeting.ours()) is BoundedServer


def test_compression_is_not_negotiated(meeting: Meeting) -> None:
    with meeting.connect(compression="deflate") as client:
        assert not any(isinstance(used, PerMessageDeflate) for used in client.protocol.extensions)


def test_a_flood_that_nobody_reads_stays_with_its_sender(meeting: Meeting) -> None:
    with meeting.raw() as client:
        ours = meeting.ours()
        sent = fill(client, masked(b"small") * 1_000)

        assert MOST_UNREAD < len(ours.input_buffer) <= MOST_UNREAD + MOST_IN_ONE_READ
        # And nothing is lost: reading goes on where it stopped.
        assert [ours.receive(PATIENCE) for _ in range(sent * 1_000)] == ["small"] * (sent * 1_000)


def test_a_message_without_end_is_not_kept(meeting: Meeting) -> None:
    with meeting.raw() as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(meeting.ours().receive)
        client.sendall(bytes([0x81, 0xFF]) + (1 << 40).to_bytes(8, "big") + bytes(4))
        client.sendall(b"x" * (2 * MAX_FRAME_BYTES))

        assert isinstance(waiting.exception(PATIENCE), Closed)


def test_messages_of_many_threads_do_not_mix(meeting: Meeting, often: None) -> None:
    with meeting.connect() as client, ThreadPoolExecutor() as pool:
        ours = meeting.ours()
        writing = [pool.submit(lambda: [ours.send("x") for _ in range(1_000)]) for _ in range(8)]

        assert [client.recv(PATIENCE) for _ in range(8_000)] == ["x"] * 8_000
        assert all(written.exception(PATIENCE) is None for written in writing)


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_messages_and_pongs_arrive_whole_at_a_slow_reader(meeting: Meeting) -> None:
    with meeting.connect(max_queue=1) as client, ThreadPoolExecutor() as pool:
        ours = meeting.ours()
        ours.sock._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        texts = [letter * 50_000 for letter in "abcdefgh"]
        writing = [pool.submit(lambda text: [ours.send(text) for _ in range(20)], text) for text in texts]
        # Pongs are written by the reader's thread, in between.
        pongs = [client.ping() for _ in range(50)]
        heard = [str(client.recv(PATIENCE)) for _ in range(20 * len(texts))]

        assert all(written.exception(PATIENCE) is None for written in writing)
        assert sorted(heard) == sorted(texts * 20)
        assert all(pong.wait(PATIENCE) for pong in pongs)


def test_what_the_library_writes_past_us_is_whole_too(meeting: Meeting) -> None:
    # Its pings go straight to the socket.
    with meeting.raw(receive_buffer=4_096) as client, ThreadPoolExecutor() as pool:
        wire = meeting.ours().sock
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        writing = [pool.submit(wire.send, letter * 500_000) for letter in (b"a", b"b", b"c")]
        heard = b""
        while len(heard) < 1_500_000:
            heard += client.recv(65_536)

        assert all(written.result(PATIENCE) == 500_000 for written in writing)
        assert len([letter for letter, _ in groupby(heard)]) == 3


def test_a_peer_that_takes_nothing_is_gone(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SEND_TIMEOUT_SECONDS", 1)
    with meeting.raw():
        ours = meeting.ours()

        with pytest.raises(Closed) as closed:
            ours.send("x" * 50_000_000)
        assert closed.value.reason == sockets.ABNORMAL
        with pytest.raises(Closed):
            ours.receive(PATIENCE)


def test_a_peer_that_answers_no_ping_is_gone(pinging: Meeting) -> None:
    with pinging.raw(), pytest.raises(Closed):
        pinging.ours().receive(PATIENCE)


def test_a_peer_that_answers_pings_stays(pinging: Meeting) -> None:
    with pinging.connect() as client:
        ours = pinging.ours()

        assert ours.receive(timeout=1.6) is None
        ours.send("still here")
        assert client.recv(PATIENCE) == "still here"


def test_a_pong_behind_unread_messages_is_not_missed(pinging: Meeting) -> None:
    with pinging.connect() as client:
        ours = pinging.ours()
        for _ in range(100):
            client.send("x" * 4_000)

        for number in range(100):
            # Over several pings, then quickly.
            threading.Event().wait(0.15 if number < 15 else 0)
            assert ours.receive(PATIENCE) == "x" * 4_000


def cut_short(ws: BoundedServer) -> None:
    """Return at once: the WSGI server closes the socket over whatever is unread by then."""
    while len(ws.input_buffer) <= MOST_UNREAD:
        assert ws.connected
    ws.send("x" * 300_000)
    ws.send("last")
    ws.close(4001)


def test_the_last_message_and_the_code_arrive_though_input_is_unread(meeting: Meeting) -> None:
    meeting.talk = cut_short
    with meeting.connect() as client, ThreadPoolExecutor() as pool:
        filling = pool.submit(send_until_over, client)

        assert client.recv(PATIENCE) == "x" * 300_000
        assert client.recv(PATIENCE) == "last"
        assert close_code(client) == 4001
        assert filling.exception(PATIENCE) is None


def test_they_arrive_at_a_peer_that_reads_slowly_too(meeting: Meeting) -> None:
    meeting.talk = cut_short
    # Most of it is still on our side when the talk returns, and would be lost if the connection were reset.
    with meeting.raw(receive_buffer=4_096) as client:
        client.sendall(masked(b"unread") * 10_000)
        heard = b""
        while more := client.recv(1_024):
            heard += more

    assert heard.endswith(b"\x81\x04last" + b"\x88\x02" + (4001).to_bytes(2, "big"))


def send_until_over(client: ClientConnection) -> None:
    try:
        while True:
            client.send("x" * 10_000)
    except ConnectionClosed:
        return


def test_a_peer_that_does_not_answer_the_close_is_not_waited_or_kept_for(meeting: Meeting) -> None:
    with meeting.raw() as client:
        ours = meeting.ours()
        fill(client, masked(b"small") * 1_000)
        ours.close()

        assert not ours.thread.is_alive()
        assert len(ours.input_buffer) <= MOST_UNREAD + MOST_IN_ONE_READ
        with pytest.raises(Closed):
            ours.send("late")


def test_a_close_wakes_the_thread_that_receives(meeting: Meeting) -> None:
    with meeting.raw(), ThreadPoolExecutor() as pool:
        ours = meeting.ours()
        waiting = pool.submit(ours.receive)
        ours.close()

        assert isinstance(waiting.exception(PATIENCE), Closed)


def test_the_code_of_the_other_side_is_heard(meeting: Meeting) -> None:
    with meeting.connect() as client:
        client.close(4321)

        with pytest.raises(Closed) as closed:
            meeting.ours().receive(PATIENCE)
        assert closed.value.reason == 4321


@pytest.mark.parametrize("text", ["x" * (MAX_FRAME_BYTES + 1), "\u2603" * (MAX_FRAME_BYTES // 3 + 1)])
def test_a_message_is_too_big_by_its_bytes_and_whoever_waits_hears_of_it(meeting: Meeting, text: str) -> None:
    with meeting.connect() as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(meeting.ours().receive)
        client.send(text)

        assert close_code(client) == 1009
        assert isinstance(waiting.exception(PATIENCE), Closed)


def test_the_largest_message_passes(meeting: Meeting) -> None:
    with meeting.connect() as client:
        client.send("x" * MAX_FRAME_BYTES)

        assert meeting.ours().receive(PATIENCE) == "x" * MAX_FRAME_BYTES


def test_a_talk_that_fails_closes_with_1011(meeting: Meeting) -> None:
    def fail(_ws: BoundedServer) -> None:
        raise ZeroDivisionError

    meeting.talk = fail
    with meeting.connect() as client:
        assert close_code(client) == 1011


def test_a_bad_handshake_is_a_bad_request(meeting: Meeting) -> None:
    with socket.create_connection(("127.0.0.1", meeting.port), PATIENCE) as client:
        client.sendall(
            b"GET /meet HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 8\r\n\r\n"
        )
        assert client.recv(12) == b"HTTP/1.1 400"
