"""/battles: what runs and what will begin; /battles/<id>: the pictures, the score, and what is at stake.

Says before every press what it costs and what comes back when. Knows no rule: those are the services'.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec
from flask import abort, render_template, request
from sqlalchemy.orm import Session

from models import ledger
from models.clock import utc_now
from models.errors import NotFound
from models.services import battle_views, broadcasts, passes
from models.services.accounts import Person
from models.services.battle_views import BattleView, SideView
from models.services.offers import is_subscriber
from web.auth import current_person
from web.pages import blueprint, wording
from web.pages.deps import database, settings

_REASONS = {
    "time": "The time was over.",
    "host": "The host ended it.",
    "deserted": "Too few creators stayed.",
    "too_few": "Fewer than two creators came together, or it could not begin.",
    "withdrawn": "The host called it off.",
    "moderation": "It was called off by us.",
}


class PageData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What js/pages/battle.js starts from."""

    battle_id: str
    room_id: str
    status: str
    user_id: str
    kind: str
    """``host``, ``side``, ``creator``, ``fan``, ``other`` or ``anon``."""
    entry_fee: int
    balance: int
    sides: tuple[str, ...]


class BestPicture(NamedTuple):
    """How the viewer comes to the battle's picture in 720p, or already has."""

    offers: tuple[tuple[SideView, int], ...]
    """Sides that sell a pass, with its price; empty when the viewer has the best picture."""
    through: str
    """The side whose pass or subscription it is; "" for neither."""
    until: datetime | None
    """When the pass ends; None for a subscription, which renews."""


@blueprint.get("/battles")
def battles() -> str:
    """The list; with ``?part=list`` only what changes by itself."""
    viewer = current_person()
    with database().reading() as tx:
        found = battle_views.listed(tx, viewer.user_id if viewer else None, utc_now()).battles
        mine = battle_views.current_of(tx, viewer.user_id) if viewer else None
        balance = _balance(tx, viewer)
    template = "partials/battle_list.html" if request.args.get("part") == "list" else "battles.html"
    return render_template(
        template,
        battles=found,
        mine=mine,
        may_open=viewer is not None and "creator" in viewer.roles,
        balance=balance,
        commission=settings().commission_percent,
    )


@blueprint.get("/battles/<battle_id>")
def battle(battle_id: str) -> str:
    """The page; with ``?part=board`` only score, pot, sides and tips, with ``?part=passes`` the way to 720p."""
    viewer = current_person()
    with database().reading() as tx:
        try:
            view = battle_views.find(tx, battle_id, viewer.user_id if viewer else None, utc_now())
        except NotFound:
            abort(404)
        balance = _balance(tx, viewer)
        seatless = broadcasts.watchable(tx, view.room_id, utc_now()) is not None
        kind = _kind(viewer, view)
        best = _best_picture(tx, viewer if kind == "fan" else None, view)
    page = PageData(
        battle_id=view.battle_id,
        room_id=view.room_id,
        status=view.status,
        user_id=viewer.user_id if viewer else "",
        kind=kind,
        entry_fee=view.entry_fee,
        balance=balance,
        sides=tuple(side.creator_id for side in view.sides if side.status == "in"),
    )
    parts = {"board": "partials/battle_board.html", "passes": "partials/battle_passes.html"}
    return render_template(
        parts.get(request.args.get("part", ""), "battle.html"),
        battle=view,
        kind=kind,
        may_tip=kind == "fan",
        may_enter=viewer is not None and "creator" in viewer.roles and kind not in ("host", "side"),
        balance=balance,
        seatless=seatless,
        best=best,
        page_json=msgspec.json.encode(page).decode(),
    )


def split_words(view: BattleView) -> str:
    """How the pot is split, in one sentence."""
    if view.winner_percent is None:
        return "equal shares for all who stay to the end"
    if view.winner_percent == 100:
        return "all of it for the highest score"
    rest = 100 - view.winner_percent
    return f"{view.winner_percent}% for the highest score, {rest}% shared by the others"


def status_words(view: BattleView) -> str:
    """Where it stands, in a word or two."""
    return {"open": "Not begun", "running": "Live", "ended": "Over", "cancelled": "Called off"}[view.status]


def outcome_words(view: BattleView) -> str:
    """How it ended, with why; empty before."""
    if view.outcome is None:
        return ""
    reason = _REASONS.get(view.end_reason or "", "")
    if view.outcome == "returned":
        return f"{reason} Everybody has back what they paid in."
    best = [side.display_name for side in leaders(view)]
    if view.outcome == "draw":
        return f"{reason} A draw: {' and '.join(best)}."
    if view.outcome == "walkover":
        return f"{reason} {_stayed(view)} stayed and has the pot."
    return f"{reason} {best[0]} has won."


def leaders(view: BattleView) -> tuple[SideView, ...]:
    """The sides with the highest score; empty while nobody has one."""
    inside = [side for side in view.sides if side.status in ("in", "done")]
    best = max((side.score for side in inside), default=0)
    return tuple(side for side in inside if side.score == best and best > 0)


def score_percent(side: SideView, view: BattleView) -> int:
    """A side's part of all tips, for its bar."""
    whole = sum(each.score for each in view.sides)
    return side.score * 100 // whole if whole else 0


for _filter, _name in (
    (split_words, "battle_split"),
    (status_words, "battle_status"),
    (outcome_words, "battle_outcome"),
    (leaders, "battle_leaders"),
    (score_percent, "battle_percent"),
):
    blueprint.add_app_template_filter(_filter, _name)
blueprint.add_app_template_filter(wording.lasting, "lasting")  # of a limit, in milliseconds


def _stayed(view: BattleView) -> str:
    return next((side.display_name for side in view.sides if side.status == "done"), "Nobody")


def _best_picture(tx: Session, fan: Person | None, view: BattleView) -> BestPicture:
    inside = [side for side in view.sides if side.status == "in"]
    for side in inside:
        if fan is None:
            break
        mine = passes.between(tx, fan.user_id, side.creator_id, utc_now())
        if mine is not None or is_subscriber(tx, fan.user_id, side.creator_id, utc_now()):
            return BestPicture((), side.display_name, mine.ends_at if mine else None)
    prices = ((side, passes.price_of(tx, side.creator_id)) for side in inside)
    return BestPicture(tuple((side, price) for side, price in prices if price is not None), "", None)


def _balance(tx: Session, viewer: Person | None) -> int:
    return ledger.balance(tx, ledger.account_id("wallet", viewer.user_id)) if viewer else 0


def _kind(viewer: Person | None, view: BattleView) -> str:
    if viewer is None:
        return "anon"
    if any(side.creator_id == viewer.user_id for side in view.sides):
        return "host" if viewer.user_id == view.host_id else "side"
    if "fan" in viewer.roles:
        return "fan"
    return "creator" if "creator" in viewer.roles else "other"
