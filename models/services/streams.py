"""Public streams: going live, ending, coming back from a private session; who is on the air."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from models import ids, log
from models.clock import utc_now
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.machine import move
from models.messages.commands import CloseRoom, Reason
from models.people import PersonRow
from models.services import audiences, broadcasts, engaged, placement, rooms
from models.services.accounts import Person, person_of
from models.services.announcements import Notification, tell
from models.services.closing import close_request, open_requests
from models.services.ending import MESSAGES_MS, want_end
from models.services.locks import lock_people, locked
from models.sessions import RUNNING, SessionRow
from models.streams import CreatorSettingsRow, RoomRow, StreamRow

DEFAULT_TITLE = "Live"
# After a private session its creator has this many times as long to decide whether to go back to public.
UNDECIDED_TIMES = 10
LONGEST_TITLE = 120
MOST_AT_ONCE = 100

# Built once: the clock and the nodes ask these all the time, and building them took longer than executing them.
_ABSENT = (
    select(StreamRow.id, StreamRow.creator_id)
    .where(
        or_(
            *(
                and_(StreamRow.status == status, StreamRow.creator_gone_at <= bindparam(status))
                for status in ("live", "private")
            )
        )
    )
    .order_by(StreamRow.creator_id)
    .limit(MOST_AT_ONCE)
)
_SEAT = {
    here: update(StreamRow)
    .where(
        StreamRow.room_id.in_(
            select(RoomRow.id).where(RoomRow.id == bindparam("room"), RoomRow.node_id == bindparam("node"))
        ),
        StreamRow.status == "live",
        or_(StreamRow.creator_heard_at.is_(None), StreamRow.creator_heard_at <= bindparam("said_at")),
    )
    .values(
        creator_heard_at=bindparam("said_at"),
        creator_gone_at=None
        if here
        else func.coalesce(StreamRow.creator_gone_at, bindparam("now", type_=StreamRow.creator_gone_at.type)),
    )
    .execution_options(synchronize_session=False)
    for here in (True, False)
}


class StreamView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A stream as everybody may see it; ``status`` is ``live``, ``private`` or ``ended``."""

    stream_id: str
    room_id: str
    creator_id: str
    handle: str
    display_name: str
    title: str
    viewers: int
    """All who watch, the creator not counted."""
    spectators: int
    """Those of them who have no seat, and watch the broadcast."""
    status: str


class CreatorCard(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A creator on the creators' page; rate in tokens per minute."""

    person: Person
    rate_per_minute: int
    min_minutes: int
    enabled: bool
    stream: StreamView | None


def go_live(tx: Session, creator: Person, *, title: str | None = None, now: datetime) -> StreamView:
    """Begin a public stream; raises Forbidden, Invalid, Conflict (ALREADY_LIVE, IN_BATTLE), Unavailable."""
    if "creator" not in creator.roles:
        raise Forbidden("Only creators go live.", code="NOT_A_CREATOR")
    title = " ".join((title or DEFAULT_TITLE).split())
    if len(title) > LONGEST_TITLE or not title.isprintable():
        raise Invalid(f"Choose a title of at most {LONGEST_TITLE} characters.", field="title")
    lock_people(tx, creator.user_id)
    running = stream_of(tx, creator.user_id)
    if running is not None:
        raise Conflict("You are live already.", code="ALREADY_LIVE", stream_id=running.stream_id)
    _require_no_battle(tx, creator.user_id)
    node_id = placement.pick_node(tx, "live", now)
    stream_id = ids.new_id(ids.STREAM)
    stream = StreamRow(
        id=stream_id,
        creator_id=creator.user_id,
        room_id=ids.live_room(stream_id),
        title=title,
        status="live",
        started_at=now,
        creator_gone_at=now,
    )
    tx.add(stream)
    tx.flush()
    rooms.open_room(tx, rooms.live_spec(tx, stream), kind="live", node_id=node_id, cause_id=stream_id, now=now)
    view = _view(stream, creator.handle, creator.display_name, 0)
    _announce(tx, "STREAM_STARTED", view, now)
    return view


def end_stream(tx: Session, stream_id: str, by: Person, now: datetime) -> StreamView:
    """End a stream; its creator or an admin may. A private session on it ends as the creator's doing.

    Raises NotFound, Conflict STREAM_NOT_LIVE when it has ended.
    """
    stream = _own_stream(tx, stream_id, by)
    finish(tx, stream, "STREAM_ENDED", by.user_id, now)
    return _view_of(tx, stream)


def finish(
    tx: Session, stream: StreamRow, reason: Reason, by_id: str, now: datetime, message_id: str | None = None
) -> CloseRoom | None:
    """End a stream that is the caller's to end; returns the command that closes its public room, if it is open."""
    move(tx, StreamRow, stream.id, stream.status, "ended", ended_at=now, creator_gone_at=None)
    requests = open_requests(tx, creator_id=stream.creator_id)
    session = tx.scalar(
        select(SessionRow).where(SessionRow.stream_id == stream.id, SessionRow.status.in_(RUNNING))
    )
    if session is not None:
        want_end(tx, session.id, "stream_deleted", by_id=by_id, now=now)
    room = tx.get(RoomRow, stream.room_id)
    command = None
    if room is not None and room.status != "closed":
        command = rooms.close_room(tx, stream.room_id, reason, cause_id=stream.id, now=now, message_id=message_id)
    # Accounts come last: who buys a pass has the broadcast and wants a wallet.
    for request in requests:
        close_request(tx, request, "expired", now, because="stream_ended")
    _announce(tx, "STREAM_ENDED", _view_of(tx, stream), now)
    return command


def creator_seat(
    tx: Session, room_id: str, *, node_id: str, here: bool, said_at: datetime, now: datetime
) -> None:
    """A node says whether the creator's seat in a public room is taken; late and repeated words change nothing."""
    tx.execute(_SEAT[here], {"room": room_id, "node": node_id, "said_at": said_at, "now": now})
    if here:
        broadcasts.want(tx, room_id, now)


def picture_from(tx: Session, room_id: str, *, encoder: bool, said_at: datetime, now: datetime) -> None:
    """A node says what took the creator's seat, after :func:`creator_seat`; an older word changes nothing."""
    since = func.coalesce(StreamRow.encoder_since, now) if encoder else None
    newest = (StreamRow.room_id == room_id, StreamRow.creator_heard_at == said_at)
    tx.execute(
        update(StreamRow)
        .where(*newest)
        .values(encoder_since=since)
        .execution_options(synchronize_session=False)
    )


def end_absent(tx: Session, now: datetime, *, absent_ms: int) -> int:
    """End streams whose creator has been gone for ``absent_ms``; how many.

    One that went private counts from the end of its session, and ten times as long. Not below the time
    that messages take, however short the minute is.
    """
    absent = timedelta(milliseconds=max(MESSAGES_MS, absent_ms))
    gone_before = {"live": now - absent, "private": now - UNDECIDED_TIMES * absent}
    ended = 0
    for stream_id, creator_id in tx.execute(_ABSENT, gone_before).all():
        lock_people(tx, creator_id)
        stream = locked(tx, StreamRow, stream_id)
        # It may have gone on, or its creator come back, while we waited.
        if stream is None or stream.status == "ended" or stream.creator_gone_at is None:
            continue
        if stream.creator_gone_at > gone_before[stream.status]:
            continue
        log.event("creator_absent", stream_id=stream.id, cause_id=stream.id)
        finish(tx, stream, "STREAM_ENDED", creator_id, now)
        ended += 1
    return ended


def resume_public(tx: Session, stream_id: str, by: Person, now: datetime) -> StreamView:
    """Back from private to public, in the same room.

    Raises NotFound, Conflict SESSION_LIVE, IN_BATTLE or STREAM_NOT_PRIVATE, Unavailable.
    """
    stream = _own_stream(tx, stream_id, by)
    if stream.status != "private":
        raise Conflict("The stream is public already.", code="STREAM_NOT_PRIVATE", status=stream.status)
    running = select(SessionRow.id).where(
        SessionRow.creator_id == stream.creator_id, SessionRow.status.in_(RUNNING)
    )
    if (session_id := tx.scalar(running)) is not None:
        raise Conflict("Your private stream is still running.", code="SESSION_LIVE", session_id=session_id)
    _require_no_battle(tx, stream.creator_id)
    node_id = placement.pick_node(tx, "live", now)
    move(tx, StreamRow, stream.id, "private", "live", creator_gone_at=now)
    rooms.open_room(tx, rooms.live_spec(tx, stream), kind="live", node_id=node_id, cause_id=stream.id, now=now)
    view = _view_of(tx, stream)
    _announce(tx, "STREAM_WENT_PUBLIC", view, now)
    return view


def go_private(tx: Session, stream: StreamRow, now: datetime) -> None:
    """A request was accepted: everybody leaves the public room. One that is private already stays so."""
    if stream.status == "private":
        stream.creator_gone_at = None
        tx.flush()
        return
    move(tx, StreamRow, stream.id, "live", "private", creator_gone_at=None)
    rooms.close_room(tx, stream.room_id, "STREAM_PRIVATE", cause_id=stream.id, now=now)
    _announce(tx, "STREAM_WENT_PRIVATE", _view_of(tx, stream), now)


def list_streams(tx: Session, now: datetime | None = None) -> tuple[StreamView, ...]:
    """All streams that have not ended, the newest first."""
    return _views(tx, now=now)


def stream_of(tx: Session, creator_id: str, now: datetime | None = None) -> StreamView | None:
    """The creator's stream, unless there is none."""
    return next(iter(_views(tx, creator_id, now=now)), None)


def creators(tx: Session, now: datetime | None = None) -> tuple[CreatorCard, ...]:
    """All creators: live ones first, then private ones, then by name."""
    streams = {view.creator_id: view for view in _views(tx, now=now)}
    found = tx.execute(
        select(PersonRow, CreatorSettingsRow)
        .outerjoin(CreatorSettingsRow, CreatorSettingsRow.creator_id == PersonRow.id)
        .where(PersonRow.is_creator)
    )
    cards = [_card(person, settings, streams.get(person.id)) for person, settings in found]
    rank = {"live": 0, "private": 1}
    return tuple(
        sorted(
            cards,
            key=lambda c: (rank.get(c.stream.status, 2) if c.stream else 2, c.person.display_name.casefold()),
        )
    )


def _card(row: PersonRow, settings: CreatorSettingsRow | None, stream: StreamView | None) -> CreatorCard:
    return CreatorCard(
        person=person_of(row),
        rate_per_minute=settings.private_stream_rate if settings else 100,
        min_minutes=settings.private_stream_min_time if settings else 5,
        enabled=settings.private_stream_enabled if settings else True,
        stream=stream,
    )


def _require_no_battle(tx: Session, creator_id: str) -> None:
    if engaged.in_battle(tx, creator_id):
        raise Conflict("Your battle is running.", code="IN_BATTLE")


def _own_stream(tx: Session, stream_id: str, by: Person) -> StreamRow:
    stream = tx.get(StreamRow, stream_id)
    if stream is None or (by.user_id != stream.creator_id and "admin" not in by.roles):
        raise NotFound("There is no such stream.")
    lock_people(tx, stream.creator_id)
    stream = locked(tx, StreamRow, stream_id)
    if stream is None or stream.status == "ended":
        raise Conflict("The stream has ended.", code="STREAM_NOT_LIVE")
    return stream


def _views(tx: Session, creator_id: str | None = None, *, now: datetime | None) -> tuple[StreamView, ...]:
    heard = audiences.spectators(now or utc_now())
    wanted = (
        select(
            StreamRow,
            PersonRow.handle,
            PersonRow.display_name,
            RoomRow.viewers,
            func.coalesce(heard.c.spectators, 0),
        )
        .join(PersonRow, PersonRow.id == StreamRow.creator_id)
        .join(RoomRow, RoomRow.id == StreamRow.room_id)
        .outerjoin(heard, heard.c.room_id == StreamRow.room_id)
        .where(StreamRow.status != "ended")
        .order_by(StreamRow.started_at.desc(), StreamRow.id)
    )
    if creator_id is not None:
        wanted = wanted.where(StreamRow.creator_id == creator_id)
    return tuple(_view(*row) for row in tx.execute(wanted))


def _view_of(tx: Session, stream: StreamRow) -> StreamView:
    creator = tx.get_one(PersonRow, stream.creator_id)
    return _view(stream, creator.handle, creator.display_name, rooms.viewers(tx, stream.room_id))


def _view(
    stream: StreamRow, handle: str, display_name: str, seated: int, spectators: int = 0
) -> StreamView:
    return StreamView(
        stream_id=stream.id,
        room_id=stream.room_id,
        creator_id=stream.creator_id,
        handle=handle,
        display_name=display_name,
        title=stream.title,
        viewers=seated + spectators,
        spectators=spectators,
        status=stream.status,
    )


def _announce(tx: Session, kind: Notification, view: StreamView, now: datetime) -> None:
    tell(tx, None, kind, now, streamId=view.stream_id, roomId=view.room_id, creatorId=view.creator_id,
         handle=view.handle)  # fmt: skip
