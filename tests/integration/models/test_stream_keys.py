"""Stream keys: who has them, what they open, and when they stop."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from stage import Stage

from models.db import Database
from models.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, Unauthenticated
from models.messages import events
from models.messages.commands import RevokeKey, SyncRooms
from models.people import PersonRow
from models.services import stream_keys, streams
from models.services.accounts import Person
from models.streams import StreamKeyRow


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.heartbeat()
    made.node_ready()
    return made


@pytest.fixture
def creator(stage: Stage) -> Person:
    return stage.creator()


def made(stage: Stage, creator: Person, name: str = "OBS") -> stream_keys.NewStreamKey:
    return stage.run(lambda tx: stream_keys.make(tx, creator, name, stage.now))


def taken(stage: Stage, key: str, now: datetime) -> tuple[stream_keys.Holder, Any]:
    return stage.run(lambda tx: stream_keys.take_the_air(tx, key, now))


def test_a_key_is_shown_once_and_kept_as_a_hash(stage: Stage, creator: Person) -> None:
    key = made(stage, creator, "  My   studio ")
    assert key.key.startswith("gsk_")
    assert len(key.key) > 40
    with stage.database.reading() as tx:
        (row,) = tx.scalars(select(StreamKeyRow)).all()
        assert key.key not in repr(vars(row))
        assert stream_keys.keys_of(tx, creator.user_id) == (
            stream_keys.StreamKey(key_id=key.key_id, name="My studio", created_at=stage.now, last_used_at=None),
        )
        assert stream_keys.holder_of(tx, key.key).person == creator


def test_a_creator_has_three_keys_at_most_and_others_none(stage: Stage, creator: Person) -> None:
    keys = [made(stage, creator, f"key {number}") for number in range(3)]
    with pytest.raises(Conflict) as refusal:
        made(stage, creator)
    assert (refusal.value.code, refusal.value.fields) == ("TOO_MANY_KEYS", {"limit": 3})
    stage.run(lambda tx: stream_keys.revoke(tx, creator, keys[0].key_id, stage.now))
    made(stage, creator)
    with pytest.raises(Forbidden):
        made(stage, stage.fan())


def test_revoked_keys_are_forgotten_after_a_while(stage: Stage, creator: Person) -> None:
    for days in range(3):
        stage.now += timedelta(days=days)
        key = made(stage, creator, f"day {days}")
        stage.run(lambda tx, key=key: stream_keys.revoke(tx, creator, key.key_id, stage.now))  # type: ignore[misc]
    with stage.database.reading() as tx:
        assert [row.name for row in tx.scalars(select(StreamKeyRow))] == ["day 2"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x07b"])
def test_a_key_has_a_name_that_can_be_read(stage: Stage, creator: Person, name: str) -> None:
    with pytest.raises(Invalid):
        made(stage, creator, name)


def test_an_encoder_goes_live_once_and_comes_back_to_the_same_stream(stage: Stage, creator: Person) -> None:
    key = made(stage, creator).key
    holder, first = taken(stage, key, stage.now)
    _, second = taken(stage, key, stage.now + timedelta(seconds=5))
    assert holder.person == creator
    assert first == second
    assert first.publish
    assert first.room_id.startswith("live-")
    with stage.database.reading() as tx:
        assert stream_keys.encoder_of(tx, creator.user_id) == "away", "it has a seat, and is not in it yet"
        (seen,) = stream_keys.keys_of(tx, creator.user_id)
        assert seen.last_used_at == stage.now + timedelta(seconds=5)


def test_an_encoder_joins_what_the_browser_began_and_keeps_the_last_title(stage: Stage, creator: Person) -> None:
    key = made(stage, creator).key
    live = stage.run(lambda tx: streams.go_live(tx, creator, title="Night shift", now=stage.now))
    assert taken(stage, key, stage.now)[1].room_id == live.room_id
    later = stage.now + timedelta(minutes=1)
    stage.run(lambda tx: streams.end_stream(tx, live.stream_id, creator, later))
    taken(stage, key, later + timedelta(minutes=1))
    with stage.database.reading() as tx:
        view = streams.stream_of(tx, creator.user_id)
    assert view is not None
    assert view.title == "Night shift"
    assert view.stream_id != live.stream_id


def test_a_revoked_key_opens_nothing_and_puts_its_encoder_off_the_air(stage: Stage, creator: Person) -> None:
    key = made(stage, creator)
    _, seat = taken(stage, key.key, stage.now)
    for _ in range(2):
        stage.run(lambda tx: stream_keys.revoke(tx, creator, key.key_id, stage.now))
    sent = {(command.room_id, command.key_id) for command in stage.commands(RevokeKey)}
    assert sent == {(seat.room_id, key.key_id)}
    with pytest.raises(Unauthenticated):
        taken(stage, key.key, stage.now)
    with stage.database.reading() as tx:
        assert stream_keys.keys_of(tx, creator.user_id) == ()


def test_a_key_that_is_not_on_the_air_is_revoked_without_a_command(stage: Stage, creator: Person) -> None:
    key = made(stage, creator)
    stage.run(lambda tx: stream_keys.revoke(tx, creator, key.key_id, stage.now))
    assert stage.commands(RevokeKey) == []


def test_a_node_that_did_not_hear_of_it_is_told_when_it_is_told_its_rooms(stage: Stage, creator: Person) -> None:
    key, unused = made(stage, creator), made(stage, creator)
    _, seat = taken(stage, key.key, stage.now)
    made(stage, creator)
    for key_id in (key.key_id, unused.key_id):
        stage.run(lambda tx, key_id=key_id: stream_keys.revoke(tx, creator, key_id, stage.now))  # type: ignore[misc]

    def told() -> list[tuple[str, ...]]:
        return [spec.revoked_keys for sync in stage.commands(SyncRooms) for spec in sync.open][-1:]

    # at its next report, without having been away
    stage.later(seconds=11)
    stage.event(events.NodeReport, rooms=(seat.room_id,), participants=1)
    assert told() == [(key.key_id,)]
    # and whenever it comes back, in whatever life
    stage.later(hours=1)
    before = len(stage.commands(SyncRooms))
    stage.event(events.NodeReport, rooms=(seat.room_id,), participants=1)
    assert len(stage.commands(SyncRooms)) == before, "nothing differs"
    stage.node_ready(rooms=(seat.room_id,))
    assert len(stage.commands(SyncRooms)) == before + 1
    assert told() == [(key.key_id,)]


def test_nobody_revokes_what_is_somebody_elses(stage: Stage, creator: Person) -> None:
    key = made(stage, creator)
    other = stage.creator()
    with pytest.raises(NotFound):
        stage.run(lambda tx: stream_keys.revoke(tx, other, key.key_id, stage.now))
    with stage.database.reading() as tx:
        assert stream_keys.holder_of(tx, key.key).key_id == key.key_id


@pytest.mark.parametrize("key", ["", "gsk_", "gsk_" + "a" * 43, "x" * 10_000])
def test_what_is_no_key_opens_nothing(stage: Stage, creator: Person, key: str) -> None:
    with pytest.raises(Unauthenticated):
        taken(stage, key, stage.now)


def test_a_locked_creators_key_opens_nothing(stage: Stage, creator: Person) -> None:
    key = made(stage, creator).key

    def lock(tx: Any) -> None:
        tx.get_one(PersonRow, creator.user_id).locked_at = stage.now

    stage.run(lock)
    with pytest.raises(Unauthenticated):
        taken(stage, key, stage.now)


def test_no_encoder_while_its_creator_is_private_and_none_before_they_are_back(stage: Stage) -> None:
    call = stage.running()
    key = made(stage, call.creator).key
    codes = []
    for _ in range(2):
        with pytest.raises(DomainError) as refusal:
            taken(stage, key, stage.now)
        codes.append(refusal.value.code)
        stage.call_ended(call.session_id, "fan_left", 60_000)
    assert codes == ["CREATOR_BUSY", "STREAM_NOT_LIVE"]


def test_an_offer_that_the_node_may_refuse_takes_no_browser_off_the_air(stage: Stage, creator: Person) -> None:
    live, key = stage.go_live(creator), made(stage, creator).key

    def encoder() -> str:
        with stage.database.reading() as tx:
            return stream_keys.encoder_of(tx, creator.user_id)

    def joins(seconds: int, *, encoder: bool) -> None:
        at = (stage.now + timedelta(seconds=seconds)).isoformat()
        stage.event(
            events.ParticipantJoined, room_id=live.room_id, user_id=creator.user_id, viewers=0, encoder=encoder,
            at=at,
        )  # fmt: skip

    joins(1, encoder=False)
    taken(stage, key, stage.now)
    assert encoder() == "", "the node has not taken it"
    joins(2, encoder=True)
    assert encoder() == "on_air"


def test_the_node_says_whether_the_picture_is_an_encoders(stage: Stage, creator: Person) -> None:
    live = stage.go_live(creator)

    def says(seconds: int, *, encoder: bool) -> str:
        at = (stage.now + timedelta(seconds=seconds)).isoformat()
        stage.event(
            events.ParticipantJoined, room_id=live.room_id, user_id=creator.user_id, viewers=0, encoder=encoder,
            at=at,
        )  # fmt: skip
        with stage.database.reading() as tx:
            return stream_keys.encoder_of(tx, creator.user_id)

    assert says(2, encoder=True) == "on_air"
    assert says(1, encoder=False) == "on_air", "an older word that comes late"
    assert says(3, encoder=False) == ""
