"""How figures and moments are written on pages: tokens, money beside them, clocks, dates.

Pure functions from values to text, so that every page says the same thing the same way. Must not know
the database; it asks for the price list, and for the currency that the application sells in.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import current_app, has_app_context

from models.config import Settings
from models.services.payments import packages

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}


class TokenPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The list price of the smallest package: what a token is said to be worth."""

    tokens: int
    minor: int
    currency: str

    def of(self, tokens: int) -> int:
        """Minor units (cents) of ``tokens``, rounded half up."""
        return (abs(tokens) * self.minor * 2 + self.tokens) // (self.tokens * 2)


def _list_price() -> TokenPrice:
    smallest = packages()[0]
    return TokenPrice(tokens=smallest.tokens, minor=smallest.price_minor, currency=smallest.currency)


PRICE = _list_price()


def tokens(value: int) -> str:
    """1350 → 1,350; a minus is a real minus sign."""
    return f"{value:,}".replace("-", "−")


def signed(value: int) -> str:
    """+600 or −1,000: a movement."""
    return f"+{value:,}" if value > 0 else tokens(value)


def price(minor: int, currency: str = "USD") -> str:
    """Minor units as an amount of money: 4800 → $48.00."""
    symbol = SYMBOLS.get(currency, f"{currency} ")
    return f"{symbol}{minor // 100:,}.{minor % 100:02d}"


def token_price() -> TokenPrice:
    """The list price in the currency that this house sells in."""
    if not has_app_context():
        return PRICE
    house: Settings = current_app.extensions["settings"]
    return TokenPrice(tokens=PRICE.tokens, minor=PRICE.minor, currency=house.currency)


def money(value: int) -> str:
    """Tokens as money at the list price: 100 → $5.00."""
    return price(PRICE.of(value), token_price().currency)


def about(value: int) -> str:
    """The same as a conversion, not a charge: about $5.00."""
    return f"about {money(value)}"


def plural(value: int, one: str, many: str = "") -> str:
    """1 minute, 5 minutes, with the number in front."""
    return f"{tokens(value)} {one if value == 1 else many or one + 's'}"


def clock(milliseconds: int) -> str:
    """A duration as 4:38 or 1:02:09; part seconds are dropped."""
    seconds = max(0, milliseconds) // 1000
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"


def spoken(milliseconds: int) -> str:
    """A duration in a sentence: 5 min 22 s."""
    seconds = max(0, milliseconds) // 1000
    minutes, rest = divmod(seconds, 60)
    parts = (f"{minutes} min" if minutes else "", f"{rest} s" if rest else "")
    return " ".join(part for part in parts if part) or "0 s"


def lasting(milliseconds: int) -> str:
    """A limit in a sentence: 2 minutes, or 24 s when it is no whole number of minutes."""
    minutes, rest = divmod(milliseconds, 60_000)
    return plural(minutes, "minute") if minutes and not rest else spoken(milliseconds)


def aware(at: datetime | str) -> datetime:
    """In UTC; what comes without a zone is UTC already, and text is RFC 3339."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def iso(at: datetime | str) -> str:
    """RFC 3339 in UTC."""
    return aware(at).isoformat(timespec="seconds").replace("+00:00", "Z")


def when(at: datetime | str, style: str = "full") -> str:
    """21 November 2026, 21:04 UTC; ``short``: no year, ``day``: with the weekday, ``time``: the clock alone."""
    moment = aware(at)
    if style.startswith("day"):
        return f"{moment:%a} {moment.day} {moment:%b}, {moment:%H:%M} UTC"
    if style == "time":
        return f"{moment:%H:%M:%S}"
    year = "" if style == "short" else f" {moment:%Y}"
    return f"{moment.day} {moment:%B}{year}, {moment:%H:%M} UTC"


def initial(name: str) -> str:
    """The letter of an avatar without a picture: of "Creator A" the A, of "fan_b" the B."""
    words = name.replace("_", " ").replace("-", " ").split()
    return (words[-1][0] if words else "?").upper()


def tint(handle: str) -> int:
    """1 to 6, always the same for a handle (js/ui.js counts the same way)."""
    return sum(handle.encode()) % 6 + 1


FILTERS: dict[str, Callable[..., Any]] = {
    "about": about,
    "clock": clock,
    "initial": initial,
    "iso": iso,
    "money": money,
    "plural": plural,
    "price": price,
    "signed": signed,
    "spoken": spoken,
    "tint": tint,
    "tokens": tokens,
    "when": when,
}
