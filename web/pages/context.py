"""What the frame of every page shows: who is signed in, the balance, where one can go.

One short read a page. Must not know any single page.
"""

from __future__ import annotations

from typing import Any

import msgspec
from flask import request

from models.clock import utc_now
from models.services import booking_views, sessions, wallet
from models.services.accounts import Person
from models.services.booking_views import BookingView
from web.auth import current_person
from web.pages import wording
from web.pages.deps import database, settings

THEMES = ("light", "dark")


class NavItem(msgspec.Struct, frozen=True):
    """One entry of the main navigation."""

    href: str
    label: str
    icon: str
    current: bool


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """The person for whom the page is made, with the figures of the header."""

    user_id: str
    handle: str
    display_name: str
    roles: tuple[str, ...]
    avatar_url: str | None
    available: int
    held: int
    earned: int

    @property
    def is_creator(self) -> bool:
        """Whether the studio is theirs."""
        return "creator" in self.roles

    @property
    def books(self) -> bool:
        """Whether they may have bookings, on either side."""
        return "fan" in self.roles or self.is_creator

    @property
    def wallet_main(self) -> int:
        """The number in the header: what a creator earned, what a fan can spend."""
        return self.earned if self.is_creator else self.available

    @property
    def wallet_aside(self) -> str:
        """The words beside it."""
        if self.is_creator:
            return "earned"
        return f"{wording.tokens(self.held)} held" if self.held else wording.money(self.available)

    @property
    def wallet_unit(self) -> str:
        """What the number counts, for a screen reader; the eye sees the token's sign."""
        unit = "token" if self.wallet_main == 1 else "tokens"
        return f"{unit} free," if self.held and not self.is_creator else unit


def page_context() -> dict[str, Any]:
    """The variables that ``base.html`` reads."""
    person = current_person()
    viewer, call_now, booking_soon = _viewer(person) if person else (None, None, None)
    theme = request.cookies.get("theme", "")
    return {
        "viewer": viewer,
        "call_now": None if request.path.startswith("/call/") else call_now,
        "booking_soon": None if call_now else booking_soon,
        "nav": _nav(viewer),
        "price": wording.token_price(),
        "theme": theme if theme in THEMES else "",
    }


def _viewer(person: Person) -> tuple[Viewer, str | None, BookingView | None]:
    with database().reading() as tx:
        purse = wallet.wallet(tx, person.user_id)
        call_now = sessions.current_session_of(tx, person.user_id)
        soon = booking_views.soon(tx, person.user_id, utc_now(), settings().minute_ms)
    viewer = Viewer(
        user_id=person.user_id,
        handle=person.handle,
        display_name=person.display_name,
        roles=person.roles,
        avatar_url=person.avatar_url,
        available=purse.available,
        held=purse.held,
        earned=purse.earnings + purse.earnings_pending,
    )
    return viewer, call_now, soon


def _nav(viewer: Viewer | None) -> list[NavItem]:
    entries = [("/models", "Creators", "home"), ("/battles", "Battles", "heart")]
    if viewer and viewer.is_creator:
        entries = [("/studio", "Studio", "cam"), *entries]
        entries += [("/history", "Receipts", "list"), ("/wallet", "Wallet", "wallet")]
    elif viewer:
        entries += [("/wallet", "Wallet", "wallet"), ("/history", "Receipts", "list")]
    if viewer and "admin" in viewer.roles:
        entries = [("/admin", "Operations", "shield"), *entries]
    return [NavItem(href, label, icon, request.path.startswith(href)) for href, label, icon in entries]
