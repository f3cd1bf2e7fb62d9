"""What a node tells operators over HTTP: Prometheus can read it, its labels are bounded and go with their rooms,
and nobody is told who may not be."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from email.message import Message

import pytest
from media_clients import until
from prometheus_client.parser import text_string_to_metric_families
from seats import CREATOR, FAN, Stage, fields, live_spec, plays, plays_with, private_spec

from media import exposition
from media.exposition import MOST_ROOMS
from media.stats import DROPPED, MEANINGS
from models import egress_tickets
from models.clock import utc_now
from models.messages import figures
from models.messages.commands import CloseRoom
from workers import node_watch

FEW_WORDS = {
    "node": {"media-1"},
    "kind": {"live", "private", "battle", "other"},
    "cause": set(DROPPED),
    "quality": {"good", "fair", "poor", "lost"},
    "seat": {"1", "2"},
}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def get(stage: Stage, path: str, **headers: str) -> tuple[int, str, Message]:
    request = urllib.request.Request(f"http://127.0.0.1:{stage.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


async def ask(stage: Stage, path: str, **headers: str) -> tuple[int, str, Message]:
    return await asyncio.to_thread(get, stage, path, **headers)


async def series(stage: Stage) -> Series:
    """Every sample of /metrics, as Prometheus's own parser reads it: no two of a name and labels."""
    status, text, headers = await ask(stage, "/metrics")
    assert status == 200
    assert headers.get_all("Content-Type") is not None
    assert [each.startswith("text/plain; version=") for each in headers.get_all("Content-Type", [])] == [True]
    found: Series = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            assert sample.name.startswith("greenroom_media_")
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Series, name: str, **labels: str) -> float | None:
    return found.get((f"greenroom_media_{name}", frozenset({"node": "media-1", **labels}.items())))


def ticket(stage: Stage, room_id: str, *, age: float = 0.0, for_room: str = "") -> str:
    key = egress_tickets.room_key(stage.node.figures_key, for_room or room_id)
    return "Bearer " + egress_tickets.sign(for_room or room_id, key, utc_now().timestamp() - age)


@plays
async def test_a_call_shows_in_prometheus_and_its_series_go_with_it(stage: Stage) -> None:
    # Given a call with media both ways
    room = stage.open(private_spec("one"))
    creator, fan = [await stage.join(room, each) for each in (CREATOR, FAN)]
    for seat in (creator, fan):
        await seat.publish()
    await fan.decodes()
    # When it has been sampled
    seats = stage.node.rooms[room].outside.seats
    await until(lambda: all(s.figures and s.figures.kbit_in and s.figures.kbit_out for s in seats(0)), "measured")
    await until(lambda: len([s for s in seats(0) if s.quality]) == 2, "graded")
    found = await series(stage)
    # Then it is counted by kind, and measured by room
    assert value(found, "participants", kind="private") == 2
    assert (value(found, "packets_in_total", kind="private") or 0) > 0
    assert (value(found, "packets_out_total", kind="private") or 0) > 0
    assert (value(found, "keyframes_total", kind="private") or 0) >= 2
    for_room = {"kind": "private", "room": room}
    assert value(found, "room_in_bits_per_second", **for_room) is not None
    assert value(found, "room_layers", **for_room) == 2, "two cameras of one size each"
    assert (value(found, "room_keyframes_total", **for_room) or 0) >= 2
    assert value(found, "room_dropped_packets_total", **for_room, cause="gated") is not None
    # And everybody by a number, their sums being the room's
    assert value(found, "participants_untold") == 0
    for name in ("packets_in", "packets_out", "keyframes"):
        each = [value(found, f"participant_{name}_total", **for_room, seat=seat) or 0 for seat in "12"]
        assert min(each) > 0
        assert sum(each) == value(found, f"room_{name}_total", **for_room)
    assert value(found, "participant_layers", **for_room, seat="1") == 1
    assert value(found, "participant_dropped_packets_total", **for_room, seat="1", cause="unopened") is not None
    assert value(found, "dropped_packets_total", kind="private", cause="unopened") is not None
    graded = sum(number for (name, _), number in found.items() if name == "greenroom_media_participant_quality")
    assert graded == 2
    # And no label takes more than a few words, but for the room's
    for _, labels in found:
        for name, word in labels:
            assert word in FEW_WORDS[name] if name != "room" else word == room
    # When a viewer's socket takes no more, then that is counted as dropped
    egress = stage.node.rooms[room].participants[FAN].peer._egress
    assert egress is not None
    egress.wire._refused += 7
    await until(lambda: stage.node.rooms[room].outside.totals()["refused"] >= 7, "it is sampled")
    found = await series(stage)
    assert (value(found, "dropped_packets_total", kind="private", cause="refused") or 0) >= 7
    # When the room closes
    assert stage.order(CloseRoom(room_id=room, reason="STREAM_ENDED", **fields())).ok
    after = await series(stage)
    # Then its series are gone, and no counter has fallen
    assert not [labels for _, labels in after if ("room", room) in labels]
    assert value(after, "participants", kind="private") == 0
    for key, number in found.items():
        if key[0].endswith("_total") and ("room", room) not in key[1]:
            assert after[key] >= number


@plays
async def test_rooms_beyond_the_bound_have_no_series_of_their_own(stage: Stage) -> None:
    exposition.MOST_ROOMS = 3
    try:
        for number in range(5):
            stage.open(live_spec(f"n{number}"))
        found = await series(stage)
    finally:
        exposition.MOST_ROOMS = MOST_ROOMS
    assert len({label for _, labels in found for label in labels if label[0] == "room"}) == 3
    assert (value(found, "rooms", kind="live"), value(found, "rooms_untold")) == (5, 2)


@plays_with(METRICS_SEATS="1")
async def test_participants_beyond_the_bound_have_no_series_of_their_own(stage: Stage) -> None:
    room = stage.open(private_spec("one"))
    for user_id in (CREATOR, FAN):
        await stage.join(room, user_id)
    await until(lambda: all(seat.number for seat in stage.node.rooms[room].outside.seats(0)), "sampled")
    found = await series(stage)
    assert {word for _, labels in found for name, word in labels if name == "seat"} == {"1"}
    assert value(found, "participants_untold") == 1


@plays
async def test_every_counter_is_exposed(stage: Stage) -> None:
    stage.open(live_spec())
    found = await series(stage)
    for name in MEANINGS:
        if name in DROPPED:
            assert value(found, "dropped_packets_total", kind="live", cause=name) == 0
        else:
            assert value(found, f"{name}_total", kind="live") == 0


@plays
async def test_a_rooms_figures_are_for_who_has_a_ticket_for_it(stage: Stage) -> None:
    # Given a room with somebody in it
    room = stage.open(live_spec())
    await stage.join(room, CREATOR)
    path = figures.PATH + room
    # Then strangers, old tickets and those for other rooms open nothing
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": ticket(stage, room, age=3_600)},
                    {"Authorization": ticket(stage, room, for_room="live-str_other")}):  # fmt: skip
        status, text, _ = await ask(stage, path, **headers)
        assert (status, CREATOR in text) == (401, False)
    # And a good one does
    status, text, headers_ = await ask(stage, path, Authorization=ticket(stage, room))
    told = figures.decode(text)
    assert (status, headers_["Content-Type"]) == (200, "application/json")
    assert [seat.user_id for seat in told.seats] == [CREATOR]
    assert (told.room_id, told.node_id, told.boot_id) == (room, "media-1", stage.node.boot_id)
    # And a room that is not here is said to be not here
    gone = figures.PATH + "live-str_gone"
    assert (await ask(stage, gone, Authorization=ticket(stage, "live-str_gone")))[0] == 404


@plays_with(METRICS_TOKEN="scraper-word-of-24-letters")
async def test_metrics_from_elsewhere_need_the_token(stage: Stage) -> None:
    # A forwarded request is somebody else's, whatever address it comes from
    assert (await ask(stage, "/metrics", **{"X-Forwarded-For": "192.0.2.1"}))[0] == 401
    wrong = {"X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer scraper-word"}
    assert (await ask(stage, "/metrics", **wrong))[0] == 401
    right = {"X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer scraper-word-of-24-letters"}
    assert (await ask(stage, "/metrics", **right))[0] == 200


@plays
async def test_the_clock_knows_the_node_by_its_name(stage: Stage) -> None:
    url = f"ws://127.0.0.1:{stage.port}/signaling"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_watch, "PROBE_SECONDS", 60.0)
        assert await asyncio.to_thread(node_watch.probe, url, "media-1") == "here"
        assert await asyncio.to_thread(node_watch.probe, url, "media-2") == "refused"
    status, text, _ = await ask(stage, "/healthz")
    assert (status, json.loads(text)) == (200, {"nodeId": "media-1", "bootId": stage.node.boot_id})
