"""Bugs in how a session is metered, settled and priced."""

from __future__ import annotations

from typing import Any

from media import budget
from models import inbox, ledger, pricing, settlement
from models.postings import account_id, post
from models.requests import RequestRow
from models.services import acceptance, media_facts, offers, sessions, settling, subscriptions
from models.sessions import SessionRow
from simulation.planting import Patches, bug


@bug("A settlement pays the creator once more, under another key.")
def settle_twice(patches: Patches) -> None:
    def make(settle: Any) -> Any:
        def twice(tx: Any, reference: str, *, creator_id: str, earnings: int, key: str, **more: Any) -> Any:
            done = settle(tx, reference, creator_id=creator_id, earnings=earnings, key=key, **more)
            if earnings:
                again = {account_id("fees"): -earnings, account_id("earnings_pending", creator_id): earnings}
                post(tx, "settle", again, key=f"{key}:2", reference=reference, cause_id="", now=more["now"])
            return done

        return twice

    patches.replace(ledger, "settle", make)


@bug("A final report that comes once more settles the ended session again.")
def late_report_settles_again(patches: Patches) -> None:
    def make(_call_ended: Any) -> Any:
        def settles(tx: Any, event: Any, now: Any) -> None:
            session = tx.get(SessionRow, event.session_id)
            if session is not None and session.status == "ended":
                session.delivered_ms = max(session.delivered_ms, event.delivered_ms)
                session.refunded += 1
                session.total_earnings -= 1
                tx.flush()
                return
            _call_ended(tx, event, now)

        return settles

    patches.replace(media_facts, "_call_ended", make)
    patches.replace(inbox, "first_time", lambda first: lambda *about: first(*about) or True)


@bug("What was bought is billed, whether media had acknowledged it or not.")
def bill_beyond_acknowledged(patches: Patches) -> None:
    patches.replace(settling, "bill", lambda bill: lambda row, **facts: bill(row, **{**facts, "paid_ms": 10**9}))


@bug("A fan who never came is billed as if the creator had not come.")
def wrong_row_for_a_no_show(patches: Patches) -> None:
    def make(resolve: Any) -> Any:
        def wrong(*args: Any, **more: Any) -> Any:
            row = resolve(*args, **more)
            return settlement.CREATOR_NO_SHOW if row is settlement.FAN_NO_SHOW else row

        return wrong

    patches.replace(settling, "resolve_row", make)


@bug("The commission is rounded up.")
def commission_rounded_up(patches: Patches) -> None:
    def split(amount: int, percent: int) -> tuple[int, int]:
        commission = -(-amount * percent // 100)
        return amount - commission, commission

    patches.replace(pricing, "split", lambda _split: split)


@bug("The price of an instant unlock is earned although the creator left.")
def unlock_kept(patches: Patches) -> None:
    patches.replace(settlement, "RETURN_EXTRAS", lambda _rows: ())


@bug("A session that nobody reported the end of is settled at once.")
def no_wait_for_the_final_report(patches: Patches) -> None:
    def make(want_end: Any) -> Any:
        def impatient(tx: Any, session_id: str, *args: Any, **more: Any) -> Any:
            command = want_end(tx, session_id, *args, **more)
            if command is not None:
                settling.settle(tx, tx.get(SessionRow, session_id), None, more["now"])
            return command

        return impatient

    patches.replace(sessions, "want_end", make)


@bug("Each pause counts a second of itself.")
def paused_second_counts(patches: Patches) -> None:
    def make(pause: Any) -> Any:
        def counts(meter: Any, start: int) -> None:
            pause(meter, start)
            meter._delivered = min(meter._paid, meter._delivered + 1_000)

        return counts

    patches.replace(budget.SessionMeter, "_pause_from", make)


@bug("A restarted node begins to count from nothing.")
def restart_forgets_what_was_delivered(patches: Patches) -> None:
    def make(figures: Any) -> Any:
        def forget(session: Any, event: Any, now: Any) -> Any:
            return {**figures(session, event, now), "delivered_ms": event.delivered_ms // 2}

        return forget

    patches.replace(media_facts, "_figures", make)


@bug("A session has the rate of the moment, not the one that was promised.")
def price_changed_after_the_request(patches: Patches) -> None:
    def make(begin: Any) -> Any:
        def dearer(tx: Any, request: Any, *args: Any, **more: Any) -> Any:
            begun = begin(tx, request, *args, **more)
            session = tx.get(SessionRow, begun.session_id if hasattr(begun, "session_id") else begun.id)
            session.rate_per_minute = offers.get_settings(tx, request.creator_id).rate_per_minute + 1
            tx.flush()
            return begun

        return dearer

    patches.replace(acceptance, "begin", make)


@bug("Everybody has the subscribers' discount.")
def discount_for_everybody(patches: Patches) -> None:
    patches.replace(offers, "is_subscriber", lambda _is: lambda *_args, **_more: True)


@bug("The minutes of a subscription are never given back.")
def included_minutes_kept(patches: Patches) -> None:
    def make(give_back: Any) -> Any:
        return lambda tx, request_id, used, now: give_back(tx, request_id, 10**6 if used == 0 else used, now)

    patches.replace(subscriptions, "return_minutes", make)


@bug("A request may be accepted after it has expired.")
def accepted_after_expiry(patches: Patches) -> None:
    patches.replace(acceptance, "_acceptable", lambda acceptable: _timeless(acceptable))


def _timeless(acceptable: Any) -> Any:
    def early(tx: Any, request_id: str, creator_id: str, now: Any) -> Any:
        request = tx.get(RequestRow, request_id)
        return acceptable(tx, request_id, creator_id, min(now, request.created_at) if request else now)

    return early


@bug("A fan who leaves early pays for the minutes that were, not for the minimum.")
def minimum_forgotten(patches: Patches) -> None:
    def make(bill: Any) -> Any:
        return lambda row, **facts: bill(row, **{**facts, "min_minutes": 0})

    patches.replace(settling, "bill", make)
