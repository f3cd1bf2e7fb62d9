"""The wallet's movements in words: the ledger's lines, with whom they were and for how long.

Reads requests and bookings beside the statement; knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from models.battles import BattleRow, BattleSideRow
from models.bookings import BookingRow
from models.books import HoldRow
from models.people import PersonRow
from models.recordings import RecordingRow
from models.requests import OPEN, RequestRow
from models.services import wallet
from models.services.wallet import StatementLine
from models.sessions import SessionRow
from models.subscriptions import PassRow, SubscriptionRow, TipRow
from web.pages.wording import money, plural, tokens


class Movement(NamedTuple):
    """One line: ``amount`` as the reader felt it, ``after`` what was free then (None: the wallet did not move)."""

    words: str
    at: str
    amount: int
    after: int | None
    href: str


class HeldLine(NamedTuple):
    """What held tokens are for; ``at`` ends the sentence with a moment in the reader's own zone."""

    words: str
    href: str
    at: datetime | None = None


class StakeLine(NamedTuple):
    """Tokens of the person's in the pot of one battle, and what becomes of them."""

    tokens: int
    words: str
    href: str


class Patron(NamedTuple):
    """Who or what a line without a request is about."""

    name: str
    """The other side's, or the battle's title."""
    battle_id: str = ""
    competes: bool = False
    """Whether the reader is one of the battle's creators."""
    giver: str = ""
    """Of a share of the pot: whose stake it was part of; "" for the reader's own."""


class _About(NamedTuple):
    """The request behind a line."""

    other: str
    minutes: int
    status: str
    because: str | None
    session_id: str | None


def movements(tx: Session, person_id: str, available: int, limit: int) -> list[Movement]:
    """The latest lines, newest first; ``available`` is what is free now."""
    lines = wallet.statement(tx, person_id, limit)
    references = {line.reference for line in lines}
    about, patrons = _about(tx, person_id, references), _patrons(tx, person_id, references)
    found, after = [], available
    for line in lines:
        movement = _movement(line, about.get(line.reference), after)
        if (patron := patrons.get(line.reference)) is not None:
            href = f"/battles/{patron.battle_id}" if patron.battle_id else ""
            movement = movement._replace(words=patron_words(line, patron), href=href)
        found.append(movement)
        after -= line.available
    return found


def held_lines(tx: Session, person_id: str, call: str | None) -> list[HeldLine]:
    """What the fan's held tokens are for: open requests, bookings, and the call that runs."""
    asked = tx.execute(
        select(PersonRow.handle, PersonRow.display_name, RequestRow.requested_minutes)
        .join(PersonRow, PersonRow.id == RequestRow.creator_id)
        .where(RequestRow.fan_id == person_id, RequestRow.status.in_(OPEN))
        .order_by(RequestRow.created_at)
    )
    lines = [
        HeldLine(
            f"Held for {plural(minutes, 'minute')} with {name}. If nobody answers, it comes back by itself.",
            f"/models/{handle}",
        )
        for handle, name, minutes in asked
    ]
    booked = tx.execute(
        select(PersonRow.display_name, BookingRow.minutes, BookingRow.starts_at)
        .join(PersonRow, PersonRow.id == BookingRow.creator_id)
        .where(BookingRow.fan_id == person_id, BookingRow.status == "booked", BookingRow.total_cost > 0)
        .order_by(BookingRow.starts_at)
    )
    lines += [
        HeldLine(f"Held for {plural(minutes, 'minute')} with {name}, booked for", "/bookings", at)
        for name, minutes, at in booked
    ]
    if call:
        words = "Held for your private stream. When it ends, what is owed is paid and the rest comes back."
        lines.append(HeldLine(words, f"/call/{call}"))
    return lines


def stake_lines(tx: Session, person_id: str) -> list[StakeLine]:
    """What the person has in the pots of battles that are not over: entry fees and tips, one line a battle."""
    staked = tx.execute(
        select(BattleRow, HoldRow.amount)
        .join(HoldRow, HoldRow.pot == "pot:" + BattleRow.id)
        .where(HoldRow.fan_id == person_id, HoldRow.amount > 0)
        .order_by(BattleRow.begins_at, BattleRow.id)
    ).all()
    names: dict[str, list[str]] = {battle.id: [] for battle, _ in staked}
    competes = set()
    sides = (
        select(BattleSideRow.battle_id, PersonRow.id, PersonRow.display_name)
        .join(PersonRow, PersonRow.id == BattleSideRow.creator_id)
        .where(BattleSideRow.battle_id.in_(names), BattleSideRow.status != "left")
        .order_by(BattleSideRow.place)
    )
    for battle_id, creator_id, name in tx.execute(sides):
        if creator_id == person_id:
            competes.add(battle_id)
        else:
            names[battle_id].append(name)
    return [_stake_line(battle, amount, names[battle.id], battle.id in competes) for battle, amount in staked]


def _stake_line(battle: BattleRow, amount: int, names: list[str], competes: bool) -> StakeLine:
    others = f" with {_and(names)}" if names else ""
    what = "your entry fee for" if competes else "tipped in"
    then = (
        "It comes back if the battle never begins, and is shared out when it ends."
        if battle.status == "open"
        else "It is shared out when the battle ends, or comes back if nothing was won."
    )
    words = f"In a battle’s pot: {plural(amount, 'token')} ({money(amount)}), {what} “{battle.title}”{others}."
    return StakeLine(amount, f"{words} {then}", f"/battles/{battle.id}")


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _about(tx: Session, person_id: str, references: Iterable[str]) -> dict[str, _About]:
    fan, creator = aliased(PersonRow), aliased(PersonRow)
    rows = tx.execute(
        select(RequestRow, fan.display_name, creator.display_name, SessionRow.id)
        .join(fan, fan.id == RequestRow.fan_id)
        .join(creator, creator.id == RequestRow.creator_id)
        .outerjoin(SessionRow, SessionRow.request_id == RequestRow.id)
        .where(RequestRow.id.in_(list(references)))
    )
    return _booked(tx, person_id, references) | {
        row.id: _About(
            other=creator_name if row.fan_id == person_id else fan_name,
            minutes=row.requested_minutes,
            status=row.status,
            because=row.close_reason,
            session_id=session_id,
        )
        for row, fan_name, creator_name, session_id in rows
    }


def _booked(tx: Session, person_id: str, references: Iterable[str]) -> dict[str, _About]:
    """The same of bookings that have not become requests."""
    fan, creator = aliased(PersonRow), aliased(PersonRow)
    rows = tx.execute(
        select(BookingRow, fan.display_name, creator.display_name)
        .join(fan, fan.id == BookingRow.fan_id)
        .join(creator, creator.id == BookingRow.creator_id)
        .where(BookingRow.request_id.in_(list(references)), BookingRow.status != "started")
    )
    return {
        row.request_id: _About(
            other=creator_name if row.fan_id == person_id else fan_name,
            minutes=row.minutes,
            status="booking",
            because=row.close_reason,
            session_id=None,
        )
        for row, fan_name, creator_name in rows
    }


def _patrons(tx: Session, person_id: str, references: Iterable[str]) -> dict[str, Patron]:
    """Who is on the other side of tips, passes and subscriptions' months, and which battle it was, by the ledger's
    reference."""
    owners = {reference: reference.partition(":")[0] for reference in references}
    sides: dict[str, str] = {}
    for table in (TipRow, SubscriptionRow, PassRow, RecordingRow):
        rows = select(table.id, table.fan_id, table.creator_id).where(table.id.in_(set(owners.values())))
        sides |= {id_: creator if fan == person_id else fan for id_, fan, creator in tx.execute(rows)}
    givers = {reference: reference.split(":")[1] for reference in references if reference.count(":") == 2}
    known = {*sides.values(), *givers.values()}
    people = select(PersonRow.id, PersonRow.display_name).where(PersonRow.id.in_(known))
    names = {row.id: row.display_name for row in tx.execute(people) if row.id != person_id}
    found = {owner: Patron(names[side]) for owner, side in sides.items()}
    own = (BattleSideRow.battle_id == BattleRow.id) & (BattleSideRow.creator_id == person_id)
    battles = select(BattleRow.id, BattleRow.title, BattleSideRow.creator_id).outerjoin(BattleSideRow, own)
    for battle_id, title, side in tx.execute(battles.where(BattleRow.id.in_(set(owners.values())))):
        found[battle_id] = Patron(title, battle_id, side is not None)
    return {
        reference: found[owner]._replace(giver=names.get(givers.get(reference, ""), ""))
        for reference, owner in owners.items()
        if owner in found
    }


def patron_words(line: StatementLine, patron: Patron) -> str:
    """A line that is about no request, as its reader thinks of it."""
    other = patron.name
    match line.kind:
        case "tip":
            return f"Tip from {other}" if line.earnings else f"Tip to {other}"
        case "subscription":
            return f"Subscription of {other}" if line.earnings else f"Subscription to {other}, one month"
        case "recording":
            return f"Recording bought by {other}" if line.earnings else f"Recording of a call with {other}"
        case "stake":
            return f"{'Entry fee' if patron.competes else 'Tip'} into the pot of the battle “{other}”"
        case "stake_return":
            return f"Came back from the battle “{other}”"
        case "share":
            whose = f"what {patron.giver} paid in" if patron.giver else "your own entry fee"
            return f"Earned in the battle “{other}”, out of {whose}"
        case "pass":
            return f"Pass bought by {other}" if line.earnings else f"Pass for {other}, one day in 720p"
        case _:
            return f"{line.words}: {other}"


def _movement(line: StatementLine, about: _About | None, after: int) -> Movement:
    href = f"/history/{about.session_id}" if about and about.session_id and line.kind == "settle" else ""
    amount = line.earnings or line.available
    words = _words(line, about) if about else line.words
    return Movement(words, line.at, amount, after if line.available or line.kind == "settle" else None, href)


def _words(line: StatementLine, about: _About) -> str:
    match line.kind:
        case "hold" if about.status == "booking":
            return f"Held for a booking of {plural(about.minutes, 'minute')} with {about.other}"
        case "hold":
            return f"Held for {plural(about.minutes, 'minute')} with {about.other}"
        case "release":
            return f"Came back: {_release_words(about)}"
        case "settle" if line.earnings:
            return f"Earned in a private stream with {about.other}"
        case "settle":
            paid = -line.held - line.available
            return f"Private stream with {about.other}: {tokens(paid)} paid, {tokens(line.available)} came back"
        case _:
            return line.words


def _release_words(about: _About) -> str:
    if about.status == "booking":
        who = {"fan": "you cancelled your booking with", "creator": "your booking was cancelled by"}
        return f"{who.get(about.because or '', 'your booking could not be kept with')} {about.other}"
    if about.because == "stream_ended":
        return f"the stream of {about.other} ended"
    if about.because == "turn_missed":
        return f"your turn with {about.other} was not confirmed"
    if about.because == "wait_over":
        return f"{about.other} was not free in time"
    if about.because:
        return f"{about.other} could not be asked any more"
    return {
        "declined": f"{about.other} declined",
        "cancelled": f"you cancelled your request to {about.other}",
        "expired": f"{about.other} did not answer",
    }.get(about.status, f"your request to {about.other} ended")
