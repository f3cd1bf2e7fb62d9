"""Bugs to be found: each a small change to real code, of the kind that somebody might write.

``python -m simulation --bug NAME`` plants one; the tests plant each and expect a Violation. Names and sentences
are what a reader needs; how a bug is planted is a monkeypatch that is taken back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from media import budget
from models import clearing, holds, inbox, ledger, lots, pricing, settlement
from models.messages import codec
from models.payments import GatewayEventRow
from models.postings import About, account_id, post
from models.requests import RequestRow
from models.services import (
    acceptance,
    bookings,
    closing,
    extending,
    media_facts,
    offers,
    payments,
    payouts,
    private_streams,
    purchases,
    queueing,
    receipt_chain,
    sessions,
    settling,
    subscriptions,
    webhooks,
)
from models.services.purchases import find_purchase
from models.sessions import SessionRow
from workers import broker, events, relay

Plant = Callable[["Patches"], None]
BUGS: dict[str, tuple[str, Plant]] = {}


class Patches:
    """Replaces attributes of real modules, and puts them back."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """``make`` is given the original and returns what takes its place."""
        original = getattr(owner, name)
        self._originals.append((owner, name, original))
        setattr(owner, name, make(original))

    def take_back(self) -> None:
        """As it was."""
        for owner, name, original in reversed(self._originals):
            setattr(owner, name, original)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While inside, the house has this bug. Raises KeyError for a name that is none."""
    patches = Patches()
    BUGS[name][1](patches)
    try:
        yield
    finally:
        patches.take_back()


def bug(sentence: str) -> Callable[[Plant], Plant]:
    """Names a bug by its function."""

    def remember(plant: Plant) -> Plant:
        BUGS[plant.__name__] = (sentence, plant)
        return plant

    return remember


def _writes(patches: Patches, change: Callable[[str, dict[str, int], list[Any], About], None]) -> None:
    """Change what the ledger is about to write."""

    def make(write: Any) -> Any:
        def changed(tx: Any, kind: str, entries: Any, rows: Any, about: About) -> Any:
            moved, listed = dict(entries), list(rows)
            change(kind, moved, listed, about)
            return write(tx, kind, moved, listed, about)

        return changed

    patches.replace(ledger, "_write", make)


# --- settling ----------------------------------------------------------------------------------------


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


# --- the meter ---------------------------------------------------------------------------------------


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


# --- holds and lots ----------------------------------------------------------------------------------


@bug("A declined, cancelled or expired request keeps its tokens.")
def forgotten_release(patches: Patches) -> None:
    patches.replace(closing, "ledger", lambda _ledger: _Without(_ledger, "release"))


@bug("Released tokens go to whoever had tokens released before.")
def release_to_the_wrong_person(patches: Patches) -> None:
    last: list[str] = []

    def change(kind: str, entries: dict[str, int], _rows: list[Any], _about: About) -> None:
        if kind != "release":
            return
        wallet = next(account for account in entries if account.startswith("wallet:"))
        if last and last[0] != wallet:
            entries[last[0]] = entries.pop(wallet)
        last[:] = [wallet]

    _writes(patches, change)


@bug("A hold leaves the last token that it takes in its lot.")
def lot_spent_twice(patches: Patches) -> None:
    def make(draw: Any) -> Any:
        def leaves(found: Any, reference: str, amount: int, **more: Any) -> Any:
            writes = draw(found, reference, amount, **more)
            kept = writes[0]
            values = (kept.values[0] + 1, *kept.values[1:])
            return [kept._replace(values=values), *writes[1:]]

        return leaves

    patches.replace(lots, "draw", make)


@bug("A hold is made without any lot behind it.")
def hold_without_a_lot(patches: Patches) -> None:
    patches.replace(lots, "draw", lambda _draw: lambda *_args, **_more: [])


@bug("Tokens that come back go to another lot of the same person.")
def back_to_the_wrong_lot(patches: Patches) -> None:
    seen: dict[str, Any] = {}

    def make(give_back: Any) -> Any:
        def elsewhere(found: Any, reference: str, amount: int) -> Any:
            writes = give_back(found, reference, amount)
            free = [write for write in writes if write.sql == lots._FREE]
            for lot in found:
                seen[lot.id] = lot
            others = [lot for lot in seen.values() if lot.id not in {write.values[1] for write in free}]
            if not free or not others:
                return writes
            moved = free[0]._replace(values=(free[0].values[0], others[0].id, others[0].free, others[0].bad))
            return [moved if write is free[0] else write for write in writes]

        return elsewhere

    patches.replace(lots, "give_back", make)


@bug("An extension is held under a name of its own, which nothing ever settles.")
def extension_held_apart(patches: Patches) -> None:
    def hold(*args: Any, reference: str, **more: Any) -> Any:
        return ledger.hold(*args, reference=f"{reference}:more", **more)

    patches.replace(extending, "ledger", lambda real: _Without(real, "hold", hold))


@bug("Each next minute is held twice.")
def minute_held_twice(patches: Patches) -> None:
    def hold(*args: Any, key: str, **more: Any) -> Any:
        if key.startswith("minute"):
            ledger.hold(*args, key=f"{key}:again", **more)
        return ledger.hold(*args, key=key, **more)

    patches.replace(extending, "ledger", lambda real: _Without(real, "hold", hold))


@bug("Confirming again in the queue gives the hold back.")
def queue_loses_the_hold(patches: Patches) -> None:
    def make(reconfirm: Any) -> Any:
        def loses(tx: Any, request_id: str, *, now: Any, **more: Any) -> Any:
            row = reconfirm(tx, request_id, now=now, **more)
            if row.total_cost:
                ledger.release(tx, request_id, key=f"turn:{request_id}", cause_id="", now=now)
            return row

        return loses

    patches.replace(queueing, "reconfirm", make)


@bug("A cancelled booking keeps its tokens.")
def booking_not_released(patches: Patches) -> None:
    patches.replace(bookings, "ledger", lambda real: _Without(real, "release"))


# --- prices ------------------------------------------------------------------------------------------


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


# --- money from outside, and out ---------------------------------------------------------------------


@bug("A webhook credits its purchase although it was credited before.")
def webhook_credits_again(patches: Patches) -> None:
    def make(act_on: Any) -> Any:
        def again(db: Any, gateway: Any, name: str, event_id: str, now: Any) -> Any:
            outcome = act_on(db, gateway, name, event_id, now)
            db.run(lambda tx: _credit(tx, name, event_id, now))
            return outcome

        return again

    patches.replace(webhooks, "act_on", make)


def _credit(tx: Any, name: str, event_id: str, now: Any) -> None:
    event = tx.get(GatewayEventRow, (name, event_id))
    row = find_purchase(tx, event.reference)
    if row is not None and row.status == "succeeded":
        entries = {account_id("gateway", name): -row.tokens, account_id("wallet", row.user_id): row.tokens}
        post(tx, "top_up", entries, key=f"webhook:{event_id}", reference=row.id, cause_id="", now=now)


@bug("Tokens are credited before the gateway was asked.")
def credit_before_the_charge(patches: Patches) -> None:
    def make(begin: Any) -> Any:
        def trusting(tx: Any, *args: Any, **more: Any) -> Any:
            order, purchase = begin(tx, *args, **more)
            if purchase.status == "created":
                purchases.complete_purchase(
                    tx, order.purchase_id, gateway_ref=f"pay_{order.purchase_id}", now=order.created_at
                )
            return order, purchase

        return trusting

    patches.replace(payments, "_begin", make)


@bug("Gifts that fans spent are paid out to creators.")
def promo_paid_out(patches: Patches) -> None:
    for module in (holds, clearing):
        patches.replace(module, "gift_part", lambda _part: lambda *_args, **_more: 0)


@bug("A dispute takes cleared earnings and makes debts while earnings are pending.")
def dispute_skips_pending(patches: Patches) -> None:
    patches.replace(holds, "_pending_bites", lambda _bites: lambda tx, row, *_owed: [(row, 0)])


@bug("A payout whose answer was lost is asked for again under another name.")
def payout_sent_twice(patches: Patches) -> None:
    count = iter(range(10**9))

    def make(send: Any) -> Any:
        def other_name(db: Any, gateway: Any, payout_id: str, now: Any) -> Any:
            real = gateway.payout

            def payout(account: str, amount: int, currency: str, key: str) -> Any:
                return real(account, amount, currency, f"{key}-{next(count)}")

            return send(db, _Without(gateway, "payout", payout), payout_id, now)

        return other_name

    patches.replace(payouts, "send", make)


# --- messages ----------------------------------------------------------------------------------------


@bug("A message that met an outage is not tried again.")
def lost_retry(patches: Patches) -> None:
    patches.replace(broker, "worth_retrying", lambda _worth: lambda *_args: False)


@bug("A media event is noted as done before it is done.")
def acknowledged_before_done(patches: Patches) -> None:
    def make(_on_media_event: Any) -> Any:
        def early(db: Any, body: str, now: Any) -> bool:
            event = codec.decode_event(body)
            if not db.run(lambda tx: inbox.first_time(tx, event.message_id, now)):
                return False
            db.run(lambda tx: sessions.on_event(tx, event, now))
            return True

        return early

    patches.replace(events, "on_media_event", make)


@bug("The relay marks messages as published before it publishes them.")
def marked_before_published(patches: Patches) -> None:
    def make(carry: Any) -> Any:
        def early(self: Any, rows: Any) -> None:
            self._db.run(lambda tx: relay._mark(tx, [row.seq for row in rows]))
            for row in rows:
                self._publish(row)

        return early

    patches.replace(relay.Relay, "_carry", make)


@bug("A receipt is forgotten where nothing was billed.")
def receipt_forgotten(patches: Patches) -> None:
    def make(issue: Any) -> Any:
        def forgets(tx: Any, key: Any, now: Any) -> int:
            for session in tx.query(SessionRow).filter(
                SessionRow.billed_minutes == 0, SessionRow.receipt_at.is_(None)
            ):
                session.receipt_at = now
            tx.flush()
            return int(issue(tx, key, now))

        return forgets

    patches.replace(receipt_chain, "issue_due", make)


@bug("A request may be accepted after it has expired.")
def accepted_after_expiry(patches: Patches) -> None:
    patches.replace(private_streams, "expire_due", lambda _expire: lambda tx, now: 0)
    patches.replace(acceptance, "_acceptable", lambda acceptable: _timeless(acceptable))


def _timeless(acceptable: Any) -> Any:
    def early(tx: Any, request_id: str, creator_id: str, now: Any) -> Any:
        request = tx.get(RequestRow, request_id)
        return acceptable(tx, request_id, creator_id, min(now, request.created_at) if request else now)

    return early


class _Without:
    """A module or object with one name replaced, or doing nothing."""

    def __init__(self, real: Any, name: str, instead: Any = None) -> None:
        self._real, self._name = real, name
        self._instead = instead or (lambda *_args, **_more: None)

    def __getattr__(self, name: str) -> Any:
        return self._instead if name == self._name else getattr(self._real, name)
