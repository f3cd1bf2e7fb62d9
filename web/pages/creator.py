"""/models/<handle>: a creator's page. Watching, and asking for a private stream."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import msgspec
from flask import abort, render_template, request
from sqlalchemy.orm import Session

from models import end_words
from models.agenda import agenda_for
from models.clock import utc_now
from models.services import accounts, battle_views, private_streams, queueing, streams
from models.services.accounts import Person
from web import live
from web.auth import current_person
from web.pages import blueprint, bookings, patrons, wording
from web.pages.deps import database, timers

Kind = Literal["anon", "fan", "owner", "other"]


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fan's request that waits for an answer; remaining time instead of a moment, for clocks differ."""

    request_id: str
    minutes: int
    total_cost: int
    included_minutes: int
    remaining_ms: int
    status: str
    position: int | None
    turn: bool


class PageData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What js/pages/creator.js starts from."""

    creator_id: str
    handle: str
    display_name: str
    kind: Kind
    state: str
    stream_id: str | None
    room_id: str | None
    enabled: bool
    rate_per_minute: int
    min_minutes: int
    answer_ms: int
    turn_ms: int
    queue: bool
    request: OpenRequest | None


@blueprint.get("/models/<handle>")
def creator(handle: str) -> str:
    """The page; with ``?part=terms`` only the end table at today's price."""
    viewer = current_person()
    with database().reading() as tx:
        person = accounts.find_by_handle(tx, handle)
        if person is None or "creator" not in person.roles:
            abort(404)
        stream = streams.stream_of(tx, person.user_id)
        offer = private_streams.get_settings(tx, person.user_id)
        kind = _kind(viewer, person)
        waiting = private_streams.open_request_of(tx, viewer.user_id, person.user_id) if viewer else None
        booking = bookings.creator_context(tx, viewer, person.user_id)
        on_air = [stream.room_id] if stream and stream.status == "live" else []
        pictures = live.posters(tx, on_air, viewer, utc_now())
        queue = stream is not None and queueing.is_open(tx, stream.stream_id, person.user_id)
        battle_id = battle_views.running_of(tx, person.user_id)
        patronage = patrons.creator_context(tx, viewer, person.user_id)
        fan = viewer if kind == "fan" else None
        terms = _terms(tx, fan, offer)
        own = private_streams.quote(tx, fan.user_id, person.user_id, None, now=utc_now()) if fan else None
    if request.args.get("part") == "terms":
        return render_template("partials/terms.html", terms=terms)
    if request.args.get("part") == "subscription":
        return render_template(
            "partials/subscribe_card.html", creator=person, kind=kind, auto_accept=offer.auto_accept, **patronage
        )
    if request.args.get("part") == "pass":
        return render_template("partials/pass_card.html", creator=person, kind=kind, **patronage)
    status = stream.status if stream and stream.status in ("live", "private") else "offline"
    state = "waiting" if waiting else status
    page = PageData(
        creator_id=person.user_id,
        handle=person.handle,
        display_name=person.display_name,
        kind=kind,
        state=state,
        stream_id=stream.stream_id if stream else None,
        room_id=stream.room_id if stream else None,
        enabled=offer.enabled,
        rate_per_minute=offer.rate_per_minute,
        min_minutes=offer.min_minutes,
        answer_ms=timers().answer_ms,
        turn_ms=agenda_for(timers().minute_ms).turn // timedelta(milliseconds=1),
        queue=queue,
        request=_open_request(waiting) if waiting else None,
    )
    return render_template(
        "creator.html",
        creator=person,
        kind=kind,
        state=state,
        over_now=_over(status, kind),
        title=stream.title if stream and stream.status == "live" else "",
        viewers=stream.viewers if stream else 0,
        poster_url=pictures.get(stream.room_id) if stream else None,
        offer=offer,
        own=own,
        terms=terms,
        minute_ms=timers().minute_ms,
        queue=queue,
        answer_words=wording.lasting(timers().answer_ms),
        auto_accept=offer.auto_accept,
        battle_id=battle_id,
        **patronage,
        **booking,
        page_json=msgspec.json.encode(page).decode(),
    )


def _terms(tx: Session, fan: Person | None, offer: private_streams.PrivateSettings) -> tuple[end_words.Term, ...]:
    """The end table of the wish in the address (``minutes``, ``way``, ``unlock``), at the fan's own price."""
    minute_ms = timers().minute_ms
    if fan is None:
        return end_words.terms(
            min_minutes=offer.min_minutes,
            rate_per_minute=offer.rate_per_minute,
            minute_ms=minute_ms,
            money=wording.money,
        )
    asked = request.args.get("minutes", type=int) or offer.min_minutes
    per_minute = request.args.get("way") == "per_minute"
    unlock = request.args.get("unlock") == "1"
    quote = private_streams.quote(
        tx,
        fan.user_id,
        offer.creator_id,
        min(max(asked, 1), 240),
        per_minute=per_minute,
        instant_unlock=unlock,
        now=utc_now(),
    )
    return end_words.terms(
        min_minutes=offer.min_minutes,
        rate_per_minute=quote.rate_per_minute,
        minute_ms=minute_ms,
        per_minute=per_minute,
        included_minutes=quote.included_minutes,
        unlock_price=(quote.unlock_price or 0) if unlock else 0,
        money=wording.money,
    )


def _kind(viewer: Person | None, person: Person) -> Kind:
    if viewer is None:
        return "anon"
    if viewer.user_id == person.user_id:
        return "owner"
    return "fan" if "fan" in viewer.roles else "other"


def _over(status: str, kind: Kind) -> str:
    """Which words lie over the picture before a script has done anything."""
    if status != "live":
        return status
    return {"anon": "signin", "owner": "owner"}.get(kind, "joining")


def _open_request(view: private_streams.RequestView) -> OpenRequest:
    return OpenRequest(
        request_id=view.request_id,
        minutes=view.minutes,
        total_cost=view.total_cost,
        included_minutes=view.included_minutes,
        remaining_ms=view.remaining_ms,
        status=view.status,
        position=view.position,
        turn=view.turn,
    )
