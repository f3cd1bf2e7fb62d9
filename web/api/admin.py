"""What admins may do, as calls: dead letters, people, integrators, audits, complaints, refunds. Admins only.

Every act is recorded with its reason in the transaction that does it (``services.operations``). Cutting
somebody out of a room is ``/api/rtc/terminate-stream``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from sqlalchemy.orm import Session

from models.services import (
    accounts,
    audits,
    complaints,
    dead_letters,
    moderation,
    nodes,
    operations,
    processes,
    queues,
    refunds,
    trace,
)
from models.services.audits import AuditRun
from models.services.complaints import ComplaintView
from models.services.dead_letters import Letter, OpenLetter
from models.services.moderation import By, PersonCase
from models.services.nodes import Node
from models.services.operations import Act
from models.services.processes import Process
from models.services.queues import Outbox, Queue
from models.services.refunds import RefundView
from models.services.trace import Trace
from web import limits
from web.api.schema import Access, Api, Call, Nothing, Query

api = Api("admin")

ADMIN = Access("admin", roles=frozenset({"admin"}))
MOST_LETTERS = 200
_LIMITS = (limits.ADMIN_ACTS,)
_LATEST = (Query("limit", "How many, the latest first.", 1, 500),)

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=600)]
MessageId = Annotated[str, msgspec.Meta(min_length=1, max_length=96)]


class QueuesAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """How the messages are doing. ``deadLetters``: how many of each status."""

    at: datetime
    queues: tuple[Queue, ...]
    outbox: Outbox
    dead_letters: dict[str, int]
    processes: tuple[Process, ...]


class LettersAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """Dead letters that wait for a decision."""

    letters: tuple[Letter, ...]


class LettersBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which letters, and why."""

    message_ids: Annotated[tuple[MessageId, ...], msgspec.Meta(min_length=1, max_length=MOST_LETTERS)]
    reason: Reason


class DoneAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The letters that were changed; one that was so already is not among them."""

    message_ids: tuple[str, ...]


class ReasonBody(msgspec.Struct, frozen=True):
    """Why; it is kept."""

    reason: Reason


class RolesBody(msgspec.Struct, frozen=True):
    """Exactly these roles, and why."""

    roles: tuple[Literal["fan", "creator", "admin"], ...]
    reason: Reason


class IntegratorBody(msgspec.Struct, frozen=True, rename="camel"):
    """Whose program it is, what it may do, and why."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    scopes: tuple[str, ...]
    reason: Reason


class IntegratorAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The only time that the token is seen."""

    token_id: str
    token: str


class DecideBody(msgspec.Struct, frozen=True, rename="camel"):
    """How many tokens the fan gets back (0: the bill stands), and why; both sides read it."""

    refund_tokens: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
    reason: Reason


class RefundBody(msgspec.Struct, frozen=True):
    """How many tokens the fan gets back; left out: all that is left. ``reason`` stands on the receipt's page."""

    reason: Reason
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] | None = None


class NodesAnswer(msgspec.Struct, frozen=True):
    """Every media node that was ever heard of, the latest first."""

    nodes: tuple[Node, ...]


class ActsAnswer(msgspec.Struct, frozen=True):
    """What admins did, the latest first."""

    acts: tuple[Act, ...]


# --- messages ----------------------------------------------------------------------------------------


@api.read("/api/admin/queues", access=ADMIN, answer=QueuesAnswer)
def admin_queues(tx: Session, call: Call[Nothing]) -> QueuesAnswer:
    """Queues, outbox, dead letters and processes now."""
    return QueuesAnswer(
        at=call.now,
        queues=queues.queues(tx, call.now),
        outbox=queues.outbox_depth(tx, call.now),
        dead_letters=dead_letters.counts(tx),
        processes=processes.processes(tx, call.now),
    )


@api.read("/api/admin/dead-letters", access=ADMIN, answer=LettersAnswer, query=_LATEST)
def admin_dead_letters(tx: Session, call: Call[Nothing]) -> LettersAnswer:
    """Letters that wait for somebody to decide."""
    return LettersAnswer(letters=dead_letters.letters(tx, "waiting", call.query.get("limit", 100)))


@api.read("/api/admin/dead-letters/<message_id>", access=ADMIN, answer=OpenLetter, errors=("NOT_FOUND",))
def admin_dead_letter(tx: Session, call: Call[Nothing]) -> OpenLetter:
    """One letter with its payload and its traceback; secrets in them are hidden."""
    return dead_letters.letter(tx, call.path["message_id"])


@api.write("POST", "/api/admin/dead-letters/requeue", access=ADMIN, body=LettersBody, answer=DoneAnswer,
           limits=_LIMITS, errors=("NOT_FOUND", "LETTER_UNREADABLE"))  # fmt: skip
def admin_requeue(tx: Session, call: Call[LettersBody]) -> DoneAnswer:
    """Run letters again under their own ids, all or none. What was done after all is not done twice."""
    done = dead_letters.requeue(
        tx,
        call.body.message_ids,
        admin_id=call.person.user_id,
        reason=call.body.reason,
        cause_id=call.cause_id,
        now=call.now,
    )
    return DoneAnswer(message_ids=done)


@api.write("POST", "/api/admin/dead-letters/discard", access=ADMIN, body=LettersBody, answer=DoneAnswer,
           limits=_LIMITS, errors=("NOT_FOUND", "LETTER_REQUEUED"))  # fmt: skip
def admin_discard(tx: Session, call: Call[LettersBody]) -> DoneAnswer:
    """Throw letters away, all or none. They stay readable, and can still be run again."""
    done = dead_letters.discard(
        tx,
        call.body.message_ids,
        admin_id=call.person.user_id,
        reason=call.body.reason,
        cause_id=call.cause_id,
        now=call.now,
    )
    return DoneAnswer(message_ids=done)


# --- media nodes -------------------------------------------------------------------------------------


@api.read("/api/admin/nodes", access=ADMIN, answer=NodesAnswer)
def admin_nodes(tx: Session, call: Call[Nothing]) -> NodesAnswer:
    """The media nodes: their state, their rooms, how many participants they have and take."""
    return NodesAnswer(nodes=nodes.nodes(tx, call.now))


@api.write("POST", "/api/admin/nodes/<node_id>/drain", access=ADMIN, body=ReasonBody, answer=Nothing,
           limits=_LIMITS, errors=("NOT_FOUND",))  # fmt: skip
def admin_drain(tx: Session, call: Call[ReasonBody]) -> Nothing:
    """Place no new room on a media node, in its later lives neither. What it has goes on to its end."""
    nodes.drain(tx, call.path["node_id"], call.now)
    return _noted(tx, call, "node_drained")


@api.write("POST", "/api/admin/nodes/<node_id>/undrain", access=ADMIN, body=ReasonBody, answer=Nothing,
           limits=_LIMITS, errors=("NOT_FOUND",))  # fmt: skip
def admin_undrain(tx: Session, call: Call[ReasonBody]) -> Nothing:
    """Place rooms on a media node again."""
    nodes.undrain(tx, call.path["node_id"])
    return _noted(tx, call, "node_undrained")


def _noted(tx: Session, call: Call[ReasonBody], act: str) -> Nothing:
    operations.record(
        tx, call.person.user_id, act, call.path["node_id"], call.body.reason, cause_id=call.cause_id, now=call.now
    )
    return Nothing()


# --- people ------------------------------------------------------------------------------------------


@api.read("/api/admin/people/<user_id>", access=ADMIN, answer=PersonCase, errors=("NOT_FOUND",))
def admin_person(tx: Session, call: Call[Nothing]) -> PersonCase:
    """One person as admins see them."""
    return moderation.case_of(tx, call.path["user_id"])


@api.write("POST", "/api/admin/people/<user_id>/freeze", access=ADMIN, body=ReasonBody, answer=PersonCase,
           limits=_LIMITS, errors=("NOT_FOUND",))  # fmt: skip
def admin_freeze(tx: Session, call: Call[ReasonBody]) -> PersonCase:
    """Freeze a person's spending; open requests are closed and their tokens come back."""
    return moderation.freeze(tx, call.path["user_id"], _by(call, call.body.reason))


@api.write("POST", "/api/admin/people/<user_id>/unfreeze", access=ADMIN, body=ReasonBody, answer=PersonCase,
           limits=_LIMITS, errors=("NOT_FOUND", "OWN_ACCOUNT"))  # fmt: skip
def admin_unfreeze(tx: Session, call: Call[ReasonBody]) -> PersonCase:
    """Let a person spend again, whatever froze it."""
    return moderation.unfreeze(tx, call.path["user_id"], _by(call, call.body.reason))


@api.own("POST", "/api/admin/people/<user_id>/lock", access=ADMIN, body=ReasonBody, answer=PersonCase,
         limits=_LIMITS, errors=("NOT_FOUND", "OWN_ACCOUNT", "LAST_ADMIN"))  # fmt: skip
def admin_lock(call: Call[ReasonBody]) -> PersonCase:
    """Lock a person's sign-in; their sign-ins and public stream end. A running call goes on to its end."""
    user_id, by = call.path["user_id"], _by(call, call.body.reason)
    case = call.house.database.run(lambda tx: moderation.lock(tx, user_id, by))
    call.house.hub.recheck(user_id)
    return case


@api.write("POST", "/api/admin/people/<user_id>/unlock", access=ADMIN, body=ReasonBody, answer=PersonCase,
           limits=_LIMITS, errors=("NOT_FOUND",))  # fmt: skip
def admin_unlock(tx: Session, call: Call[ReasonBody]) -> PersonCase:
    """Let a person sign in again."""
    return moderation.unlock(tx, call.path["user_id"], _by(call, call.body.reason))


@api.write("PUT", "/api/admin/people/<user_id>/roles", access=ADMIN, body=RolesBody, answer=PersonCase,
           limits=_LIMITS, errors=("NOT_FOUND", "OWN_ACCOUNT", "LAST_ADMIN", "PERSON_BUSY"))  # fmt: skip
def admin_roles(tx: Session, call: Call[RolesBody]) -> PersonCase:
    """Give a person exactly these roles."""
    return moderation.set_roles(tx, call.path["user_id"], call.body.roles, _by(call, call.body.reason))


# --- integrators -------------------------------------------------------------------------------------


# No Idempotency-Key: the first answer would have to be kept, and with it the token.
@api.write("POST", "/api/admin/integrators", status=201, idempotency="none", access=ADMIN, body=IntegratorBody,
           answer=IntegratorAnswer, limits=_LIMITS)  # fmt: skip
def admin_create_integrator(tx: Session, call: Call[IntegratorBody]) -> IntegratorAnswer:
    """Make an integrator's token. It is shown this once."""
    body = call.body
    token_id, token = accounts.create_integrator_token(tx, body.name, body.scopes, call.now)
    after = {"name": body.name.strip(), "scopes": sorted(set(body.scopes))}
    operations.record(
        tx, call.person.user_id, "integrator_created", token_id, body.reason, after=after,
        cause_id=call.cause_id, now=call.now,
    )  # fmt: skip
    return IntegratorAnswer(token_id=token_id, token=token)


@api.write("POST", "/api/admin/integrators/<token_id>/revoke", access=ADMIN, body=ReasonBody, answer=Nothing,
           limits=_LIMITS, errors=("NOT_FOUND",))  # fmt: skip
def admin_revoke_integrator(tx: Session, call: Call[ReasonBody]) -> Nothing:
    """Make an integrator's token worthless at once."""
    token_id = call.path["token_id"]
    accounts.revoke_token(tx, token_id, call.now)
    operations.record(
        tx, call.person.user_id, "integrator_revoked", token_id, call.body.reason, cause_id=call.cause_id,
        now=call.now,
    )  # fmt: skip
    return Nothing()


# --- the books ---------------------------------------------------------------------------------------


@api.write("POST", "/api/admin/audits", status=202, access=ADMIN, answer=AuditRun, limits=_LIMITS)
def admin_audit(tx: Session, call: Call[Nothing]) -> AuditRun:
    """Have the books audited now; the clock does it, the result follows at the audit's address."""
    admin_id = call.person.user_id
    run = audits.ask(tx, asked_by=admin_id, now=call.now)
    operations.record(
        tx, admin_id, "audit_asked", run.audit_id, "Audit now", cause_id=call.cause_id, now=call.now
    )
    return run


@api.read("/api/admin/audits/<audit_id>", access=ADMIN, answer=AuditRun, errors=("NOT_FOUND",))
def admin_audit_run(tx: Session, call: Call[Nothing]) -> AuditRun:
    """An audit and, once it has run, its result."""
    return audits.run_of(tx, call.path["audit_id"])


@api.read("/api/admin/trace/<reference>", access=ADMIN, answer=Trace)
def admin_trace(tx: Session, call: Call[Nothing]) -> Trace:
    """One wish from the click to the payout, by any id of it: request, session, cause, transfer, purchase."""
    return trace.trace(tx, call.path["reference"], call.now)


@api.write("POST", "/api/admin/complaints/<complaint_id>/decide", idempotency="required", access=ADMIN,
           body=DecideBody, answer=ComplaintView, limits=_LIMITS,
           errors=("NOT_FOUND", "OWN_ACCOUNT", "COMPLAINT_DECIDED", "NOT_REVERSIBLE"))  # fmt: skip
def admin_decide(tx: Session, call: Call[DecideBody]) -> ComplaintView:
    """Decide a complaint: give tokens back, or let the bill stand. Once."""
    complaint_id, body, admin_id = call.path["complaint_id"], call.body, call.person.user_id
    decided = complaints.decide(
        tx, complaint_id, admin_id=admin_id, refund_tokens=body.refund_tokens, reason=body.reason,
        cause_id=call.cause_id, now=call.now,
    )  # fmt: skip
    operations.record(
        tx, admin_id, f"complaint_{decided.status}", complaint_id, body.reason,
        after={"sessionId": decided.session_id, "refundTokens": body.refund_tokens},
        cause_id=call.cause_id, now=call.now,
    )  # fmt: skip
    return decided


@api.write("POST", "/api/admin/sessions/<session_id>/refund", idempotency="required", access=ADMIN,
           body=RefundBody, answer=RefundView, limits=_LIMITS,
           errors=("NOT_FOUND", "OWN_ACCOUNT", "NOT_REVERSIBLE"))  # fmt: skip
def admin_refund(tx: Session, call: Call[RefundBody]) -> RefundView:
    """Give tokens of an ended session back to its fan: from the creator's earnings and our commission."""
    session_id, body, admin_id = call.path["session_id"], call.body, call.person.user_id
    given = refunds.give(
        tx, session_id, by_id=admin_id, side="admin", tokens=body.tokens, reason=body.reason,
        key=f"{admin_id}:{call.key}", cause_id=call.cause_id, now=call.now,
    )  # fmt: skip
    operations.record(
        tx, admin_id, "session_refunded", session_id, body.reason, after={"tokens": given.tokens},
        cause_id=call.cause_id, now=call.now,
    )  # fmt: skip
    return given


@api.read("/api/admin/acts", access=ADMIN, answer=ActsAnswer, query=_LATEST)
def admin_acts(tx: Session, call: Call[Nothing]) -> ActsAnswer:
    """The record of what admins did."""
    return ActsAnswer(acts=operations.acts(tx, limit=call.query.get("limit", 100)))


def _by(call: Call[ReasonBody] | Call[RolesBody], reason: str) -> By:
    return By(admin_id=call.person.user_id, reason=reason, cause_id=call.cause_id, now=call.now)
