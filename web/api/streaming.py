"""Public streams, private streams: settings, requests, sessions. docs/contract.md §3, ``/api/streaming``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from sqlalchemy.orm import Session

from models.errors import NotFound
from models.services import accounts, offers, private_streams, sessions, streams
from models.services import blocks as blocking
from models.services.offers import CreatorOptions
from models.services.private_streams import (
    AcceptedView,
    CreatorRequestView,
    PrivateSettings,
    Quote,
    RequestView,
)
from models.services.sessions import ExtendedView, Receipt, SessionView
from models.services.streams import StreamView
from web import limits
from web.api.schema import ANYONE, CREATOR, FAN, SIGNED_IN, Access, Api, Call, Nothing, Query

api = Api("streaming")
CREATOR_OR_ADMIN = Access("its creator; admin", roles=frozenset({"creator", "admin"}))

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
# docs/money.md: requested minutes 1–240, rate 1–100,000, minimum 1–60.
Minutes = Annotated[int, msgspec.Meta(ge=1, le=240)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class SettingsBody(msgspec.Struct, frozen=True, rename="camel"):
    """How a creator sells private streams."""

    enabled: bool
    rate_per_minute: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    min_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)]
    auto_accept: Literal["manual", "all", "subscribers"]


class SettingsAnswer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A creator's settings; for a fan with the fan's own quote."""

    creator_id: str
    enabled: bool
    rate_per_minute: int
    min_minutes: int
    auto_accept: str
    quote: Quote | None = None


class OptionsBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a creator offers beside the plain private stream. Prices in tokens; null: not offered."""

    queue: bool
    request_priority: Literal["first_come", "subscribers_first", "highest_total"]
    per_minute: bool
    instant_unlock_price: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None
    subscription_price: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None
    subscription_minutes: Annotated[int, msgspec.Meta(ge=0, le=600)]
    subscriber_discount_percent: Annotated[int, msgspec.Meta(ge=0, le=90)]
    pass_price: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


class RequestBody(msgspec.Struct, frozen=True, rename="camel"):
    """A fan's wish; ``maxTotalCost`` is the total that the fan saw.

    With ``paymentMode`` ``per_minute`` the creator's minimum is held first and each next minute 20 s ahead.
    """

    creator_id: Id
    stream_id: Id
    minutes: Minutes
    max_total_cost: Tokens | None = None
    payment_mode: Literal["prepaid", "per_minute"] = "prepaid"
    instant_unlock: bool = False


class RequestId(msgspec.Struct, frozen=True, rename="camel"):
    """Names a request."""

    request_id: Id


class ExtendBody(msgspec.Struct, frozen=True, rename="camel"):
    """How many minutes more."""

    session_id: Id
    minutes: Minutes


class SessionId(msgspec.Struct, frozen=True, rename="camel"):
    """Names a session."""

    session_id: Id


class Requests(msgspec.Struct, frozen=True):
    """A creator's open requests, oldest first."""

    requests: tuple[CreatorRequestView, ...]


class Declined(msgspec.Struct, frozen=True):
    """The hold has been released."""

    status: Literal["declined"] = "declined"


class Cancelled(msgspec.Struct, frozen=True):
    """The hold has been released."""

    status: Literal["cancelled"] = "cancelled"


class Settling(msgspec.Struct, frozen=True):
    """The receipt follows at the session's address."""

    status: Literal["settling"] = "settling"


class GoLive(msgspec.Struct, frozen=True):
    """What the stream is called."""

    title: Annotated[str, msgspec.Meta(max_length=120)] = ""


class Streams(msgspec.Struct, frozen=True):
    """Who is live."""

    streams: tuple[StreamView, ...]


class Handle(msgspec.Struct, frozen=True):
    """Names a person."""

    handle: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class Blocked(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody on a creator's block list."""

    user_id: str
    handle: str
    display_name: str


class BlockList(msgspec.Struct, frozen=True):
    """A creator's block list."""

    blocked: tuple[Blocked, ...]


@api.read("/api/streaming/private-settings/<creator_id>", access=SIGNED_IN, answer=SettingsAnswer,
          query=(Query("minutes", "For the fan's own quote; the minimum when left out.", 1, 240),
                 Query("perMinute", "1: the quote is for paying minute by minute.", 0, 1),
                 Query("instantUnlock", "1: the quote is with the price of being accepted at once.", 0, 1)),
          errors=("NOT_FOUND",))  # fmt: skip
def private_settings(tx: Session, call: Call[Nothing]) -> SettingsAnswer:
    """A creator's private-stream settings; for a fan also the fan's own quote."""
    creator_id = call.path["creator_id"]
    found = private_streams.get_settings(tx, creator_id)
    person = call.person
    quote = None
    if "fan" in person.roles and person.user_id != creator_id:
        quote = private_streams.quote(
            tx,
            person.user_id,
            creator_id,
            call.query.get("minutes"),
            per_minute=call.query.get("perMinute") == 1,
            instant_unlock=call.query.get("instantUnlock") == 1,
            now=call.now,
        )
    return _settings_answer(found, quote)


@api.write("PUT", "/api/streaming/private-settings", access=CREATOR, body=SettingsBody, answer=SettingsAnswer)
def put_private_settings(tx: Session, call: Call[SettingsBody]) -> SettingsAnswer:
    """Save the caller's private-stream settings; open requests keep the price they were made at."""
    body = call.body
    saved = private_streams.put_settings(
        tx,
        call.person.user_id,
        enabled=body.enabled,
        rate_per_minute=body.rate_per_minute,
        min_minutes=body.min_minutes,
        auto_accept=body.auto_accept,
        now=call.now,
    )
    return _settings_answer(saved, None)


@api.read("/api/streaming/creator-options", access=CREATOR, answer=CreatorOptions)
def creator_options(tx: Session, call: Call[Nothing]) -> CreatorOptions:
    """The ways to pay, the queue and the subscription that the caller offers."""
    return offers.get_options(tx, call.person.user_id)


@api.write("PUT", "/api/streaming/creator-options", access=CREATOR, body=OptionsBody, answer=CreatorOptions)
def put_creator_options(tx: Session, call: Call[OptionsBody]) -> CreatorOptions:
    """Save what the caller offers; open requests and running subscriptions keep what they were promised."""
    options = msgspec.convert(call.body, CreatorOptions, from_attributes=True)
    return offers.put_options(tx, call.person.user_id, options)


@api.write("POST", "/api/streaming/private-request", access=FAN, body=RequestBody, answer=RequestView, status=201,
           idempotency="required", limits=(limits.PRIVATE_REQUEST,),
           errors=("INSUFFICIENT_TOKENS", "BLOCKED", "NOT_FOUND", "STREAM_NOT_LIVE", "PRIVATE_DISABLED",
                   "REQUEST_PENDING", "TOO_MANY_REQUESTS", "CREATOR_BUSY", "FAN_BUSY", "PRICE_CHANGED", "COOLDOWN",
                   "NOT_A_FAN", "OWN_STREAM", "SPENDING_CAP", "SPENDING_FROZEN", "NOT_OFFERED",
                   "CREATOR_UNAVAILABLE", "FAN_BOOKED"))  # fmt: skip
def private_request(tx: Session, call: Call[RequestBody]) -> RequestView:
    """Ask for a private stream; the whole price is held until it is answered."""
    body = call.body
    return private_streams.request(
        tx,
        fan=call.person,
        creator_id=body.creator_id,
        stream_id=body.stream_id,
        minutes=body.minutes,
        max_total_cost=body.max_total_cost,
        payment_mode=body.payment_mode,
        instant_unlock=body.instant_unlock,
        now=call.now,
        settings=call.house.settings,
        cause_id=call.cause_id,
    )


@api.read("/api/streaming/private-requests", access=CREATOR, answer=Requests)
def private_requests(tx: Session, call: Call[Nothing]) -> Requests:
    """The caller's open requests, oldest first."""
    return Requests(private_streams.requests_for(tx, call.person.user_id, call.now))


@api.read("/api/streaming/private-requests/<request_id>", access=SIGNED_IN, answer=RequestView,
          errors=("NOT_FOUND",))  # fmt: skip
def private_request_by_id(tx: Session, call: Call[Nothing]) -> RequestView:
    """One request, for its fan or its creator."""
    return private_streams.request_view(tx, call.path["request_id"], call.person)


@api.write("POST", "/api/streaming/private-accept", access=CREATOR, body=RequestId, answer=AcceptedView,
           errors=("NOT_FOUND", "REQUEST_NOT_PENDING", "CREATOR_BUSY", "STREAM_NOT_LIVE", "FAN_BUSY",
                   "FAN_AWAY", "CREATOR_UNAVAILABLE", "FAN_BOOKED"))  # fmt: skip
def private_accept(tx: Session, call: Call[RequestId]) -> AcceptedView:
    """Accept a request: the public stream ends for all others and the private room opens."""
    return private_streams.accept(
        tx, call.body.request_id, creator_id=call.person.user_id, now=call.now
    )


@api.write("POST", "/api/streaming/private-decline", access=CREATOR, body=RequestId, answer=Declined,
           errors=("NOT_FOUND", "REQUEST_NOT_PENDING"))  # fmt: skip
def private_decline(tx: Session, call: Call[RequestId]) -> Declined:
    """Decline a request; the fan's tokens are free again at once."""
    private_streams.decline(tx, call.body.request_id, creator_id=call.person.user_id, now=call.now)
    return Declined()


@api.write("POST", "/api/streaming/private-cancel", access=FAN, body=RequestId, answer=Cancelled,
           errors=("NOT_FOUND", "REQUEST_NOT_PENDING"))  # fmt: skip
def private_cancel(tx: Session, call: Call[RequestId]) -> Cancelled:
    """Take back a request that has not been answered; the tokens are free again at once."""
    private_streams.cancel(tx, call.body.request_id, fan_id=call.person.user_id, now=call.now)
    return Cancelled()


@api.write("POST", "/api/streaming/private-extend", access=FAN, body=ExtendBody, answer=ExtendedView,
           idempotency="required", limits=(limits.PRIVATE_EXTEND,),
           errors=("INSUFFICIENT_TOKENS", "NOT_FOUND", "SESSION_NOT_LIVE", "CREATOR_UNAVAILABLE", "FAN_BOOKED",
                   "SPENDING_CAP", "SPENDING_FROZEN"))  # fmt: skip
def private_extend(tx: Session, call: Call[ExtendBody]) -> ExtendedView:
    """Hold for more minutes of a running call at its rate; what does not reach it in time comes back."""
    return sessions.extend(
        tx,
        call.body.session_id,
        fan_id=call.person.user_id,
        minutes=call.body.minutes,
        key=call.key or call.cause_id,
        now=call.now,
    )


@api.write("POST", "/api/streaming/private-end", access=SIGNED_IN, body=SessionId, answer=Settling, status=202,
           errors=("NOT_FOUND", "SESSION_NOT_LIVE"))  # fmt: skip
def private_end(tx: Session, call: Call[SessionId]) -> Settling:
    """End a session, as its fan or its creator. What is billed follows the end table."""
    sessions.end(tx, call.body.session_id, by_person_id=call.person.user_id, now=call.now)
    return Settling()


@api.read("/api/streaming/private-sessions/<session_id>", access=SIGNED_IN, answer=(SessionView, Receipt),
          errors=("NOT_FOUND",))  # fmt: skip
def private_session(tx: Session, call: Call[Nothing]) -> SessionView | Receipt:
    """A session of the caller's, live; its receipt once it has ended."""
    return sessions.session_view(tx, call.path["session_id"], call.person.user_id)


@api.write("POST", "/api/streaming/streams", access=CREATOR, body=GoLive, answer=StreamView, status=201,
           errors=("ALREADY_LIVE", "NOT_A_CREATOR", "NO_MEDIA_NODE"))  # fmt: skip
def go_live(tx: Session, call: Call[GoLive]) -> StreamView:
    """Go live."""
    return streams.go_live(tx, call.person, title=call.body.title, now=call.now)


@api.read("/api/streaming/streams", access=ANYONE, answer=Streams)
def list_streams(tx: Session, call: Call[Nothing]) -> Streams:
    """Everybody who is live."""
    return Streams(streams.list_streams(tx))


@api.write("DELETE", "/api/streaming/streams/<stream_id>", access=CREATOR_OR_ADMIN, answer=StreamView,
           errors=("NOT_FOUND", "STREAM_NOT_LIVE"))  # fmt: skip
def end_stream(tx: Session, call: Call[Nothing]) -> StreamView:
    """End a stream: its room closes and open requests are released."""
    return streams.end_stream(tx, call.path["stream_id"], call.person, call.now)


@api.write("POST", "/api/streaming/streams/<stream_id>/resume", access=CREATOR, answer=StreamView,
           errors=("NOT_FOUND", "STREAM_NOT_LIVE", "STREAM_NOT_PRIVATE", "SESSION_LIVE",
                   "NO_MEDIA_NODE"))  # fmt: skip
def resume_stream(tx: Session, call: Call[Nothing]) -> StreamView:
    """Go back to public after a private session; the room's address stays the same."""
    return streams.resume_public(tx, call.path["stream_id"], call.person, call.now)


@api.read("/api/streaming/blocks", access=CREATOR, answer=BlockList)
def blocks(tx: Session, call: Call[Nothing]) -> BlockList:
    """The caller's block list."""
    return _block_list(tx, call.person.user_id)


@api.write("POST", "/api/streaming/blocks", access=CREATOR, body=Handle, answer=BlockList, errors=("NOT_FOUND",))
def block(tx: Session, call: Call[Handle]) -> BlockList:
    """Take no more requests from somebody."""
    blocking.block(tx, call.person.user_id, _fan_id(tx, call.body.handle), call.now)
    return _block_list(tx, call.person.user_id)


@api.write("DELETE", "/api/streaming/blocks/<handle>", access=CREATOR, answer=BlockList, errors=("NOT_FOUND",))
def unblock(tx: Session, call: Call[Nothing]) -> BlockList:
    """Take requests from somebody again."""
    accounts.unblock(tx, call.person.user_id, _fan_id(tx, call.path["handle"]))
    return _block_list(tx, call.person.user_id)


def _block_list(tx: Session, creator_id: str) -> BlockList:
    return BlockList(
        tuple(
            Blocked(person.user_id, person.handle, person.display_name)
            for person in accounts.blocked(tx, creator_id)
        )
    )


def _fan_id(tx: Session, handle: str) -> str:
    person = accounts.find_by_handle(tx, handle)
    if person is None:
        raise NotFound("There is nobody of that handle.")
    return person.user_id


def _settings_answer(settings: PrivateSettings, quote: Quote | None) -> SettingsAnswer:
    return SettingsAnswer(
        creator_id=settings.creator_id,
        enabled=settings.enabled,
        rate_per_minute=settings.rate_per_minute,
        min_minutes=settings.min_minutes,
        auto_accept=settings.auto_accept,
        quote=quote,
    )
