"""REST as deployed: bodies that are too large, connections that arrive together."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest
from live_web import PATIENCE, LiveWeb
from web_people import People

from models import ledger
from models.audit import audit

ASK = "/api/streaming/private-request"
TOGETHER = 50


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_ten_megabytes_get_their_answer(live: LiveWeb, live_people: People, chunked: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 10_000

    headers = live_people.fan().headers(content_type="application/json", idempotency_key="k")
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=PATIENCE)
    try:
        connection.request("POST", ASK, body=pieces() if chunked else b"x" * 10_000_000, headers=headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (413, "BODY_TOO_LARGE")
    finally:
        connection.close()


@pytest.mark.parametrize("chunk", [b"ZZ\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"5\r\n{}\r\n0\r\n\r\n"])
@pytest.mark.parametrize("path", [ASK, "/login"], ids=["api", "page"])
def test_a_body_in_chunks_that_are_none_is_a_bad_request(
    live: LiveWeb, live_people: People, path: str, chunk: bytes
) -> None:
    kind = "application/json" if path == ASK else "application/x-www-form-urlencoded"
    sent = live_people.fan().headers(content_type=kind, idempotency_key="k", transfer_encoding="chunked")
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += [f"{name}: {value}" for name, value in sent.items()]
    connection = socket.create_connection(("127.0.0.1", live.port), PATIENCE)
    with connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + chunk)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 400


def test_fifty_requests_whose_last_bytes_arrive_together_hold_once(live: LiveWeb, live_people: People) -> None:
    creator, fan = live_people.creator(), live_people.fan(tokens=900)
    stream = live_people.live(creator)
    body = json.dumps({"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 5}).encode()
    connections = []
    for number in range(TOGETHER):
        connection = socket.create_connection(("127.0.0.1", live.port), PATIENCE)
        head = [f"POST {ASK} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
        sent = fan.headers(content_type="application/json", idempotency_key=f"key-{number}")
        head += [f"{name}: {value}" for name, value in sent.items()]
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body[:-1])
        connections.append(connection)

    for connection in connections:
        connection.sendall(body[-1:])
    answers = [answer_of(connection) for connection in connections]

    assert answers.count((201, "")) == 1
    assert {answer for answer in answers if answer[0] != 201} == {(409, "REQUEST_PENDING")}
    with live_people.database.reading() as tx:
        assert ledger.balances(tx, fan.user_id)["held"] == 500
        assert ledger.balances(tx, fan.user_id)["wallet"] == 400
        assert audit(tx).problems == ()


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """Status and code."""
    with connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read()).get("code", "")
