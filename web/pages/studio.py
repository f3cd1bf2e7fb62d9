"""/studio: where a creator goes live, answers requests and sets the price. For creators only.

The page's script does the rest over REST and media; ``?part=state`` is what it fetches after a gap.
"""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Response, abort, render_template, request
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.services import offers, private_streams, recordings, sessions, stream_keys, streams, subscriptions
from models.services.accounts import Person
from models.services.analytics import analytics
from models.services.request_history import PastRequest, past_requests
from web.api.whip import Keys, whip_url
from web.auth import current_person, role_required
from web.context import greenroom
from web.pages import blueprint
from web.pages.deps import database, settings, timers
from web.pages.studio_earnings import earnings_part

TABS = ("live", "requests", "settings", "schedule", "earnings", "analytics")
_ANSWERS = {
    "accepted": "Accepted",
    "declined": "Declined",
    "cancelled": "Cancelled by the fan",
    "expired": "Not answered in time",
}
_REASONS = {
    "stream_ended": "Your stream ended",
    "creator_busy": "You took another",
    "fan_busy": "The fan was in another call",
    "turn_missed": "Their turn came, they did not confirm",
    "wait_over": "Waited for half an hour",
    "payment_failed": "A payment of theirs was found bad",
}


class StudioState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What js/pages/studio.js starts from and comes back to. Durations in milliseconds."""

    user_id: str
    stream: streams.StreamView | None
    session_id: str | None
    offer: private_streams.PrivateSettings
    commission_percent: int
    answer_ms: int
    encoder: str
    """Of the public picture: empty for a browser's, ``on_air`` or ``away`` for an encoder's."""
    queue: bool
    """Whether requests may wait while the creator is busy."""


class PastLine(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request as the table shows it."""

    fan_handle: str
    fan_name: str
    fan_avatar: str | None
    is_mock: bool
    asked_at: Any
    minutes: int
    total_cost: int
    status: str
    words: str
    session_id: str | None


@blueprint.get("/studio")
@role_required("creator")
def studio() -> str | Response:
    """The page; with ``?part=`` only what its script asks for again."""
    person = current_person()
    assert person is not None
    if part := request.args.get("part"):
        return _part(part, person)
    with database().reading() as tx:
        state = _state(tx, person)
        past = [_line(each) for each in past_requests(tx, person.user_id)]
        money = earnings_part(tx, person.user_id)
        how = analytics(tx, person.user_id, _days(), utc_now())
        options = offers.get_options(tx, person.user_id)
        subscribers = subscriptions.subscriber_count(tx, person.user_id, utc_now())
        recording = recordings.get_offer(tx, person.user_id)
        encoders = keys_part(tx, person.user_id)
    wanted = request.args.get("tab", "live")
    return render_template(
        "studio.html",
        chosen=wanted if wanted in TABS else "live",
        stream=state.stream,
        offer=state.offer,
        options=options,
        subscribers=subscribers,
        recording=recording,
        encoders=encoders,
        encoders_json=msgspec.json.encode(encoders).decode(),
        past=past,
        commission_percent=state.commission_percent,
        minute_ms=timers().minute_ms,
        page_json=msgspec.json.encode(state).decode(),
        how=how,
        **money,
    )


def _part(part: str, person: Person) -> str | Response:
    """What the page's script asks for again, and nothing else is read."""
    with database().reading() as tx:
        if part == "requests":
            past = [_line(each) for each in past_requests(tx, person.user_id)]
            return render_template("partials/request_history.html", past=past)
        if part == "earnings":
            return render_template("partials/studio_earnings.html", **earnings_part(tx, person.user_id))
        if part != "state":
            abort(404)
        return Response(msgspec.json.encode(_state(tx, person)), mimetype="application/json")


def keys_part(tx: Session, user_id: str) -> Keys:
    """What the card of stream keys shows."""
    return Keys(stream_keys.keys_of(tx, user_id), whip_url(greenroom()), stream_keys.MOST_KEYS)


def _days() -> int:
    """The Analytics tab's period: one of three."""
    wanted = request.args.get("days", type=int)
    return wanted if wanted in (7, 30, 90) else 30


def _state(tx: Session, person: Person) -> StudioState:
    return StudioState(
        user_id=person.user_id,
        stream=streams.stream_of(tx, person.user_id),
        session_id=sessions.current_session_of(tx, person.user_id),
        offer=private_streams.get_settings(tx, person.user_id),
        commission_percent=settings().commission_percent,
        answer_ms=timers().answer_ms,
        encoder=stream_keys.encoder_of(tx, person.user_id),
        queue=offers.get_options(tx, person.user_id).queue,
    )


def _words(past: PastRequest) -> str:
    if past.accepted_by == "booking":
        return "Booked"
    return _REASONS.get(past.close_reason or "", _ANSWERS.get(past.status, past.status))


def _line(past: PastRequest) -> PastLine:
    return PastLine(
        fan_handle=past.fan_handle,
        fan_name=past.fan_name,
        fan_avatar=past.fan_avatar,
        is_mock=past.is_mock,
        asked_at=past.asked_at,
        minutes=past.minutes,
        total_cost=past.total_cost,
        status=past.status,
        words=_words(past),
        session_id=past.session_id,
    )
