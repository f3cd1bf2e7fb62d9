"""Grants and the cut, with a real broker and a node at its other end that says what the test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pika
import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from web_people import NODE, People, Someone, code_of

from models import grants
from models.clock import utc_now
from models.config import Settings
from models.messages import codec
from models.messages.commands import AnyCommand, Reply
from models.messages.routing import COMMANDS_EXCHANGE
from models.plumbing import OutboxRow
from models.services import departures

CUT = "/api/rtc/terminate-stream"
GRANTS = "/api/rtc/grants"


class Node:
    """A media node as the broker sees it: takes commands, answers as told."""

    def __init__(self, amqp_url: str) -> None:
        self.commands: list[AnyCommand] = []
        self.reply = Reply(ok=True)
        self._connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        channel = self._connection.channel()
        channel.exchange_declare(COMMANDS_EXCHANGE, exchange_type="direct", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, COMMANDS_EXCHANGE, NODE)
        channel.basic_consume(queue, self._on_command, auto_ack=True)
        self._thread = threading.Thread(target=channel.start_consuming, daemon=True)
        self._thread.start()
        self._channel = channel

    def _on_command(self, channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        self.commands.append(codec.decode_command(body))
        channel.basic_publish(
            "",
            properties.reply_to,
            msgspec.json.encode(self.reply),
            pika.BasicProperties(correlation_id=properties.correlation_id),
        )

    def close(self) -> None:
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join(60)
        self._connection.close()


@pytest.fixture
def environment(environment: dict[str, str], amqp_url: str) -> dict[str, str]:
    return environment | {"AMQP_URL": amqp_url}


@pytest.fixture
def node(amqp_url: str) -> Iterator[Node]:
    opened = Node(amqp_url)
    yield opened
    opened.close()


@pytest.fixture
def room(people: People) -> str:
    return people.live(people.creator()).room_id


def cut(room: str, someone: Someone, reason: str = "MODERATION", **more: Any) -> dict[str, Any]:
    return {"roomId": room, "userId": someone.user_id, "reason": reason} | more


def written(people: People, room: str) -> list[AnyCommand]:
    """The cuts in the outbox."""
    with people.database.reading() as tx:
        rows = tx.scalars(select(OutboxRow).where(OutboxRow.kind == "command").order_by(OutboxRow.seq)).all()
    found = [codec.decode_command(row.body) for row in rows]
    return [command for command in found if getattr(command, "user_id", None) is not None]


# --- grants -----------------------------------------------------------------------------------------


def test_a_viewer_gets_a_seat_to_watch_and_the_creator_one_to_publish(
    client: FlaskClient, people: People, settings: Settings
) -> None:
    creator, fan = people.creator(), people.fan()
    room = people.live(creator).room_id
    asked = {"roomId": room, "role": "participant"}

    given = client.post(GRANTS, json=asked, headers=fan.headers())
    assert given.status_code == 200, given.json
    assert given.json["userId"] == fan.user_id
    assert given.json["signalingUrl"] == "ws://localhost:8080/api/rtc/signaling"
    assert given.json["iceServers"] == []
    grant = grants.verify(given.json["grant"], settings.key("grants"), utc_now().timestamp())
    assert (grant.room_id, grant.user_id, grant.role, grant.publish) == (room, fan.user_id, "participant", False)
    assert 59 < grant.expires_at - utc_now().timestamp() <= 60
    own = client.post(GRANTS, json=asked, headers=creator.headers()).json["grant"]
    assert grants.verify(own, settings.key("grants"), utc_now().timestamp()).publish
    again = client.post(GRANTS, json=asked, headers=fan.headers()).json["grant"]
    assert grants.verify(again, settings.key("grants"), utc_now().timestamp()).jti != grant.jti


def test_a_grant_is_refused_for_other_peoples_rooms_and_in_other_peoples_names(
    client: FlaskClient, people: People, room: str
) -> None:
    fan, other = people.fan(), people.fan()

    in_anothers_name = {"roomId": room, "role": "participant", "userId": other.user_id}
    assert code_of(client.post(GRANTS, json=in_anothers_name, headers=fan.headers())) == (403, "FORBIDDEN")
    for missing in ("live-str_none", "private-ses_none", "../etc"):
        asked = {"roomId": missing, "role": "participant"}
        assert code_of(client.post(GRANTS, json=asked, headers=fan.headers())) == (404, "ROOM_NOT_FOUND")
    asked = {"roomId": room, "role": "participant", "userId": other.user_id}
    assert code_of(client.post(GRANTS, json=asked, headers=people.integrator("rooms:write")))[0] == 404
    assert code_of(client.post(GRANTS, json=asked, headers=people.integrator("rtc:terminate")))[0] == 403
    assert code_of(client.post(GRANTS, json=asked)) == (401, "UNAUTHENTICATED")
    wrong = client.post(GRANTS, json={"roomId": room, "role": "owner"}, headers=fan.headers())
    assert (code_of(wrong), wrong.json["field"]) == ((422, "INVALID"), "role")


@pytest.mark.usefixtures("still_window")
def test_grants_are_limited(client: FlaskClient, people: People) -> None:
    fan = people.fan()
    answers = [client.post(GRANTS, json={}, headers=fan.headers()).status_code for _ in range(61)]

    assert answers == [422] * 60 + [429]


# --- the cut ----------------------------------------------------------------------------------------


def test_success_only_after_the_node_confirmed_the_recorded_command(
    client: FlaskClient, people: People, node: Node, room: str
) -> None:
    fan, program = people.fan(), people.integrator("rtc:terminate")

    answer = client.post(CUT, json=cut(room, fan, "PAYMENT_FAILED"), headers=program)
    assert (answer.status_code, answer.json) == (200, {"success": True})
    assert [command.message_id for command in node.commands] == [written(people, room)[0].message_id]
    assert getattr(node.commands[0], "user_id", "") == fan.user_id
    refused = client.post(GRANTS, json={"roomId": room, "role": "participant"}, headers=fan.headers())
    assert code_of(refused) == (403, "BARRED")


def test_who_was_cut_already_is_success_again(client: FlaskClient, people: People, node: Node, room: str) -> None:
    fan, admin = people.fan(), people.make("admin")
    client.post(CUT, json=cut(room, fan), headers=admin.headers())

    node.reply = Reply(ok=False, code="NOT_CONNECTED")
    answer = client.post(CUT, json=cut(room, fan), headers=admin.headers())
    assert (answer.status_code, answer.json) == (200, {"success": True})


def test_who_is_not_there_is_404_and_may_come_later(
    client: FlaskClient, people: People, node: Node, room: str
) -> None:
    fan, program = people.fan(), people.integrator("rtc:terminate")
    node.reply = Reply(ok=False, code="NOT_CONNECTED")

    assert code_of(client.post(CUT, json=cut(room, fan), headers=program)) == (404, "NOT_CONNECTED")
    granted = client.post(GRANTS, json={"roomId": room, "role": "participant"}, headers=fan.headers())
    assert granted.status_code == 200
    for body in (cut("live-none", fan), {"roomId": room, "userId": "usr_none", "reason": "MODERATION"}):
        assert code_of(client.post(CUT, json=body, headers=program)) == (404, "NOT_CONNECTED")


def test_without_an_answer_it_is_504_stays_recorded_and_may_be_repeated(
    client: FlaskClient, people: People, room: str, amqp_url: str
) -> None:
    fan, program = people.fan(), people.integrator("rtc:terminate")

    assert code_of(client.post(CUT, json=cut(room, fan), headers=program)) == (504, "UNCONFIRMED")
    first = written(people, room)
    assert len(first) == 1
    node = Node(amqp_url)
    try:
        assert client.post(CUT, json=cut(room, fan), headers=program).status_code == 200
        assert [command.message_id for command in node.commands] == [first[0].message_id]
    finally:
        node.close()


@pytest.mark.parametrize("reply", [Reply(ok=True), Reply(ok=False, code="NOT_CONNECTED")])
def test_a_cut_in_a_room_that_was_moved_waits_for_the_node_that_had_it(
    client: FlaskClient, people: People, node: Node, room: str, reply: Reply
) -> None:
    fan, program = people.fan(), people.integrator("rtc:terminate")
    node.reply = reply
    people.database.run(lambda tx: departures.moved(tx, room, "media-old", NODE, utc_now() + timedelta(hours=1)))
    for _ in range(2):
        assert code_of(client.post(CUT, json=cut(room, fan), headers=program)) == (504, "UNCONFIRMED")
        # whoever is in the old node's room only is barred as well
        refused = client.post(GRANTS, json={"roomId": room, "role": "participant"}, headers=fan.headers())
        assert code_of(refused) == (403, "BARRED")
    late = utc_now() + timedelta(hours=2)
    people.database.run(lambda tx: departures.reported(tx, "media-old", (), late))
    assert client.post(CUT, json=cut(room, fan), headers=program).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": "BECAUSE"}, "reason"),
        ({"reason": None}, "reason"),
        ({"roomId": ""}, "roomId"),
        ({"roomId": 5}, "roomId"),
        ({"userId": "u" * 65}, "userId"),
        ({"userId": ...}, "userId"),
        ({"roomId": ...}, "roomId"),
        ({"reason": ...}, "reason"),
        ({"atFault": "everybody"}, "atFault"),
    ],
)
def test_a_body_that_does_not_fit_names_the_field(
    client: FlaskClient, people: People, room: str, change: dict[str, Any], field: str
) -> None:
    body = {name: value for name, value in (cut(room, people.fan()) | change).items() if value is not ...}

    refused = client.post(CUT, json=body, headers=people.integrator("rtc:terminate"))
    assert code_of(refused) == (422, "INVALID")
    assert refused.json["field"] == field


def test_the_cut_is_for_operators(client: FlaskClient, people: People, room: str) -> None:
    body = cut(room, people.fan())

    assert code_of(client.post(CUT, json=body)) == (401, "UNAUTHENTICATED")
    for headers in (people.fan().headers(), people.creator().headers(), people.integrator("rooms:write")):
        assert code_of(client.post(CUT, json=body, headers=headers)) == (403, "FORBIDDEN")
    blaming = client.post(CUT, json=body | {"atFault": "fan"}, headers=people.integrator("rtc:terminate"))
    assert code_of(blaming) == (403, "FORBIDDEN")
    assert written(people, room) == []
