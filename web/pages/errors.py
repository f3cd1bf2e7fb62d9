"""Error pages in the house's own style. Calls under /api answer problems instead (``web.api.errors``).

``create_app`` registers ``error_page`` for what goes wrong outside /api.
"""

from __future__ import annotations

from typing import NamedTuple

from flask import render_template, request

from web.context import cause_id


class Words(NamedTuple):
    """What happened, then what to do."""

    symbol: str
    title: str
    text: str


PAGES = {
    400: Words("info", "This form is too old", "Go back, load the page again and send it once more."),
    403: Words("lock", "This page is not yours", "You are signed in as somebody who may not see it."),
    404: Words("search", "There is no such page", "The address may be old, or one letter off."),
    405: Words("info", "This address takes no visit like that", "Start again from the creators’ page."),
    413: Words("info", "That is too large", "Send less at once."),
    429: Words("clock", "That was too often", "Wait a moment, then try again."),
    500: Words("warn", "Something failed on our side", "It is noted. Your tokens are safe: nothing is half done."),
    503: Words("warn", "We cannot answer right now", "Try again in a moment. Your tokens are safe."),
}


def error_page(status: int, text: str = "") -> tuple[str, int]:
    """The page for ``status``; ``text`` replaces the second sentence."""
    words = PAGES.get(status) or PAGES[500 if status >= 500 else 404]
    bad = status >= 500
    page = render_template(
        "error.html",
        symbol=words.symbol,
        title=words.title,
        text=text or words.text,
        bad=bad,
        again=request.full_path.rstrip("?") if bad and request.method == "GET" else "",
        href="/models",
        label="Go to creators",
        reference=cause_id() if bad else "",
    )
    return page, status
