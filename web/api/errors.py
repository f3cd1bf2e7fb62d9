"""Refusals as ``application/problem+json`` (RFC 9457): one table of codes, one translation.

``CODES`` is the list that ``docs/errors.md`` and the API reference are made from. Knows no call.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from flask import Response

from models import errors
from models.errors import Detail, DomainError
from web.context import cause_id

PROBLEM_TYPE = "application/problem+json"


class Code(NamedTuple):
    """What clients rely on."""

    status: int
    meaning: str


CODES: dict[str, Code] = {
    "BAD_REQUEST": Code(400, "The request is not one that this address understands."),
    "BAD_JSON": Code(400, "The body is not JSON (RFC 8259) in UTF-8."),
    "BAD_SIGNATURE": Code(400, "The webhook is not signed by the payment provider, or is too old."),
    "BAD_EVENT": Code(400, "The webhook's body is no event."),
    "UNAUTHENTICATED": Code(401, "Nobody is signed in, or the credentials are wrong."),
    "INSUFFICIENT_TOKENS": Code(402, "Not enough free tokens. Carries `required` and `balance`."),
    "CARD_DECLINED": Code(402, "The card was declined; nothing was credited. Carries `purchaseId`."),
    "NO_SAVED_CARD": Code(402, "There is no saved card to charge. Carries `purchaseId`."),
    "PURCHASE_LIMIT": Code(403, "A new buyer may spend only so much a day. Carries `limitMinor`, `spentMinor`."),
    "FORBIDDEN": Code(403, "Known who asks, and they may not."),
    "NOT_A_CREATOR": Code(403, "Only creators do this."),
    "SPENDING_FROZEN": Code(403, "A payment of this person was found bad; nothing may be spent."),
    "SPENDING_CAP": Code(403, "The fan's own daily limit would be passed. Carries `cap` and `spent`."),
    "BARRED": Code(403, "This user was cut out of this room, until it closes."),
    "NOT_A_FAN": Code(403, "Only fans ask for private streams, tip and subscribe."),
    "OWN_STREAM": Code(403, "Nobody asks, tips or subscribes to themselves."),
    "ADDRESS_EXPIRED": Code(403, "A spectator's signed address has run out; ask for the next one."),
    "PREMIUM_ONLY": Code(403, "This quality is for subscribers and for who has a pass."),
    "BLOCKED": Code(403, "The creator takes neither requests nor tokens from this fan."),
    "ACCOUNT_LOCKED": Code(403, "An admin has locked this account's sign-in."),
    "OWN_ACCOUNT": Code(403, "No admin locks themselves out or takes their own admin role."),
    "CSRF_FAILED": Code(403, "The `X-CSRFToken` header (or form field) is missing or not this session's."),
    "ORIGIN_REFUSED": Code(403, "The page that sent this is not ours and not on the allow-list."),
    "NOT_FOUND": Code(404, "No such thing, or none that the caller may know of."),
    "NOT_CONNECTED": Code(404, "That user is not in that room."),
    "NOT_ACCEPTABLE": Code(406, "The answer would be of a kind that `Accept` does not name."),
    "SEAT_TAKEN": Code(409, "The same person took the seat elsewhere meanwhile, or the room has ended."),
    "TOO_MANY_KEYS": Code(409, "As many stream keys exist as one may have. Carries `limit`."),
    "PRECONDITION_FAILED": Code(412, "`If-Match` names an ICE session that is not the present one."),
    "SDP_UNUSABLE": Code(422, "The session description is malformed, or has nothing that can be carried."),
    "PRECONDITION_REQUIRED": Code(428, "A PATCH needs `If-Match`."),
    "ROOM_FULL": Code(503, "Every seat in the room is taken; `Retry-After` says when to look again."),
    "METHOD_NOT_ALLOWED": Code(405, "The address exists and does not take this method."),
    "ROOM_NOT_FOUND": Code(404, "No such room, or none that the caller may know of."),
    "CONFLICT": Code(409, "The state moved on; look again."),
    "LAST_ADMIN": Code(409, "The last admin who can sign in stays one."),
    "PERSON_BUSY": Code(409, "A role that would go is in use: a stream, request or call is open."),
    "LETTER_UNREADABLE": Code(409, "No worker can be called with this dead letter. Carries `messageId`."),
    "LETTER_REQUEUED": Code(409, "This dead letter is being run again. Carries `messageId`."),
    "EMAIL_TAKEN": Code(409, "The e-mail has an account already."),
    "HANDLE_TAKEN": Code(409, "The handle belongs to somebody else."),
    "ALREADY_LIVE": Code(409, "The creator is live already. Carries `streamId`."),
    "STREAM_NOT_LIVE": Code(409, "The stream is not public right now, or has ended."),
    "STREAM_NOT_PRIVATE": Code(409, "The stream is public already."),
    "SESSION_LIVE": Code(409, "A private session is still running. Carries `sessionId`."),
    "SESSION_NOT_LIVE": Code(409, "The session has ended or is ending."),
    "PRIVATE_DISABLED": Code(409, "The creator takes no private requests now."),
    "NOT_OFFERED": Code(409, "The creator does not offer this way to pay. `field` names it."),
    "REQUEST_PENDING": Code(409, "The fan has an open request with this creator. Carries `requestId`."),
    "TOO_MANY_REQUESTS": Code(409, "The fan has as many open requests as one may have. Carries `limit`."),
    "REQUEST_NOT_PENDING": Code(409, "The request was answered, taken back, or has expired."),
    "CREATOR_BUSY": Code(409, "The creator is in a private session."),
    "PRICE_CHANGED": Code(409, "The total is higher than `maxTotalCost`. Carries `totalCost`."),
    "ALREADY_SUBSCRIBED": Code(409, "The fan has a subscription to this creator that is paid for."),
    "SUBSCRIPTION_NOT_OFFERED": Code(409, "The creator offers no subscription now."),
    "SUBSCRIPTION_ENDED": Code(409, "The subscription, or the month that was paid for, is over."),
    "PASS_NOT_OFFERED": Code(409, "The creator offers no pass now."),
    "PASS_ACTIVE": Code(409, "The fan has a pass for this creator. Carries `endsAt`."),
    "IN_BATTLE": Code(409, "The creator is in a battle that is not over. May carry `battleId`."),
    "BATTLE_CLOSED": Code(409, "The battle has begun, or is over."),
    "BATTLE_FULL": Code(409, "Every place in the battle is taken."),
    "TOO_FEW_CREATORS": Code(409, "A battle begins with two creators or more."),
    "SIDE_GONE": Code(409, "That creator has left the battle."),
    "FAN_BUSY": Code(409, "The fan is in another private session."),
    "FAN_AWAY": Code(409, "The fan's event feed has been gone for a while."),
    "NOT_YOUR_TURN": Code(409, "The request waits in the queue; others are before it."),
    "CREATOR_UNAVAILABLE": Code(409, "It would run into a booking of the creator's. May carry `startsAt`."),
    "FAN_BOOKED": Code(409, "It would run into a booking of the fan's. May carry `startsAt`."),
    "SLOT_OVERLAPS": Code(409, "Two times need five minutes between them. Carries `startsAt`."),
    "TOO_MANY_SLOTS": Code(409, "As many times are open as may be at once. Carries `limit`."),
    "SLOT_BOOKED": Code(409, "The time is booked. Carries `bookingId`, which can be cancelled."),
    "SLOT_TAKEN": Code(409, "Somebody else has booked this time."),
    "SLOT_CLOSED": Code(409, "The time begins too soon to be booked."),
    "TOO_MANY_BOOKINGS": Code(409, "The fan has as many bookings as one may have. Carries `limit`."),
    "BOOKING_CLOSED": Code(409, "The booking has started, or was cancelled or released."),
    "BOOKING_FIXED": Code(409, "Too late for the fan to cancel. Carries `cancelUntil`."),
    "HOLD_CLOSED": Code(409, "These tokens were settled or released already."),
    "PAYOUTS_FROZEN": Code(403, "Payouts of this account are stopped until a question about it is cleared up."),
    "DEBT_FIRST": Code(409, "What is owed back comes first. Carries `payable` and `minimum`."),
    "PAYOUT_PENDING": Code(409, "A payout is on its way. Carries `payable` and `minimum`."),
    "BELOW_MINIMUM": Code(409, "Less than the smallest payout is payable. Carries `payable` and `minimum`."),
    "NO_PAYOUT_ACCOUNT": Code(409, "The payment provider does not know yet where the money goes."),
    "OTHER_GATEWAY": Code(409, "That was begun at another payment provider."),
    "COMPLAINT_MADE": Code(409, "One complaint for each side of a session."),
    "COMPLAINT_LATE": Code(409, "More than 48 hours since the receipt."),
    "COMPLAINT_DECIDED": Code(409, "The complaint has been decided."),
    "NOT_REVERSIBLE": Code(409, "The transfer cannot be reversed."),
    "NOT_UNSPENT": Code(409, "Fewer tokens of that purchase are unspent. Carries `unspent`."),
    "NOT_REFUNDABLE": Code(409, "That purchase was not paid, or its payment was taken back."),
    "GATEWAY_REFUSED": Code(502, "The payment provider refuses what we asked. Carries `reason`."),
    "RECORDING_NOT_OFFERED": Code(409, "The creator offers no recordings."),
    "RECORDING_OVER": Code(409, "The call's recording was stopped; it is not begun twice."),
    "RECORDING_TERMS_CHANGED": Code(409, "The terms are others. Carries `price`, `shared`, `keepDays`."),
    "RECORDING_NOT_READY": Code(409, "The recording is still running, or not complete yet."),
    "RECORDING_FREE": Code(409, "The recording costs nothing."),
    "RECORDING_NOT_SHARED": Code(403, "The creator keeps this recording to themselves."),
    "RECORDING_UNPAID": Code(402, "The recording is to be paid for first."),
    "RECORDING_GONE": Code(410, "The recording was deleted, has expired, or was lost."),
    "RECORDING_UNAVAILABLE": Code(503, "The recording's file cannot be reached now. Nothing was paid."),
    "NO_RECORDING_SPACE": Code(503, "There is no room on the disk for recordings now."),
    "NOT_SETTLED": Code(409, "Nothing was paid for that, or not yet."),
    "IN_PROGRESS": Code(409, "The first call under this `Idempotency-Key` is still at work."),
    "BODY_TOO_LARGE": Code(413, "The body is over 256 KiB."),
    "UNSUPPORTED_MEDIA_TYPE": Code(415, "A body must be `application/json`."),
    "INVALID": Code(422, "A value is missing, of the wrong type or out of range. `field` names it."),
    "IDEMPOTENCY_KEY_REUSED": Code(422, "The `Idempotency-Key` came with another body before."),
    "IDEMPOTENCY_KEY_REQUIRED": Code(428, "Calls that move tokens need an `Idempotency-Key` header."),
    "RATE_LIMITED": Code(429, "Too many. `Retry-After` says when to try again."),
    "COOLDOWN": Code(429, "Two requests in a row were declined or taken back; `Retry-After` says when."),
    "INTERNAL": Code(500, "Our mistake. The `traceId` finds it in our logs."),
    "UNAVAILABLE": Code(503, "Something that we depend on does not answer. Nothing was changed."),
    "NO_MEDIA_NODE": Code(503, "No media node is ready; try again in a moment."),
    "ROOM_OPENING": Code(503, "The room is about to open; signaling waits for it, then says `UNAVAILABLE`."),
    "UNCONFIRMED": Code(504, "Recorded and going to be carried out, but not confirmed in time. Retry is safe."),
}

_STATUS: dict[type[DomainError], int] = {
    errors.Invalid: 422,
    errors.Unauthenticated: 401,
    errors.PaymentRequired: 402,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.RateLimited: 429,
    errors.Unavailable: 503,
    errors.Unconfirmed: 504,
}
# RFC 9457 has its own meaning for this member.
_TAKEN = {"status": "state"}
_HTTP_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "RATE_LIMITED",
    503: "UNAVAILABLE",
}


class Refusal(DomainError):
    """A refusal that only the edge knows, with its HTTP status."""

    def __init__(self, status: int, detail: str, *, code: str, **fields: Detail) -> None:
        super().__init__(detail, code=code, **fields)
        self.status = status


def status_of(error: DomainError) -> int:
    """The HTTP status of a refusal."""
    if isinstance(error, Refusal):
        return error.status
    if error.code in CODES:
        return CODES[error.code].status
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 400


def code_of_status(status: int) -> str:
    """The code of a refusal that HTTP itself made."""
    return _HTTP_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL")


def problem(status: int, code: str, detail: str, /, **fields: Detail) -> Response:
    """A problem document; ``fields`` become members in camelCase."""
    members: dict[str, Detail] = {_TAKEN.get(name, camel(name)): value for name, value in fields.items()}
    body: dict[str, Detail] = members | {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "traceId": cause_id(),
    }
    response = Response(msgspec.json.encode(body), status, content_type=PROBLEM_TYPE)
    if (seconds := fields.get("retry_after_seconds")) is not None:
        response.headers["Retry-After"] = str(seconds)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(error: DomainError) -> Response:
    """The problem document of a refusal."""
    return problem(status_of(error), error.code, error.detail, **error.fields)


def camel(name: str) -> str:
    """``retry_after_seconds`` as ``retryAfterSeconds``."""
    return re.sub(r"_([a-z0-9])", lambda match: match.group(1).upper(), name)
