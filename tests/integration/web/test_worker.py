"""Clients that do not finish what they began: they get their time, and then their thread is somebody else's."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live_web import PATIENCE, LiveWeb, environment_for

THREADS = 8
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
BODY = (
    b"POST /api/auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{"
)
TOO_LARGE = BODY.replace(b"Length: 100", b"Length: 10000000")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hasty") / "log"


@pytest.fixture(scope="module")
def web(sqlite_template: Path, log: Path) -> Iterator[LiveWeb]:
    """Few threads, little patience."""
    worker = "tests.integration.web.hasty_worker.HastyWorker"
    with (
        log.open("wb") as file,
        LiveWeb(environment_for(f"sqlite:///{sqlite_template}"), worker=worker, threads=THREADS, log=file) as live,
    ):
        yield live


def connect(web: LiveWeb) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), PATIENCE)


@pytest.mark.parametrize("begun", [HEAD, BODY, TOO_LARGE], ids=["head", "body", "refused body"])
def test_half_a_request_on_every_thread_does_not_stop_the_service(web: LiveWeb, begun: bytes) -> None:
    # Given twice as many clients as threads, none of whom finishes
    with ExitStack() as clients:
        for _ in range(2 * THREADS):
            clients.enter_context(connect(web)).sendall(begun)
        # When somebody else asks, then they are answered
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def test_clients_that_do_not_hang_up_do_not_hold_up_the_others(web: LiveWeb) -> None:
    # Given answered clients who were told that the connection closes, and keep it open
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(web)) for _ in range(2 * THREADS)]
        for client in clients:
            client.sendall(HEAD + b"Connection: close\r\n\r\n")
        for client in clients:
            assert b" 200 " in client.recv(4096)
        # When somebody else asks, then they are answered
        with connect(web) as other:
            other.sendall(HEAD + b"\r\n")
            assert b" 200 " in other.recv(4096)


def test_a_request_that_comes_in_drops_is_ended_in_time(web: LiveWeb) -> None:
    with connect(web) as client:
        client.settimeout(0.2)
        client.sendall(HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            for number in range(int(PATIENCE / 0.2)):
                client.sendall(f"X-Drop-{number}: x\r\n".encode())
                try:
                    if client.recv(100) == b"":
                        raise ConnectionResetError
                except TimeoutError:
                    continue


def test_a_slow_body_within_the_time_is_read(web: LiveWeb) -> None:
    with connect(web) as client:
        client.sendall(BODY)
        client.sendall(b" " * 98)
        client.sendall(b"}")
        assert b" 422 " in client.recv(100)


def test_what_is_no_http_leaves_neither_address_nor_words_in_the_log(web: LiveWeb, log: Path) -> None:
    for sent in (
        b"\x16\x03\x01\x02hello-from-a-scanner\r\n\r\n",
        HEAD + b"Authorization : Bearer a-secret\r\n\r\n",
    ):
        with connect(web) as client:
            client.sendall(sent)
            assert b" 400 " in client.recv(100)
    said = log.read_text()
    assert "Traceback" not in said
    assert not [word for word in ("127.0.0.1", "scanner", "secret") if word in said]
