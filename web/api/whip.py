"""Encoders publish (WHIP, RFC 9725), players watch (WHEP, draft-ietf-wish-whep), and the keys of the encoders.

Who asks is proved by a bearer header alone, never by a cookie: a stream key for WHIP, a person's token or a grant
for WHEP. Seats, bars, limits and cuts are those of any participant.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Response, request
from sqlalchemy.orm import Session

from models import grants, log, turn
from models.clock import utc_now
from models.config import IceServer
from models.errors import Forbidden, Unauthenticated, Unavailable
from models.grants import Grant
from models.ids import new_id
from models.messages import resources
from models.services import accounts, rooms, stream_keys
from models.services.rooms import Admission
from models.services.stream_keys import Holder, NewStreamKey, StreamKey
from models.streams import RoomRow
from web import ingest, limits
from web.api.schema import CREATOR, Access, Api, Call, Nothing
from web.auth import LONGEST_TOKEN, bearer_token
from web.context import Greenroom

api = Api("whip")
ENCODER = Access("an encoder, with a stream key as bearer", anonymous=True, bearer=True)
PLAYER = Access(
    "anyone who may watch: a person's token or a grant as bearer", anonymous=True, bearer=True
)
WHIP, WHEP = "/api/rtc/whip", "/api/rtc/whep"

_SDP_ERRORS = ("BAD_REQUEST", "NOT_ACCEPTABLE", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "SDP_UNUSABLE")
_RESOURCE_ERRORS = ("UNAUTHENTICATED", "NOT_FOUND", "ROOM_NOT_FOUND")
_PATCH_ERRORS = (*_SDP_ERRORS, *_RESOURCE_ERRORS, "PRECONDITION_FAILED", "PRECONDITION_REQUIRED")


class KeyBody(msgspec.Struct, frozen=True):
    """What the key is for, in its owner's words."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=stream_keys.LONGEST_NAME)]


class Keys(msgspec.Struct, frozen=True, rename="camel"):
    """The caller's stream keys, never the keys themselves, and where encoders send to."""

    keys: tuple[StreamKey, ...]
    whip_url: str
    most: int


# --- keys -------------------------------------------------------------------------------------------


@api.read("/api/streaming/stream-keys", access=CREATOR, answer=Keys)
def list_stream_keys(tx: Session, call: Call[Nothing]) -> Keys:
    """The caller's stream keys."""
    return Keys(stream_keys.keys_of(tx, call.person.user_id), whip_url(call.house), stream_keys.MOST_KEYS)


@api.own("POST", "/api/streaming/stream-keys", access=CREATOR, body=KeyBody, answer=NewStreamKey, status=201,
         limits=(limits.STREAM_KEYS,), errors=("NOT_A_CREATOR", "TOO_MANY_KEYS"))  # fmt: skip
def make_stream_key(call: Call[KeyBody]) -> NewStreamKey:
    """Make a stream key. Its ``key`` is in this answer and nowhere else, so no Idempotency-Key is taken."""
    return call.house.database.run(lambda tx: stream_keys.make(tx, call.person, call.body.name, call.now))


@api.write("DELETE", "/api/streaming/stream-keys/<key_id>", access=CREATOR, answer=Nothing,
           limits=(limits.STREAM_KEYS,), errors=("NOT_FOUND",))  # fmt: skip
def revoke_stream_key(tx: Session, call: Call[Nothing]) -> Nothing:
    """Revoke a stream key. An encoder that publishes with it is put off the air."""
    stream_keys.revoke(tx, call.person, call.path["key_id"], call.now)
    return Nothing()


def whip_url(house: Greenroom) -> str:
    """What is entered in an encoder as its server."""
    return house.settings.origin + WHIP


# --- WHIP -------------------------------------------------------------------------------------------


@api.own("POST", WHIP, access=ENCODER, answer=Nothing, status=201, csrf=False, media=ingest.SDP,
         takes=ingest.SDP, limits=(limits.WHIP,),
         errors=(*_SDP_ERRORS, "UNAUTHENTICATED", "FORBIDDEN", "BARRED", "CREATOR_BUSY", "STREAM_NOT_LIVE",
                 "IN_BATTLE", "SEAT_TAKEN", "NO_MEDIA_NODE", "ROOM_OPENING"))  # fmt: skip
def whip_publish(call: Call[Nothing]) -> Response:
    """Publish as the key's creator. The body is an SDP offer, the answer an SDP answer; the creator goes live if
    they are not, and a browser or another encoder of theirs that publishes is replaced; neither by an offer that
    cannot be answered. ``Location`` names the resource that PATCH and DELETE go to, ``ETag`` its ICE session."""
    key, sdp = _bearer(), ingest.offer()
    try:
        _check_before_going_live(call, key, sdp)
        holder, seat = call.house.database.run(lambda tx: stream_keys.take_the_air(tx, key, call.now))
    except Unavailable as error:
        raise ingest.unavailable(error.detail, error.code) from error
    grant = _signed(call.house, seat, key_id=holder.key_id)
    wish = resources.Publish(grant=grant, room_id=seat.room_id, user_id=seat.user_id, sdp=sdp)
    answer = ingest.ask(call.house, wish, opening=True)
    assert isinstance(answer, resources.Answered)
    log.event("whip_published", room_id=seat.room_id, user_id=seat.user_id, cause_id=call.cause_id)
    return ingest.created(answer, f"{WHIP}/{seat.room_id}", _ice_servers(call.house, seat.user_id))


@api.own("PATCH", WHIP + "/<room_id>/<resource_id>", access=ENCODER, answer=Nothing, status=204, csrf=False,
         media=ingest.FRAGMENT, takes=ingest.FRAGMENT, limits=(limits.WHIP,), errors=_PATCH_ERRORS)  # fmt: skip
def whip_patch(call: Call[Nothing]) -> Response:
    """Candidates (taken and not needed: 204), or an ICE restart (200 with our new names, and another ETag).
    ``If-Match`` names the ICE session, or is ``*`` for a restart."""
    return _patch(call, _holder(call).person.user_id)


@api.own("DELETE", WHIP + "/<room_id>/<resource_id>", access=ENCODER, answer=Nothing, csrf=False,
         limits=(limits.WHIP,), errors=_RESOURCE_ERRORS)  # fmt: skip
def whip_end(call: Call[Nothing]) -> Nothing:
    """Stop publishing. The stream waits a moment for an encoder that begins again, then ends by itself."""
    return _end(call, _holder(call).person.user_id)


def _check_before_going_live(call: Call[Nothing], key: str, sdp: str) -> None:
    """Nobody goes live, and no follower is told so, for an offer that cannot be answered."""
    with call.house.database.reading() as tx:
        holder = stream_keys.holder_of(tx, key)
        node = stream_keys.node_to_begin_on(tx, holder, call.now)
    limits.enforce((limits.WHIP_KEY, holder.key_id))
    if node is not None:
        ingest.check_offer(call.house, node, holder.person.user_id, sdp)


def _holder(call: Call[Nothing]) -> Holder:
    with call.house.database.reading() as tx:
        return stream_keys.holder_of(tx, _bearer())


# --- WHEP -------------------------------------------------------------------------------------------


@api.own("POST", WHEP + "/<room_id>", access=PLAYER, answer=Nothing, status=201, csrf=False, media=ingest.SDP,
         takes=ingest.SDP, limits=(limits.WHIP,),
         errors=(*_SDP_ERRORS, "UNAUTHENTICATED", "FORBIDDEN", "BLOCKED", "BARRED", "OWN_STREAM",
                 "ROOM_NOT_FOUND", "NOT_FOUND", "SEAT_TAKEN", "ROOM_FULL", "ROOM_OPENING"))  # fmt: skip
def whep_play(call: Call[Nothing]) -> Response:
    """Watch a room with a player. The body is an SDP offer of at most one sound and one picture to receive, the
    answer an SDP answer. Whoever publishes later, or in another's place, is seen without another word."""
    bearer, sdp, room_id = _bearer(), ingest.offer(), call.path["room_id"]
    given = _grant_in(call.house, bearer, still_valid=True)
    user_id = given.user_id if given is not None else _person(call.house, bearer)
    limits.enforce((limits.GRANTS, user_id))
    if given is not None and (given.room_id, given.role) != (room_id, "participant"):
        raise Forbidden("The grant is for another room, or for no seat.")
    with call.house.database.reading() as tx:
        person = accounts.find_person(tx, user_id)
        seat = rooms.admission(tx, person=person, room_id=room_id, role="participant", now=call.now)
        room = tx.get_one(RoomRow, room_id)
        if user_id in (room.creator_id, *rooms.creators_of(tx, room)):
            raise Forbidden("Your own seat here is the one that you publish from.", code="OWN_STREAM")
    grant = bearer if given is not None else _signed(call.house, seat)
    wish = resources.Play(grant=grant, room_id=room_id, user_id=user_id, sdp=sdp)
    answer = ingest.ask(call.house, wish)
    assert isinstance(answer, resources.Answered)
    log.event("whep_playing", room_id=room_id, user_id=user_id, cause_id=call.cause_id)
    return ingest.created(answer, f"{WHEP}/{room_id}", _ice_servers(call.house, user_id))


@api.own("PATCH", WHEP + "/<room_id>/<resource_id>", access=PLAYER, answer=Nothing, status=204, csrf=False,
         media=ingest.FRAGMENT, takes=ingest.FRAGMENT, limits=(limits.WHIP,), errors=_PATCH_ERRORS)  # fmt: skip
def whep_patch(call: Call[Nothing]) -> Response:
    """As WHIP's."""
    return _patch(call, _watcher(call))


@api.own("DELETE", WHEP + "/<room_id>/<resource_id>", access=PLAYER, answer=Nothing, csrf=False,
         limits=(limits.WHIP,), errors=_RESOURCE_ERRORS)  # fmt: skip
def whep_end(call: Call[Nothing]) -> Nothing:
    """Stop watching; the seat is free. In a private stream that is leaving it, as with the button."""
    return _end(call, _watcher(call))


def _watcher(call: Call[Nothing]) -> str:
    """Whose resource it may be: a grant that has run out still says that."""
    bearer = _bearer()
    given = _grant_in(call.house, bearer, still_valid=False)
    return given.user_id if given is not None else _person(call.house, bearer)


# --- both -------------------------------------------------------------------------------------------


def _bearer() -> str:
    token = bearer_token()
    if not token:
        raise Unauthenticated("Send a bearer header.")
    return token


def _person(house: Greenroom, token: str) -> str:
    with house.database.reading() as tx:
        found = accounts.person_by_token(tx, token, now=utc_now()) if len(token) <= LONGEST_TOKEN else None
    if found is None:
        raise Unauthenticated("The bearer token is not valid.")
    if found.person is None:
        raise Forbidden("This is for people; an integrator asks for a grant.")
    return found.person.user_id


def _grant_in(house: Greenroom, text: str, *, still_valid: bool) -> Grant | None:
    """The grant that the bearer is; None if it looks like none. Tokens have no dot. Raises Unauthenticated."""
    if "." not in text:
        return None
    try:
        return grants.verify(text, house.settings.key("grants"), utc_now().timestamp() if still_valid else None)
    except Forbidden as error:
        raise Unauthenticated(error.detail) from error


def _signed(house: Greenroom, seat: Admission, *, key_id: str = "") -> str:
    now = utc_now().timestamp()
    grant = Grant(
        jti=new_id("grt"),
        room_id=seat.room_id,
        user_id=seat.user_id,
        display_name=seat.display_name,
        role="participant",
        publish=bool(key_id),
        issued_at=now,
        expires_at=now + grants.LIFETIME_SECONDS,
        key_id=key_id,
    )
    return grants.sign(grant, house.settings.key("grants"))


def _patch(call: Call[Nothing], user_id: str) -> Response:
    fragment, password = ingest.names_of(ingest.body_of(ingest.FRAGMENT))
    wish = resources.Patch(
        grant=ingest.errand(call.house, call.path["room_id"], user_id),
        room_id=call.path["room_id"],
        user_id=user_id,
        resource=call.path["resource_id"],
        etag=ingest.tag_of(request.headers.get("If-Match")),
        fragment=fragment,
        password=password,
    )
    return ingest.patched(ingest.ask(call.house, wish))


def _end(call: Call[Nothing], user_id: str) -> Nothing:
    room_id = call.path["room_id"]
    grant = ingest.errand(call.house, room_id, user_id)
    wish = resources.Leave(grant=grant, room_id=room_id, user_id=user_id, resource=call.path["resource_id"])
    ingest.ask(call.house, wish)
    return Nothing()


def _ice_servers(house: Greenroom, user_id: str) -> tuple[IceServer, ...]:
    return turn.ice_servers(house.settings, user_id, utc_now().timestamp())
