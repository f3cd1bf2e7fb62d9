"""/models: who is live, live first, and the message with which a private call ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import msgspec
from flask import render_template, request
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.errors import DomainError
from models.messages.commands import Reason
from models.services import sessions, streams
from web import live
from web.auth import current_person
from web.pages import blueprint, wording
from web.pages.deps import database


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A creator as the grid and the list show one."""

    user_id: str
    handle: str
    display_name: str
    avatar_url: str | None
    title: str
    status: str
    viewers: int
    private_open: bool
    rate_per_minute: int
    poster_url: str | None
    """A picture of now, if the stream is broadcast."""

    @property
    def away_words(self) -> str:
        """Why there is no picture. The public learns neither how long a private stream is nor with whom."""
        return "In a private stream now" if self.status == "private" else "Not live"


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The message of a call's end, repeated because the call page shows it for one second only."""

    kind: str
    reason: str
    bill: str
    session_id: str | None


def cards(tx: Session) -> tuple[list[Card], list[Card]]:
    """All creators, as (live, not live)."""
    now = utc_now()
    views = streams.creators(tx, now)
    on_air = [view.stream.room_id for view in views if view.stream and view.stream.status == "live"]
    pictures = live.posters(tx, on_air, current_person(), now)
    found = [_card(view, pictures) for view in views]
    return [card for card in found if card.status == "live"], [card for card in found if card.status != "live"]


def _card(view: streams.CreatorCard, pictures: Mapping[str, str]) -> Card:
    stream = view.stream
    return Card(
        user_id=view.person.user_id,
        handle=view.person.handle,
        display_name=view.person.display_name,
        avatar_url=view.person.avatar_url,
        title=(stream.title if stream else "") or "",
        status=stream.status if stream else "offline",
        viewers=stream.viewers if stream else 0,
        private_open=view.enabled,
        rate_per_minute=view.rate_per_minute,
        poster_url=pictures.get(stream.room_id) if stream else None,
    )


@blueprint.get("/models")
def models() -> str:
    """The page; with ``?part=list`` only the part that changes by itself."""
    with database().reading() as tx:
        on_air, away = cards(tx)
        ended = _ended(tx)
    words = f"{len(on_air)} live now" if on_air else "Nobody is live right now"
    template = "partials/creators.html" if request.args.get("part") == "list" else "models.html"
    return render_template(template, live=on_air, away=away, live_words=words, ended=ended)


def _ended(tx: Session) -> Ended | None:
    code = request.args.get("ended", "")
    if code not in get_args(Reason):
        return None
    session_id, bill = request.args.get("session", ""), ""
    person = current_person()
    if person and session_id:
        try:
            view = sessions.session_view(tx, session_id, person.user_id)
            bill = bill_words(view, person.user_id)
            if code == "REPLACED" and not isinstance(view, sessions.Receipt):
                bill = "It goes on in the tab or on the device where you joined it last."
        except DomainError:
            session_id = ""  # not theirs: then there is no receipt to offer
    else:
        session_id = ""
    kind = "info" if code in ("TIME_EXPIRED", "ENDED_BY_FAN", "ENDED_BY_CREATOR", "REPLACED") else "warn"
    return Ended(kind=kind, reason=code.replace("_", " "), bill=bill, session_id=session_id or None)


def bill_words(view: sessions.SessionView | sessions.Receipt, person_id: str) -> str:
    """What the call came to, in one sentence for one of its two sides."""
    if not isinstance(view, sessions.Receipt):
        return "The receipt is being written."
    charged = view.earnings + view.commission
    minutes = wording.plural(view.billed_minutes, "minute")
    if person_id == view.creator_id:
        return f"You earned {wording.plural(view.earnings, 'token')} for {minutes}."
    back = f" {wording.plural(view.refunded, 'token')} came back." if view.refunded else ""
    used = wording.plural(view.included_used, "minute") if view.included_used else ""
    if not charged and used:
        return f"You paid no tokens: {used} of your subscription were used.{back}"
    if not charged:
        return f"You paid nothing.{back}"
    included = f", {used} of them from your subscription" if used else ""
    return f"You paid {wording.plural(charged, 'token')} for {minutes}{included}.{back}"
