"""Figures and receipts in words: the same everywhere, and true at the edges."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from models.services.receipts import Receipt, ReceiptEntry
from web.pages import wording
from web.pages.history import account_words, lead, reason_words, time_segments

STARTED = datetime(2026, 11, 21, 21, 4, tzinfo=UTC)


def receipt(**changed: object) -> Receipt:
    """Ten minutes held, 5:22 delivered, the fan left: six minutes."""
    figures: dict[str, object] = {
        "session_id": "ses_1",
        "request_id": "req_1",
        "creator_id": "creator",
        "fan_id": "fan",
        "started_at": STARTED,
        "ended_at": STARTED,
        "end_reason": "ENDED_BY_FAN",
        "requested_minutes": 10,
        "min_minutes": 5,
        "minute_ms": 60_000,
        "paid_ms": 600_000,
        "delivered_ms": 322_000,
        "billed_minutes": 6,
        "rate_per_minute": 100,
        "discount_percent": 0,
        "commission_percent": 20,
        "total_held": 1_000,
        "earnings": 480,
        "commission": 120,
        "refunded": 400,
        "transfers": (),
    } | changed
    return Receipt(status="ended", end_row="fan_left", **figures)  # type: ignore[arg-type]


def text(pieces: list[tuple[str, bool]]) -> str:
    return "".join(piece for piece, _ in pieces)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (1_350, "1,350"), (-1_000, "−1,000")],
)
def test_tokens_have_separators_and_a_real_minus(value: int, written: str) -> None:
    assert wording.tokens(value) == written


@pytest.mark.parametrize(
    ("tokens", "written"),
    [(0, "$0.00"), (1, "$0.05"), (100, "$5.00"), (1_000, "$50.00"), (-160, "$8.00"), (30_000, "$1,500.00")],
)
def test_money_is_the_list_price_of_the_smallest_package(tokens: int, written: str) -> None:
    assert wording.money(tokens) == written
    assert wording.about(tokens) == f"about {written}"


def test_money_rounds_half_up() -> None:
    # Given a package whose tokens cost a third of a cent
    price = wording.TokenPrice(tokens=3, minor=1, currency="USD")
    # Then one token is nearer to nothing, two are nearer to a cent
    assert (price.of(1), price.of(2)) == (0, 1)
    assert wording.TokenPrice(tokens=2, minor=1, currency="USD").of(1) == 1


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(0, "0:00"), (278_999, "4:38"), (3_729_000, "1:02:09"), (-5, "0:00")],
)
def test_clocks(milliseconds: int, written: str) -> None:
    assert wording.clock(milliseconds) == written


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(120_000, "2 minutes"), (60_000, "1 minute"), (24_000, "24 s"), (90_000, "1 min 30 s")],
)
def test_limits_in_a_sentence(milliseconds: int, written: str) -> None:
    assert wording.lasting(milliseconds) == written


def test_moments_are_written_in_utc_from_either_form() -> None:
    assert wording.when(STARTED) == "21 November 2026, 21:04 UTC"
    assert wording.when("2026-11-21T22:04:00+01:00", "short") == "21 November, 21:04 UTC"
    assert wording.iso("2026-11-21T21:04:00Z") == "2026-11-21T21:04:00Z"


@pytest.mark.parametrize(("name", "letter"), [("Creator A", "A"), ("fan_b", "B"), ("mia", "M"), ("", "?")])
def test_initials(name: str, letter: str) -> None:
    assert wording.initial(name) == letter


def test_the_lead_says_what_was_paid_and_what_came_back() -> None:
    assert text(lead(receipt(), is_creator=False)) == (
        "You paid 600 tokens for 6 minutes. 400 tokens of the 1,000 held came back."
    )
    assert text(lead(receipt(), is_creator=True)) == "You earned 480 tokens for 6 minutes."


def test_the_lead_of_a_call_that_cost_nothing() -> None:
    free = receipt(billed_minutes=0, earnings=0, commission=0, refunded=1_000)
    assert text(lead(free, is_creator=False)) == "You paid nothing. All 1,000 tokens came back."
    assert text(lead(free, is_creator=True)) == "You earned nothing. All of it went back to the fan."


def test_the_reason_shows_its_sum_only_where_minutes_were_rounded_up() -> None:
    # When started minutes count
    words = reason_words(receipt(), "You ended the call, so started minutes count.", "Creator A’s", 18_000)
    # Then the sum is shown, and the time that is not counted
    assert words == (
        "The call ran 5 min 22 s with Creator A’s picture. Another 18 s without it are not counted. "
        "You ended the call, so started minutes count: 5:22 makes 6."
    )
    # But not where whole minutes count
    whole = receipt(billed_minutes=5, end_reason="ENDED_BY_CREATOR")
    assert "makes" not in reason_words(whole, "The creator ended the call.", "Creator A’s", 0)


def test_the_time_bar_adds_up_to_what_was_paid_ahead() -> None:
    bar = {part.label: part.milliseconds for part in time_segments(receipt(), 18_000)}
    assert bar == {"Delivered": 322_000, "Rounded up": 38_000, "Not counted": 18_000, "Came back": 240_000}
    assert sum(bar.values()) - bar["Not counted"] == 600_000


def test_the_time_bar_shows_delivered_time_that_nobody_paid() -> None:
    bar = {part.label: part.milliseconds for part in time_segments(receipt(billed_minutes=5), 0)}
    assert bar == {"Delivered": 300_000, "Delivered, not charged": 22_000, "Came back": 278_000}


def test_accounts_are_named_from_the_readers_side() -> None:
    mine = ReceiptEntry(account="wallet", amount=-1, owner="fan")
    assert account_words(mine, "fan", "Creator A") == "your wallet"
    assert account_words(mine, "creator", "fan_a") == "fan_a’s wallet"
    assert account_words(ReceiptEntry(account="fees", amount=1), "fan", "Creator A") == "commission"
