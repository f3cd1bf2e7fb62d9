"""Stream keys: what a creator's encoder signs in with, and what it may do with that.

A key is 256 random bits, shown once and stored as SHA-256, like every token of ours. All it opens is the public
room of its creator, as publisher: it reads nothing, moves no tokens and takes no private session.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from models.messages.commands import RevokeKey
from models.people import PersonRow
from models.services import placement, rooms, streams
from models.services.accounts import Person, person_of
from models.services.locks import lock_people, locked
from models.services.rooms import Admission
from models.sessions import RUNNING, SessionRow
from models.streams import MediaNodeRow, RoomRow, StreamKeyRow, StreamRow

PREFIX = "gsk_"
"""So that a key is known for one wherever it turns up, by people and by scanners for leaked secrets."""
MOST_KEYS = 3
LONGEST_NAME = 60
KEEP_REVOKED = timedelta(days=1)
"""So that revoking again is no error; making keys by the thousand leaves no more rows than that."""
REVOKE_WITHIN_SECONDS = 86_400


class StreamKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key as its owner sees it: never the key itself."""

    key_id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None


class NewStreamKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A fresh key; the only time that ``key`` is seen."""

    key_id: str
    name: str
    created_at: datetime
    key: str


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a key speaks for."""

    key_id: str
    person: Person


def make(tx: Session, creator: Person, name: str, now: datetime) -> NewStreamKey:
    """A new key. Raises Forbidden NOT_A_CREATOR, Invalid (``field``), Conflict TOO_MANY_KEYS (``limit``)."""
    if "creator" not in creator.roles:
        raise Forbidden("Only creators have stream keys.", code="NOT_A_CREATOR")
    name = " ".join(name.split())
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise Invalid(f"A name has 1 to {LONGEST_NAME} characters.", field="name")
    lock_people(tx, creator.user_id)
    long_gone = (StreamKeyRow.creator_id == creator.user_id, StreamKeyRow.revoked_at < now - KEEP_REVOKED)
    tx.execute(delete(StreamKeyRow).where(*long_gone))
    mine = select(func.count()).where(
        StreamKeyRow.creator_id == creator.user_id, StreamKeyRow.revoked_at.is_(None)
    )
    if (tx.scalar(mine) or 0) >= MOST_KEYS:
        raise Conflict(f"Revoke one first: {MOST_KEYS} keys at a time.", code="TOO_MANY_KEYS", limit=MOST_KEYS)
    key_id, key = ids.new_id(ids.STREAM_KEY), PREFIX + secrets.token_urlsafe(32)
    tx.add(
        StreamKeyRow(id=key_id, creator_id=creator.user_id, name=name, key_hash=_digest(key), created_at=now)
    )
    tx.flush()
    log.event("stream_key_made", user_id=creator.user_id, key_id=key_id)
    return NewStreamKey(key_id=key_id, name=name, created_at=now, key=key)


def keys_of(tx: Session, creator_id: str) -> tuple[StreamKey, ...]:
    """The creator's keys that work, the oldest first."""
    working = select(StreamKeyRow).where(
        StreamKeyRow.creator_id == creator_id, StreamKeyRow.revoked_at.is_(None)
    )
    return tuple(
        StreamKey(key_id=row.id, name=row.name, created_at=row.created_at, last_used_at=row.last_used_at)
        for row in tx.scalars(working.order_by(StreamKeyRow.created_at, StreamKeyRow.id))
    )


def revoke(tx: Session, creator: Person, key_id: str, now: datetime) -> None:
    """The key stops working, and an encoder that publishes with it is put off the air. Raises NotFound.

    Again is no harm: the command is sent once more.
    """
    lock_people(tx, creator.user_id)
    row = locked(tx, StreamKeyRow, key_id)
    if row is None or row.creator_id != creator.user_id:
        raise NotFound("There is no such stream key.")
    if row.revoked_at is None:
        row.revoked_at = now
        log.event("stream_key_revoked", user_id=creator.user_id, key_id=key_id)
    on_air = (
        select(RoomRow.id, RoomRow.node_id)
        .join(StreamRow, StreamRow.room_id == RoomRow.id)
        .where(StreamRow.creator_id == creator.user_id, StreamRow.status == "live")
    )
    for room_id, node_id in tx.execute(on_air).all():
        if node_id is not None:
            outbox.command(
                tx,
                node_id,
                RevokeKey(
                    message_id=ids.new_id(ids.MESSAGE),
                    cause_id=key_id,
                    deadline_at=(now + timedelta(seconds=REVOKE_WITHIN_SECONDS)).timestamp(),
                    room_id=room_id,
                    key_id=key_id,
                ),
                now=now,
            )


def holder_of(tx: Session, key: str) -> Holder:
    """Whom this key speaks for. Raises Unauthenticated for what is no key that works, and for locked people."""
    found = tx.execute(
        select(StreamKeyRow.id, PersonRow)
        .join(PersonRow, PersonRow.id == StreamKeyRow.creator_id)
        .where(
            StreamKeyRow.key_hash == _digest(key),
            StreamKeyRow.revoked_at.is_(None),
            PersonRow.locked_at.is_(None),
            PersonRow.is_creator,
        )
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise Unauthenticated("The stream key is not valid.")
    return Holder(key_id=found[0], person=person_of(found[1]))


def node_to_begin_on(tx: Session, holder: Holder, now: datetime) -> str | None:
    """The signaling address of a node that would take the creator's stream; None if they are live already.

    Raises Unavailable NO_MEDIA_NODE.
    """
    if streams.stream_of(tx, holder.person.user_id) is not None:
        return None
    return tx.get_one(MediaNodeRow, placement.pick_node(tx, "live", now)).signaling_url


def take_the_air(tx: Session, key: str, now: datetime) -> tuple[Holder, Admission]:
    """The seat that an encoder is to take: in its creator's public stream, which begins now if there is none.

    Raises Unauthenticated, Forbidden BARRED; Conflict CREATOR_BUSY while a private session runs, STREAM_NOT_LIVE
    until its creator has gone back to public by hand, IN_BATTLE; Unavailable.
    """
    lock_people(tx, holder_of(tx, key).person.user_id)
    # A revocation that was quicker than the lock is seen here; one that is slower finds the stream below.
    holder = holder_of(tx, key)
    creator = holder.person
    stream = streams.stream_of(tx, creator.user_id)
    private = select(SessionRow.id).where(
        SessionRow.creator_id == creator.user_id, SessionRow.status.in_(RUNNING)
    )
    if tx.scalar(private) is not None:
        raise Conflict("Your private stream is running; it is given with the browser.", code="CREATOR_BUSY")
    if stream is not None and stream.status != "live":
        raise Conflict("Go back to public in the studio first.", code="STREAM_NOT_LIVE", status=stream.status)
    if stream is None:
        stream = streams.go_live(tx, creator, title=_last_title(tx, creator.user_id), now=now)
    seat = rooms.admission(tx, person=creator, room_id=stream.room_id, role="participant", now=now)
    tx.get_one(StreamKeyRow, holder.key_id).last_used_at = now
    row = tx.get_one(StreamRow, stream.stream_id)
    if row.creator_gone_at is not None:
        # So that the studio waits for it. Who is in the seat leaves it when the node takes the offer, not before.
        row.encoder_since = row.encoder_since or now
    tx.flush()
    return holder, seat


def encoder_of(tx: Session, creator_id: str) -> Literal["", "on_air", "away"]:
    """Where the encoder is that the creator's public picture comes from; empty: it comes from a browser."""
    mine = select(StreamRow.encoder_since, StreamRow.creator_gone_at)
    found = tx.execute(mine.where(StreamRow.creator_id == creator_id, StreamRow.status == "live")).one_or_none()
    if found is None or found.encoder_since is None:
        return ""
    return "on_air" if found.creator_gone_at is None else "away"


def _last_title(tx: Session, creator_id: str) -> str | None:
    """An encoder names no title: the creator's last one goes on."""
    last = select(StreamRow.title).where(StreamRow.creator_id == creator_id)
    return tx.scalar(last.order_by(StreamRow.started_at.desc(), StreamRow.id).limit(1))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
