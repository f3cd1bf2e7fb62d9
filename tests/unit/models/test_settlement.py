"""The end table of docs/money.md: every row, every cell, and what must hold for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models import settlement
from models.end_words import PER_MINUTE_ALONE, in_words, terms
from models.messages.events import EndFact
from models.settlement import Bill, EndFacts, PaidFor, Row, bill, resolve_row

MINUTE = 60_000
LEAVE_MS = 10_000


def ended(fact: EndFact = "closed", **changed: object) -> EndFacts:
    facts = {"creator_connected": True, "fan_connected": True} | changed
    return EndFacts(fact=fact, **facts)  # type: ignore[arg-type]


def row_of(facts: EndFacts | None, wish: str | None = None, at_fault: str | None = None) -> str:
    return resolve_row(facts, wish=wish, at_fault=at_fault, pause_leave_ms=LEAVE_MS).key  # type: ignore[arg-type]


def billed(
    row: Row, delivered_ms: int, *, minutes: int = 10, minimum: int = 5, bad: int = 0, **changed: int
) -> Bill:
    """A session of 100 tokens a minute, all paid minutes acknowledged."""
    given = {"paid_ms": minutes * MINUTE, "rate": 100, "commission_percent": 20, "minute_ms": MINUTE} | changed
    return bill(
        row,
        total_held=(minutes - changed.get("included_minutes", 0)) * given["rate"] + changed.get("unlock_price", 0),
        min_minutes=minimum,
        delivered_ms=delivered_ms,
        bad_tokens=bad,
        **given,
    )


# --- which row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "row"),
    [
        ("time_expired", "time_expired"),
        ("fan_left", "fan_left"),
        ("fan_absent", "fan_left"),
        ("fan_never_connected", "fan_no_show"),
        ("creator_left", "creator_left"),
        ("creator_never_connected", "creator_no_show"),
    ],
)
@pytest.mark.parametrize("wish", [None, "fan", "creator", "payment_failed", "moderation", "outside_cut"])
def test_a_fact_of_medias_own_decides_whatever_was_wished(fact: EndFact, row: str, wish: str | None) -> None:
    assert row_of(ended(fact), wish, "fan") == row


@pytest.mark.parametrize(
    ("wish", "at_fault", "row"),
    [
        ("fan", None, "fan_left"),
        ("creator", None, "creator_left"),
        ("stream_deleted", None, "creator_left"),
        ("payment_failed", None, "payment_bad"),
        ("outside_cut", None, "our_fault"),
        ("moderation", "fan", "moderation_fan"),
        ("moderation", "creator", "moderation_creator"),
        ("moderation", "none", "moderation_none"),
        ("moderation", None, "moderation_none"),
        (None, None, "our_fault"),
    ],
)
def test_a_closed_room_ended_by_what_was_wished(wish: str | None, at_fault: str | None, row: str) -> None:
    assert row_of(ended("closed"), wish, at_fault) == row


@pytest.mark.parametrize("fact", ["time_expired", "fan_left", "creator_left", "creator_never_connected", "closed"])
@pytest.mark.parametrize("refused", [True, False])
def test_time_that_ran_out_for_want_of_tokens_is_a_payment_refused(fact: EndFact, refused: bool) -> None:
    row = resolve_row(ended(fact), wish=None, pause_leave_ms=LEAVE_MS, hold_refused=refused)
    assert (row.key == "payment_refused") == (refused and fact == "time_expired")


@pytest.mark.parametrize("wish", [None, "fan", "creator", "payment_failed", "moderation", "stream_deleted"])
def test_no_final_report_is_our_fault_whoever_wished_the_end(wish: str | None) -> None:
    assert row_of(None, wish, "fan") == "our_fault"


@pytest.mark.parametrize(
    ("fact", "wish"),
    [
        ("fan_left", None),
        ("fan_absent", None),
        ("fan_never_connected", None),
        ("closed", "fan"),
        ("closed", "moderation"),
    ],
)
@pytest.mark.parametrize("fan_connected", [True, False])
def test_the_creators_absence_outranks_the_fans(fact: EndFact, wish: str | None, fan_connected: bool) -> None:
    facts = ended(fact, creator_connected=False, fan_connected=fan_connected)
    assert row_of(facts, wish, "fan") == "creator_no_show"


@pytest.mark.parametrize(("fact", "wish"), [("fan_left", None), ("fan_absent", None), ("closed", "fan")])
def test_a_fan_who_gives_up_before_connecting_never_connected(fact: EndFact, wish: str | None) -> None:
    assert row_of(ended(fact, fan_connected=False), wish) == "fan_no_show"


@pytest.mark.parametrize(("fact", "wish"), [("fan_left", None), ("fan_absent", None), ("closed", "fan")])
@pytest.mark.parametrize(
    ("cause", "paused_for_ms", "row"),
    [
        ("creator", LEAVE_MS, "creator_left"),
        ("creator", LEAVE_MS - 1, "fan_left"),
        ("node", LEAVE_MS, "our_fault"),
        ("node", LEAVE_MS - 1, "fan_left"),
    ],
)
def test_a_fan_who_leaves_a_pause_that_lasts_leaves_by_its_cause(
    fact: EndFact, wish: str | None, cause: str, paused_for_ms: int, row: str
) -> None:
    assert row_of(ended(fact, pause_cause=cause, paused_for_ms=paused_for_ms), wish) == row


@pytest.mark.parametrize("at_fault", ["fan", "creator", "none"])
def test_a_pause_changes_nothing_about_moderation(at_fault: str) -> None:
    facts = ended("closed", pause_cause="creator", paused_for_ms=60_000)
    assert row_of(facts, "moderation", at_fault) == f"moderation_{at_fault}"


@pytest.mark.parametrize("fact", ["creator_pause_used_up", "node_pause_used_up"])
@pytest.mark.parametrize(
    ("creator_ms", "node_ms", "row"),
    [(70_000, 50_000, "creator_left"), (50_000, 70_000, "our_fault"), (60_000, 60_000, "our_fault")],
)
def test_pauses_used_up_end_by_the_larger_share(fact: EndFact, creator_ms: int, node_ms: int, row: str) -> None:
    assert row_of(ended(fact, creator_pause_ms=creator_ms, node_pause_ms=node_ms)) == row


@given(st.integers(0, 10 * MINUTE))
def test_on_a_tie_of_pauses_the_fan_pays_the_least_that_either_cause_would_cost(delivered_ms: int) -> None:
    row = settlement.ROWS[row_of(ended("creator_pause_used_up", creator_pause_ms=1, node_pause_ms=1))]
    other = min(billed(cause, delivered_ms).charged for cause in (settlement.CREATOR_LEFT, settlement.OUR_FAULT))
    assert billed(row, delivered_ms).charged == other


# --- what it comes to --------------------------------------------------------------------------------

SECOND = 1000
CELLS = [
    # row, delivered ms -> minutes the creator is paid for (10 acknowledged, minimum 5)
    ("time_expired", 10 * MINUTE, 10),
    ("time_expired", 0, 10),
    ("payment_refused", 10 * MINUTE, 10),
    ("payment_refused", 9 * MINUTE, 10),
    ("fan_left", 0, 5),
    ("fan_left", 1, 5),
    ("fan_left", 5 * MINUTE, 5),
    ("fan_left", 5 * MINUTE + 1, 6),
    ("fan_left", 322 * SECOND, 6),
    ("fan_left", 10 * MINUTE, 10),
    ("fan_no_show", 0, 5),
    ("creator_left", 59 * SECOND, 0),
    ("creator_left", MINUTE, 1),
    ("creator_left", 10 * MINUTE - 1, 9),
    ("creator_no_show", 0, 0),
    ("our_fault", 59 * SECOND, 0),
    ("our_fault", 6 * MINUTE + 59 * SECOND, 6),
    ("payment_bad", 59 * SECOND, 0),
    ("payment_bad", 6 * MINUTE + 1, 6),
    ("moderation_fan", 322 * SECOND, 6),
    ("moderation_fan", 0, 5),
    ("moderation_creator", 322 * SECOND, 5),
    ("moderation_none", 322 * SECOND, 5),
]


@pytest.mark.parametrize(("key", "delivered_ms", "minutes"), CELLS)
def test_every_cell(key: str, delivered_ms: int, minutes: int) -> None:
    result = billed(settlement.ROWS[key], delivered_ms)
    assert result.billed_minutes == minutes
    assert (result.earnings, result.commission) == (minutes * 80, minutes * 20)
    assert result.refunded == 1000 - minutes * 100


def test_every_row_has_a_cell() -> None:
    assert {key for key, _, _ in CELLS} == set(settlement.ROWS)


# What each row bills of 10 acknowledged minutes at 5:22, minimum 5, and whether it is somebody else's fault.
AT_5_22 = {
    "time_expired": (10, False),
    "payment_refused": (10, False),
    "fan_left": (6, False),
    "fan_no_show": (5, False),
    "creator_left": (5, True),
    "creator_no_show": (0, True),
    "our_fault": (5, True),
    "payment_bad": (5, False),
    "moderation_fan": (6, False),
    "moderation_creator": (5, True),
    "moderation_none": (5, True),
}


@pytest.mark.parametrize("key", settlement.ROWS)
@pytest.mark.parametrize("included", [0, 1, 5, 6, 10])
@pytest.mark.parametrize("unlock", [0, 1, 250])
@pytest.mark.parametrize("live", [True, False])
def test_every_cell_with_included_minutes_and_unlock(key: str, included: int, unlock: int, live: bool) -> None:
    minutes, others_fault = AT_5_22[key]
    result = billed(
        settlement.ROWS[key], 322 * SECOND, included_minutes=included, unlock_price=unlock, live=live
    )
    earned = unlock if live and not others_fault and key != "fan_no_show" else 0
    charged = (minutes - included) * 100 + earned if minutes > included else earned
    assert (result.billed_minutes, result.unlock_earned, result.charged) == (minutes, earned, charged)
    assert result.commission == charged * 20 // 100
    assert result.refunded == (10 - included) * 100 + unlock - charged
    assert result.included_used == (0 if others_fault else min(minutes, included))


# 5 whole minutes delivered, 2 of them included: 3 to pay from good tokens, then 250 for the unlock.
# bad tokens of the 1,050 held -> minutes billed, included used, unlock earned
BAD = [
    (0, 5, 2, 250),
    (500, 5, 2, 250),
    (501, 5, 2, 249),
    (750, 5, 2, 0),
    (751, 4, 2, 99),
    (850, 4, 2, 0),
    (851, 3, 2, 99),
    (1049, 2, 2, 1),
    (1050, 2, 2, 0),
]


@pytest.mark.parametrize(("bad", "minutes", "used", "unlock"), BAD)
def test_good_tokens_pay_minutes_first_then_the_unlock(bad: int, minutes: int, used: int, unlock: int) -> None:
    result = billed(
        settlement.PAYMENT_BAD, 322 * SECOND, bad=bad, included_minutes=2, unlock_price=250, live=True
    )
    assert (result.billed_minutes, result.included_used, result.unlock_earned) == (minutes, used, unlock)
    assert result.charged == max(0, minutes - 2) * 100 + unlock
    assert result.refunded >= result.bad_tokens


@pytest.mark.parametrize("key", sorted(set(settlement.ROWS) - {"payment_bad"}))
@pytest.mark.parametrize("bad", [1, 500, 1_000])
def test_bad_tokens_change_no_other_row(key: str, bad: int) -> None:
    row = settlement.ROWS[key]
    good, worse = billed(row, 322 * SECOND), billed(row, 322 * SECOND, bad=bad)
    assert (worse.charged, worse.refunded) == (good.charged, good.refunded)


def test_a_session_of_included_minutes_alone_moves_no_token() -> None:
    for row in settlement.ROWS.values():
        result = billed(row, 322 * SECOND, included_minutes=10)
        assert (result.total_held, result.charged, result.refunded) == (0, 0, 0)


def test_an_extension_that_media_never_acknowledged_is_not_billed() -> None:
    """10 minutes acknowledged, 15 held for: by whatever row, the 5 come back."""
    for row in settlement.ROWS.values():
        result = billed(row, 10 * MINUTE, minutes=15, paid_ms=10 * MINUTE)
        assert result.billed_minutes <= 10
        assert result.refunded >= 500


@pytest.mark.parametrize(
    ("delivered_ms", "billed_minutes"),
    [(4 * MINUTE, 5), (5 * MINUTE - 1, 5), (5 * MINUTE, 5), (5 * MINUTE + 1, 6)],
)
def test_by_the_minute_the_minute_held_ahead_is_not_billed_before_it_starts(
    delivered_ms: int, billed_minutes: int
) -> None:
    """The sixth minute was held and acknowledged 20 s before the fifth ended."""
    assert billed(settlement.FAN_LEFT, delivered_ms, minutes=6).billed_minutes == billed_minutes


@pytest.mark.parametrize(("bad", "minutes"), [(0, 6), (400, 6), (401, 5), (950, 0), (1000, 0)])
def test_bad_payments_pay_for_nothing(bad: int, minutes: int) -> None:
    result = billed(settlement.PAYMENT_BAD, 6 * MINUTE, bad=bad)
    assert result.billed_minutes == minutes
    assert result.bad_tokens == bad
    assert result.refunded - result.bad_tokens >= 0


@pytest.mark.parametrize("key", settlement.ROWS)
def test_nothing_is_billed_that_media_has_not_acknowledged(key: str) -> None:
    assert billed(settlement.ROWS[key], 10 * MINUTE, paid_ms=0).charged == 0
    assert billed(settlement.ROWS[key], 10 * MINUTE, paid_ms=3 * MINUTE).billed_minutes <= 3


def test_a_shortened_minute_bills_in_its_own_minutes() -> None:
    result = billed(settlement.FAN_LEFT, 6_500, minutes=10, paid_ms=10_000, minute_ms=1_000)
    assert result.billed_minutes == 7


@pytest.mark.parametrize(
    "changed",
    [
        {"paid_ms": -1},
        {"rate": 0},
        {"minute_ms": 0},
        {"bad": 1001},
        {"minimum": -1},
        {"included_minutes": -1},
        {"included_minutes": 20, "unlock_price": 1_000},
    ],
)
def test_impossible_amounts_are_a_mistake_in_the_program(changed: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        billed(settlement.OUR_FAULT, 0, **changed)


rows = st.sampled_from(sorted(settlement.ROWS)).map(settlement.ROWS.__getitem__)
figures = st.fixed_dictionaries(
    {
        "minutes": st.integers(1, 480),
        "minimum": st.integers(1, 60),
        "rate": st.integers(1, 100_000),
        "commission_percent": st.integers(0, 100),
        "minute_ms": st.sampled_from([1_000, 6_000, 60_000]),
    }
)


extras = st.fixed_dictionaries(
    {"unlock_price": st.integers(0, 1_000_000), "included_minutes": st.integers(0, 240), "live": st.booleans()}
)


@given(rows, figures, extras, st.integers(0, 480 * MINUTE), st.integers(0, 480), st.floats(0, 1))
def test_held_is_earnings_commission_and_refund_and_none_is_negative(
    row: Row, figures: dict[str, int], extras: dict[str, int], delivered_ms: int, acknowledged: int, bad: float
) -> None:
    included = min(extras["included_minutes"], figures["minutes"])
    figures = figures | extras | {"included_minutes": included}
    held = (figures["minutes"] - included) * figures["rate"] + figures["unlock_price"]
    result = billed(
        row, delivered_ms, **figures, paid_ms=acknowledged * figures["minute_ms"], bad=min(held, int(held * bad))
    )
    assert result.total_held == held == result.earnings + result.commission + result.refunded
    assert min(result.earnings, result.commission, result.refunded, result.billed_minutes) >= 0
    assert result.charged == max(0, result.billed_minutes - included) * figures["rate"] + result.unlock_earned
    assert result.billed_minutes <= min(acknowledged, figures["minutes"])
    assert 0 <= result.bad_tokens <= result.refunded
    assert 0 <= result.included_used <= min(included, result.billed_minutes)
    assert 0 <= result.unlock_earned <= figures["unlock_price"] * figures["live"]
    if row.paid_for in settlement.RETURN_EXTRAS:
        assert result.included_used == result.unlock_earned == 0


@given(rows, figures, extras, st.integers(0, 480 * MINUTE))
def test_a_subscription_or_no_unlock_never_costs_more(
    row: Row, figures: dict[str, int], extras: dict[str, int], delivered_ms: int
) -> None:
    paid_ms = figures["minutes"] * figures["minute_ms"]
    included = min(extras["included_minutes"], figures["minutes"])
    plain = billed(row, delivered_ms, **figures, paid_ms=paid_ms)
    both = billed(row, delivered_ms, **figures | extras | {"included_minutes": included}, paid_ms=paid_ms)
    assert both.billed_minutes == plain.billed_minutes
    assert both.charged - both.unlock_earned <= plain.charged
    assert plain.charged <= both.charged + included * figures["rate"]


@given(rows, figures, st.integers(0, 480 * MINUTE), st.integers(0, 5 * MINUTE), st.integers(0, 479))
def test_more_delivered_or_more_acknowledged_never_pays_less(
    row: Row, figures: dict[str, int], delivered_ms: int, more_ms: int, acknowledged: int
) -> None:
    def minutes(delivered_ms: int, acknowledged: int) -> int:
        return billed(row, delivered_ms, **figures, paid_ms=acknowledged * figures["minute_ms"]).billed_minutes

    assert minutes(delivered_ms, acknowledged) <= minutes(delivered_ms + more_ms, acknowledged)
    assert minutes(delivered_ms, acknowledged) <= minutes(delivered_ms, acknowledged + 1)


@given(figures, st.integers(0, 480 * MINUTE))
def test_nobody_pays_more_for_an_end_by_somebody_else_than_for_leaving(
    figures: dict[str, int], delivered_ms: int
) -> None:
    assume(figures["minimum"] <= figures["minutes"])
    paid_ms = figures["minutes"] * figures["minute_ms"]
    left = billed(settlement.FAN_LEFT, delivered_ms, **figures, paid_ms=paid_ms).charged
    for row in (settlement.CREATOR_LEFT, settlement.CREATOR_NO_SHOW, settlement.OUR_FAULT, settlement.PAYMENT_BAD):
        assert billed(row, delivered_ms, **figures, paid_ms=paid_ms).charged <= left


# --- in words ----------------------------------------------------------------------------------------


ALL_WAYS = [
    {"per_minute": per_minute, "included_minutes": included, "unlock_price": unlock}
    for per_minute in (False, True)
    for included in (0, 2, 7)
    for unlock in (0, 250)
]


def said(**changed: Any) -> dict[str, str]:
    """Row's key → what the fan is told to pay."""
    shown = terms(**{"min_minutes": 5, "rate_per_minute": 100} | changed)
    keys = [
        key for key, row in settlement.ROWS.items() if changed.get("per_minute") or row not in PER_MINUTE_ALONE
    ]
    return dict(zip(keys, (term.pays for term in shown), strict=True))


def test_the_dialog_shows_every_row_with_its_price() -> None:
    shown = {term.cause: term.pays for term in terms(min_minutes=5, rate_per_minute=100)}
    assert len(shown) == len(settlement.ROWS) - len(PER_MINUTE_ALONE)
    assert shown["The time runs out"] == "All of it."
    assert shown["You never connect"] == "The minimum, 500 tokens. The rest comes back."
    assert shown["You leave, or are away over 60 s"].startswith("Minutes delivered, rounded up, at least 5.")


@pytest.mark.parametrize("way", ALL_WAYS, ids=str)
def test_every_way_to_pay_has_whole_sentences_for_every_row(way: dict[str, Any]) -> None:
    for words in said(**way).values():
        assert words.endswith(".")
        assert not set("{}") & set(words)
        assert "  " not in words


def test_by_the_minute_the_dialog_says_how_it_ends_without_tokens() -> None:
    shown = {term.cause: term.pays for term in terms(min_minutes=5, rate_per_minute=100, per_minute=True)}
    assert len(shown) == len(settlement.ROWS)
    assert shown["Your tokens run out"] == "The minutes paid so far."
    assert shown["The next minute is not held in time"] == "The minutes paid so far."
    assert "The time runs out" not in shown


def test_the_dialog_says_where_the_unlock_price_goes() -> None:
    shown = said(unlock_price=250)
    for key, row in settlement.ROWS.items():
        if key == "payment_refused" or row.paid_for is PaidFor.NOTHING or key == "time_expired":
            continue
        assert "unlock price" in shown[key]
        live = billed(row, 322 * SECOND, unlock_price=250, live=True).unlock_earned
        assert (live == 0) == ("no unlock price" in shown[key] or "unlock price too" in shown[key])


def test_the_dialog_says_what_a_subscription_takes_off() -> None:
    assert said(included_minutes=2)["fan_no_show"] == "The minimum, 300 tokens. The rest comes back."
    one = said(rate_per_minute=1, included_minutes=4)["fan_no_show"]
    assert one == "The minimum, 1 token. The rest comes back."
    assert said(included_minutes=5)["fan_no_show"].startswith("The minimum, which your subscription includes.")
    for key, words in said(included_minutes=2).items():
        returns = settlement.ROWS[key].paid_for in settlement.RETURN_EXTRAS
        assert returns == words.endswith("So do all included minutes.")


def test_the_minimum_is_said_in_money_too() -> None:
    shown = said(money=lambda tokens: f"${tokens // 20}.00", included_minutes=2)
    assert shown["fan_no_show"] == "The minimum, 300 tokens ($15.00). The rest comes back."


@pytest.mark.parametrize("way", ALL_WAYS, ids=str)
def test_rows_that_pay_the_same_are_described_the_same(way: dict[str, Any]) -> None:
    shown = said(**way)
    for paid_for in PaidFor:
        assert len({words for key, words in shown.items() if settlement.ROWS[key].paid_for is paid_for}) == 1


def test_a_shortened_minute_is_said_in_the_dialog() -> None:
    assert terms(min_minutes=5, rate_per_minute=100, minute_ms=1_000)[1].cause == "You leave, or are away over 1 s"


@pytest.mark.parametrize("key", settlement.ROWS)
@pytest.mark.parametrize("for_creator", [True, False])
def test_each_receipt_says_why(key: str, for_creator: bool) -> None:
    words = in_words(settlement.ROWS[key], for_creator=for_creator, min_minutes=5)
    assert words.endswith(".")
    assert "{" not in words


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"included_minutes": 5, "included_used": 1}, "subscription 1 included minute was used, 4 came back."),
        ({"included_minutes": 5, "included_used": 5}, "subscription 5 included minutes were used."),
        ({"unlock_price": 250, "unlock_earned": 250}, "The unlock price of 250 tokens was paid."),
        ({"unlock_price": 250}, "The unlock price of 250 tokens came back."),
        (
            {"unlock_price": 250, "unlock_earned": 99},
            "The unlock price of 250 tokens was paid as far as good tokens went, 99.",
        ),
    ],
)
def test_a_receipt_says_what_became_of_included_minutes_and_unlock(figures: dict[str, int], words: str) -> None:
    assert in_words(settlement.FAN_LEFT, for_creator=False, min_minutes=5, **figures).endswith(words)
