"""When a media node is taken for lost, and what is done about it: time and answers are given."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import pytest

from models.messages.health import Health
from workers import node_watch
from workers.node_watch import LONGEST_ANSWER, Answer, Suspicion, probe


def lost_after(*answers: tuple[Answer, float]) -> list[bool]:
    suspicion = Suspicion()
    return [suspicion.heard(answer, at) for answer, at in answers]


def test_three_refusals_in_a_row_are_a_death() -> None:
    assert lost_after(("refused", 0.0), ("refused", 0.3), ("refused", 0.6)) == [False, False, True]


@pytest.mark.parametrize("between", ["here", "silent"])
def test_refusals_with_something_else_between_are_none(between: Answer) -> None:
    assert lost_after(("refused", 0), ("refused", 0.3), (between, 0.6), ("refused", 0.9))[-1] is False


def test_silence_has_to_last() -> None:
    seconds = [n * 1.5 for n in range(6)]
    assert lost_after(*(("silent", at) for at in seconds)) == [False, False, False, False, True, True]


def test_a_few_questions_that_took_long_are_not_enough() -> None:
    """A clock that stood still itself has asked nobody meanwhile."""
    assert lost_after(("silent", 0), ("silent", 30), ("silent", 60)) == [False, False, False]


def test_one_answer_ends_all_suspicion() -> None:
    seconds = [n * 1.5 for n in range(4)]
    assert not any(lost_after(*(("silent", at) for at in seconds), ("here", 6.5), ("silent", 8.0)))


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(60)
        served = pool.submit(serve, server)
        yield f"ws://127.0.0.1:{server.getsockname()[1]}/signaling"
        served.result()


def answering(words: bytes) -> Callable[[socket.socket], None]:
    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            assert client.recv(1024).startswith(b"GET /healthz ")
            client.sendall(words)

    return serve


def said(node_id: str, boot_id: str = "boot_1", status: str = "200 OK") -> bytes:
    body = msgspec.json.encode(Health(node_id=node_id, boot_id=boot_id))
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (said("media-1"), "here"),
        (said("media-1", boot_id="boot_2"), "here"),
        # its process is gone: another node has its address
        (said("media-2"), "refused"),
        # and who says nothing of the kind is nobody
        (said("media-1", status="503 Full"), "silent"),
        (b"HTTP/1.1 200 OK\r\n\r\nok\n", "silent"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"status": "ok"}', "silent"),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe", "silent"),
        (said("media-1") + b" " * LONGEST_ANSWER, "silent"),
    ],
)
def test_only_the_node_itself_is_there(monkeypatch: pytest.MonkeyPatch, words: bytes, answer: Answer) -> None:
    monkeypatch.setattr(node_watch, "PROBE_SECONDS", 60.0)
    with listener(answering(words)) as url:
        assert probe(url, "media-1") == answer


def test_a_port_that_nobody_listens_on_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/signaling"
    assert probe(url, "media-1") == "refused"


def test_one_that_takes_the_connection_and_says_nothing_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_watch, "PROBE_SECONDS", 0.05)
    asked = threading.Event()

    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            asked.wait(120)

    with listener(serve) as url:
        assert probe(url, "media-1") == "silent"
        asked.set()


def test_an_address_without_sense_is_silent() -> None:
    assert probe("ws:///signaling", "media-1") in ("silent", "refused")
