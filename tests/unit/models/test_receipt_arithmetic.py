"""Whatever bill the end table makes, whoever checks its receipt comes to the same: every row, every way to pay."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import receipt_check, settlement
from models.receipt_check import Figures
from models.settlement import PAYMENT_BAD, ROWS, Bill

MINUTE = 60_000
Facts = dict[str, int]


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """What a session may have come to: its price, its extensions, what media said, what turned out bad."""
    minimum, minutes = draw(st.integers(1, 60)), draw(st.integers(1, 240))
    minute_ms = draw(st.sampled_from([1_000, 7_001, MINUTE]))
    paid = max(minimum, minutes)
    included = draw(st.integers(0, paid))
    unlock, rate = draw(st.integers(0, 3_000)), draw(st.integers(1, 400))
    held_for = paid + draw(st.integers(0, 480 - paid))
    total_held = (held_for - included) * rate + unlock
    acknowledged = draw(st.sampled_from([paid, held_for]))
    return {
        "min_minutes": minimum,
        "minute_ms": minute_ms,
        "rate": rate,
        "included_minutes": included,
        "unlock_price": unlock,
        "total_held": total_held,
        "paid_ms": acknowledged * minute_ms,
        "delivered_ms": draw(st.integers(0, acknowledged * minute_ms)),
        "commission_percent": draw(st.integers(0, 100)),
        "bad_tokens": draw(st.integers(0, total_held)),
    }


def bill_of(row: settlement.Row, made: Facts, live: bool) -> Bill:
    bad = made["bad_tokens"] if row is PAYMENT_BAD else 0
    return settlement.bill(row, live=live, **{**made, "bad_tokens": bad})


@settings(max_examples=400)
@given(
    row=st.sampled_from(sorted(ROWS)),
    made=facts(),
    reported_live=st.booleans(),
)
@example(
    # The end is the first that was heard of the call: the report of its beginning is still under way.
    row="fan_left",
    made={
        "min_minutes": 1,
        "minute_ms": MINUTE,
        "rate": 100,
        "included_minutes": 0,
        "unlock_price": 250,
        "total_held": 750,
        "paid_ms": 5 * MINUTE,
        "delivered_ms": 1,
        "commission_percent": 20,
        "bad_tokens": 0,
    },
    reported_live=False,
)
def test_every_bill_is_what_its_receipt_explains(row: str, made: Facts, reported_live: bool) -> None:
    # as settling does it: what was delivered was live, whether or not anybody has reported the beginning
    bill = bill_of(ROWS[row], made, reported_live or made["delivered_ms"] > 0)
    figures = Figures(
        session_id="ses_1",
        creator_id="usr_c",
        fan_id="usr_f",
        end_reason=ROWS[row].reason,
        end_row=row,
        live_at="2026-01-02T12:00:00.000Z" if reported_live else None,
        min_minutes=made["min_minutes"],
        minute_ms=made["minute_ms"],
        paid_ms=made["paid_ms"],
        delivered_ms=made["delivered_ms"],
        billed_minutes=bill.billed_minutes,
        rate_per_minute=made["rate"],
        commission_percent=made["commission_percent"],
        included_minutes=made["included_minutes"],
        included_used=bill.included_used,
        unlock_price=made["unlock_price"],
        unlock_earned=bill.unlock_earned,
        total_held=bill.total_held,
        earnings=bill.earnings,
        commission=bill.commission,
        refunded=bill.refunded,
    )
    assert receipt_check._bill(figures) == []
    assert receipt_check._totals(figures) == []
    # and one token more for the creator is found
    if bill.refunded:
        wrong = {"earnings": bill.earnings + 1, "refunded": bill.refunded - 1}
        if ROWS[row] is not PAYMENT_BAD:
            changed = Figures(**{field: getattr(figures, field) for field in Figures.__struct_fields__} | wrong)
            assert receipt_check._bill(changed)
