"""The live feed as deployed, with a real broker: who hears what, and what they are told after a gap."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from live_web import PATIENCE, LiveWeb, close_code
from sqlalchemy import select
from web_people import People, Someone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from models.clock import utc_now
from models.messages.routing import FEED_EXCHANGE, feed_key
from models.plumbing import FeedConnectionRow
from models.services import accounts, presence
from ops.rabbitmq import RabbitNode

PATH = "/api/events"
Publish = Callable[[str | None, dict[str, Any]], None]


@contextmanager
def publishing(amqp_url: str) -> Iterator[Publish]:
    """Say things as the relay does."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.exchange_declare(FEED_EXCHANGE, exchange_type="topic", durable=True)
    yield lambda user_id, message: channel.basic_publish(
        FEED_EXCHANGE, feed_key(user_id), json.dumps(message).encode()
    )
    connection.close()


@pytest.fixture
def publish(live_environment: dict[str, str]) -> Iterator[Publish]:
    with publishing(live_environment["AMQP_URL"]) as say:
        yield say


@pytest.fixture
def fan(live_people: People) -> Someone:
    return live_people.fan()


def heard(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.recv(timeout=PATIENCE))
    return message


def listening(client: ClientConnection, publish: Publish, user_id: str) -> None:
    """Wait until what is published arrives: the hub connects with the first socket."""
    assert heard(client)["type"] == "RESYNC"
    for _ in range(int(PATIENCE / 0.1)):
        publish(user_id, {"type": "HELLO"})
        try:
            while json.loads(client.recv(timeout=0.1))["type"] != "HELLO":
                pass
        except TimeoutError:
            continue
        publish(user_id, {"type": "LAST"})
        while heard(client)["type"] != "LAST":
            pass
        return
    raise AssertionError("nothing arrives")


def test_a_socket_begins_with_resync_and_hears_its_person_alone(
    live: LiveWeb, live_people: People, fan: Someone, publish: Publish
) -> None:
    other = live_people.fan()
    with live.socket(PATH, bearer=fan.token) as mine, live.socket(PATH, bearer=other.token) as theirs:
        listening(mine, publish, fan.user_id)
        listening(theirs, publish, other.user_id)
        publish(fan.user_id, {"type": "BALANCE_CHANGED", "available": 1})
        publish(None, {"type": "STREAM_STARTED"})

        assert heard(mine) == {"type": "BALANCE_CHANGED", "available": 1}
        assert heard(mine) == {"type": "STREAM_STARTED"}
        assert heard(theirs) == {"type": "STREAM_STARTED"}


def test_two_tabs_hear_the_same(live: LiveWeb, fan: Someone, publish: Publish) -> None:
    with live.socket(PATH, bearer=fan.token) as first, live.socket(PATH, bearer=fan.token) as second:
        listening(first, publish, fan.user_id)
        listening(second, publish, fan.user_id)
        publish(fan.user_id, {"type": "TIP"})

        for client in (first, second):
            while heard(client)["type"] != "TIP":
                pass


def test_a_browser_is_known_by_its_cookie(live: LiveWeb, live_people: People, fan: Someone) -> None:
    opened = live_people.database.run(
        lambda tx: accounts.open_sign_in(tx, fan.user_id, kind="browser", now=utc_now())
    )
    with live.socket(PATH, headers={"Cookie": f"greenroom={opened.token}"}) as client:
        assert heard(client)["type"] == "RESYNC"


@pytest.mark.parametrize("bearer", [None, "nonsense"])
def test_nobody_gets_no_feed(live: LiveWeb, bearer: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        live.socket(PATH, bearer=bearer)

    assert refused.value.response.status_code == 401


def test_an_integrator_gets_no_feed(live: LiveWeb, live_people: People) -> None:
    token = live_people.integrator("rtc:terminate")["Authorization"].removeprefix("Bearer ")
    with pytest.raises(InvalidStatus) as refused:
        live.socket(PATH, bearer=token)

    assert refused.value.response.status_code == 401


def test_presence_is_written_and_taken_back(live: LiveWeb, live_people: People, fan: Someone) -> None:
    def rows() -> list[FeedConnectionRow]:
        with live_people.database.reading() as tx:
            return list(tx.scalars(select(FeedConnectionRow).where(FeedConnectionRow.user_id == fan.user_id)))

    with live.socket(PATH, bearer=fan.token) as client:
        # RESYNC is sent when the row has been committed.
        heard(client)
        with live_people.database.reading() as tx:
            assert presence.feed_present(tx, fan.user_id, utc_now(), 0)
    for _ in range(100):
        if rows()[0].lost_at is not None:
            break
        with live.socket("/api/rtc/signaling"):
            pass
    assert [row.lost_at is None for row in rows()] == [False]


def test_signing_out_everywhere_closes_the_feeds(live: LiveWeb, live_people: People, fan: Someone) -> None:
    with live.socket(PATH, bearer=fan.token) as client:
        heard(client)
        address = f"http://127.0.0.1:{live.port}/api/auth/sign-out-everywhere"
        request = urllib.request.Request(address, method="POST", headers=fan.headers())
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert answer.status == 200
        assert close_code(client) == 1008


def test_a_client_that_floods_its_feed_is_closed(live: LiveWeb, fan: Someone) -> None:
    with live.socket(PATH, bearer=fan.token) as client:
        heard(client)
        with suppress(ConnectionClosed):
            for _ in range(2_000):
                client.send("x")
        assert close_code(client) == 1008


def test_a_slow_reader_is_closed_rather_than_kept_for(live: LiveWeb, fan: Someone, publish: Publish) -> None:
    with live.socket(PATH, bearer=fan.token, max_queue=1) as client:
        listening(client, publish, fan.user_id)
        # More than sockets' buffers hold, and more messages than wait for one socket; nobody reads meanwhile.
        before = overflows(live)
        for _ in range(400):
            publish(fan.user_id, {"type": "CHAT", "text": "x" * 60_000})
        while overflows(live) == before:
            publish(fan.user_id, {"type": "CHAT", "text": "x" * 60_000})
        assert close_code(client) in (1013, 1006)


def overflows(live: LiveWeb) -> str:
    """How many feeds have overflowed, as the app counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{live.port}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return next(line for line in lines if line.startswith("greenroom_feed_overflows_total"))


def test_after_the_broker_was_away_everybody_is_told_to_look_again(
    live: LiveWeb, fan: Someone, rabbit: RabbitNode, live_environment: dict[str, str]
) -> None:
    with live.socket(PATH, bearer=fan.token) as client:
        with publishing(live_environment["AMQP_URL"]) as publish:
            listening(client, publish, fan.user_id)
        # A virtual host that is deleted takes its connections and queues with it, as a crash does.
        forget_virtual_host(rabbit)
        rabbit.virtual_host("live-web")

        assert heard(client)["type"] == "RESYNC"
        with publishing(live_environment["AMQP_URL"]) as publish:
            publish(fan.user_id, {"type": "TIP"})
            assert heard(client)["type"] == "TIP"


def forget_virtual_host(rabbit: RabbitNode) -> None:
    """Delete the virtual host of the deployed app."""
    parts = urlsplit(rabbit.url)
    request = urllib.request.Request(
        f"http://127.0.0.1:{(parts.port or 0) + 1000}/api/vhosts/live-web",
        method="DELETE",
        headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.status == 204
