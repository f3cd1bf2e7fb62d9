"""/: what Greenroom is, who is live, and the whole end table before anybody signs up."""

from __future__ import annotations

from typing import NamedTuple

from flask import render_template

from models import end_words
from web.pages import blueprint, wording
from web.pages.creators import cards
from web.pages.deps import database, settings, timers


class Example(NamedTuple):
    """The price that the table is explained with: a new creator's settings."""

    rate_per_minute: int = 100
    min_minutes: int = 5


@blueprint.get("/")
def home() -> str:
    """The front page."""
    with database().reading() as tx:
        live, _ = cards(tx)
    example = Example()
    terms = end_words.terms(
        min_minutes=example.min_minutes,
        rate_per_minute=example.rate_per_minute,
        minute_ms=timers().minute_ms,
        money=wording.money,
    )
    return render_template(
        "home.html",
        live=live,
        terms=terms,
        example=example,
        commission_percent=settings().commission_percent,
        clearing_days=settings().clearing_days,
    )
