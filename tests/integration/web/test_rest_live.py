"""REST as deployed: bodies that are too large, connections that arrive together."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from live_web import PATIENCE, LiveWeb, environment_for
from web_people import People, Someone

from models import ledger
from models.audit import audit
from models.db import Database

ASK = "/api/streaming/private-request"
TOGETHER = 50
CREATORS = 10
COST = 500
MOST_OPEN = 3


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


@pytest.mark.parametrize(("tokens", "winners"), [(COST * 2 + COST - 1, 2), (COST * 20, MOST_OPEN)])
def test_of_fifty_requests_at_once_as_many_win_as_the_balance_pays_for(
    database_url: str, password_hash: str, tokens: int, winners: int
) -> None:
    # Given a fan, ten creators on the air, and fifty requests of which one byte is missing
    database = Database(database_url)
    people = People(database, password_hash)
    fan = people.fan(tokens=tokens)
    creators = [people.creator() for _ in range(CREATORS)]
    with LiveWeb(environment_for(database_url)) as web, ExitStack() as stack:
        bodies = [body_for(people, creator) for creator in creators] * (TOGETHER // CREATORS)
        connections = []
        for number, body in enumerate(bodies):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), PATIENCE))
            connection.sendall(head_for(fan, number, len(body)) + body[:-1])
            connections.append(connection)
        # When that byte comes to all of them
        for connection, body in zip(connections, bodies, strict=True):
            connection.sendall(body[-1:])
        answers = Counter(map(answer_of, connections))

    # Then as many are held as are paid for, and the others hear why not
    assert answers.pop((201, "")) == winners
    assert set(answers) <= {(402, "INSUFFICIENT_TOKENS"), (409, "REQUEST_PENDING"), (409, "TOO_MANY_REQUESTS")}
    with database.reading() as tx:
        balances = ledger.balances(tx, fan.user_id)
        assert (balances["held"], balances["wallet"]) == (winners * COST, tokens - winners * COST)
        assert audit(tx).problems == ()
    database.close()


def body_for(people: People, creator: Someone) -> bytes:
    stream = people.live(creator)
    return json.dumps({"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 5}).encode()


def head_for(fan: Someone, number: int, length: int) -> bytes:
    sent = fan.headers(content_type="application/json", idempotency_key=f"key-{number}")
    lines = [f"POST {ASK} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in sent.items())]).encode() + b"\r\n\r\n"


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """Status and code."""
    with connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read()).get("code", "")
