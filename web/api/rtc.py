"""Seats in rooms: permissions to join, and the cut. docs/contract.md §3, ``/api/rtc``.

Neither decides anything: ``models.services`` says who may, the media node confirms what happened.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urljoin

import msgspec
from sqlalchemy.orm import Session

from models import grants, log, turn
from models.clock import rfc3339, utc_now
from models.config import IceServer
from models.errors import DomainError, Forbidden, NotFound, Unconfirmed
from models.grants import Grant
from models.ids import new_id
from models.messages.commands import Reason
from models.services import departures, operations, rooms, termination
from models.services.accounts import Caller
from models.services.rooms import Admission
from models.services.termination import Ticket
from web import limits, live
from web.api.schema import Access, Api, Call

api = Api("rtc")

GRANT = "grt"
CONFIRM_SECONDS = 3.0
SIGNALING_PATH = "/api/rtc/signaling"

PARTY = Access("a party of the room; an integrator with `rooms:write`", scope="rooms:write")
OPERATOR = Access(
    "admin; an integrator with `rtc:terminate`", roles=frozenset({"admin"}), scope="rtc:terminate"
)
RoomId = Annotated[str, msgspec.Meta(min_length=1, max_length=96)]
UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class GrantBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which room, and as what. ``userId`` is for integrators, who speak for others."""

    room_id: RoomId
    role: Literal["participant", "spectator"]
    user_id: UserId | None = None


class GrantAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """One join within 60 s."""

    grant: str
    user_id: str
    expires_at: str
    signaling_url: str
    ice_servers: tuple[IceServer, ...]


class TerminateBody(msgspec.Struct, frozen=True, rename="camel"):
    """Whom to cut out of which room. ``reason`` is a label; ``atFault`` an admin's finding (MODERATION).

    ``note``: an admin's own words for the record of acts.
    """

    room_id: RoomId
    user_id: UserId
    reason: Reason
    at_fault: Literal["fan", "creator", "none"] | None = None
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Success(msgspec.Struct, frozen=True):
    """Forwarding to and from that user has stopped."""

    success: Literal[True] = True


@api.own("POST", "/api/rtc/grants", access=PARTY, body=GrantBody, answer=GrantAnswer, limits=(limits.GRANTS,),
         errors=("FORBIDDEN", "BLOCKED", "BARRED", "ROOM_NOT_FOUND", "STREAM_NOT_LIVE",
                 "UNAVAILABLE"))  # fmt: skip
def grant(call: Call[GrantBody]) -> GrantAnswer:
    """Ask for a permission to join one room once."""
    body, caller, settings = call.body, call.caller, call.house.settings
    assert caller is not None
    if caller.person is not None and body.user_id not in (None, caller.person.user_id):
        raise Forbidden("People ask for themselves only.")
    with call.house.database.reading() as tx:
        admission = rooms.admission(
            tx,
            person=caller.person,
            integrator_id=caller.integrator_id,
            room_id=body.room_id,
            role=body.role,
            now=call.now,
        )
    issued_at = call.now.timestamp()
    permission = Grant(
        jti=new_id(GRANT),
        room_id=admission.room_id,
        user_id=admission.user_id,
        display_name=admission.display_name,
        role=admission.role,
        publish=admission.publish,
        issued_at=issued_at,
        expires_at=issued_at + grants.LIFETIME_SECONDS,
        stream_url=_stream_url(call, admission),
    )
    return GrantAnswer(
        grant=grants.sign(permission, settings.key("grants")),
        user_id=admission.user_id,
        expires_at=_expiry(call),
        signaling_url="ws" + settings.origin.removeprefix("http") + SIGNALING_PATH,
        ice_servers=turn.ice_servers(settings, admission.user_id, issued_at),
    )


def _stream_url(call: Call[GrantBody], admission: Admission) -> str:
    """Where to watch without a seat. Who asked for nothing else is told why there is none; others may sit."""
    if admission.publish or call.caller is None:
        return ""
    try:
        seat = live.seat_for(admission.room_id, call.caller.person, call.now)
    except DomainError:
        if admission.role == "spectator":
            raise
        return ""
    return urljoin(call.house.settings.public_url, f"{live.address_of(seat, call.now).prefix}/{live.MASTER}")


def _expiry(call: Call[GrantBody]) -> str:
    return rfc3339(call.now + timedelta(seconds=grants.LIFETIME_SECONDS))


def _record_cut(tx: Session, call: Call[TerminateBody], caller: Caller) -> Ticket:
    """What is to happen, and, if an admin wants it, that they did."""
    body, now = call.body, utc_now()
    ticket = termination.terminate(
        tx,
        room_id=body.room_id,
        user_id=body.user_id,
        reason=body.reason,
        label_by=caller,
        at_fault=body.at_fault,
        now=now,
    )
    if caller.person is not None:
        operations.record(
            tx,
            caller.person.user_id,
            "participant_cut",
            body.room_id,
            body.note.strip() or body.reason,
            after={"userId": body.user_id, "reason": body.reason, "atFault": body.at_fault},
            cause_id=call.cause_id,
            now=now,
        )
    return ticket


@api.own("POST", "/api/rtc/terminate-stream", access=OPERATOR, body=TerminateBody, answer=Success,
         errors=("NOT_CONNECTED", "UNCONFIRMED"))  # fmt: skip
def terminate_stream(call: Call[TerminateBody]) -> Success:
    """Cut a user out of a room. Answers success only once the media process has stopped forwarding."""
    body, caller = call.body, call.caller
    assert caller is not None
    if body.at_fault is not None and caller.person is None:
        raise Forbidden("Only an admin says who was at fault.", field="atFault")
    # The service commits what is to happen; asking the node comes after, outside any transaction.
    ticket = call.house.database.run(lambda tx: _record_cut(tx, call, caller))
    if ticket.command is None or ticket.node_id is None:
        return _unless_another_forwards(call)
    reply = call.house.rpc.call(ticket.node_id, ticket.command, CONFIRM_SECONDS)
    answered = reply.code or "OK"
    log.event("terminate_answered", room_id=body.room_id, answer=answered, cause_id=call.cause_id)
    if reply.ok or reply.code == "NOT_CONNECTED":
        done = _unless_another_forwards(call)
        if reply.ok or ticket.already:
            return done
        message_id = ticket.command.message_id
        call.house.database.run(
            lambda tx: termination.not_connected(
                tx, room_id=body.room_id, user_id=body.user_id, message_id=message_id
            )
        )
        raise NotFound("That user is not in that room.", code="NOT_CONNECTED")
    raise Unconfirmed("The media node could not confirm it.")


def _unless_another_forwards(call: Call[TerminateBody]) -> Success:
    """Success, unless the room was moved and the node that had it before may not have let go."""
    with call.house.database.reading() as tx:
        if departures.may_linger(tx, call.body.room_id, utc_now()):
            raise Unconfirmed("The media node that had the room before has not confirmed it yet.")
    return Success()
