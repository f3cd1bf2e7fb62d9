"""The estimate of a line, and what it does to pictures and sound, on a virtual clock behind lines of all kinds."""

from __future__ import annotations

from typing import Any

import pytest
from bottleneck import RATES, SOUND_EVERY_MS, SOUND_PACKET, Line, Street
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media.bandwidth import Bandwidth
from media.congestion import CATCH_UP_MS, FORGOTTEN_MS, LEAST, MOST, START, Estimator
from media.layers import HIGH, LOW, MEDIUM, NONE
from media.losses import Losses
from media.send_history import LONGEST_US, Feedback, Step
from media.trend import SHORT_QUEUE_MS, Arrived, Trend

GOOD = 6_000_000
NARROW = 300_000


def test_a_good_line_carries_the_best_from_the_beginning() -> None:
    street = Street(Line(GOOD))
    assert street.watch(5) == 1.0
    assert street.limits == [HIGH]
    assert street.changes == 0
    assert street.policy.prober.count == 0


@pytest.mark.parametrize("single", [False, True])
def test_a_line_that_becomes_narrow_and_good_again(single: bool) -> None:
    street = Street(Line(GOOD), single=single)
    street.run(3)
    # When it carries a tenth of what is sent
    street.line.rate = NARROW
    street.run(2)
    # Then two seconds later there is sound without gaps, and a picture that fits
    before = street.picture_octets
    assert street.watch(20) > 0.99
    assert street.limits == [HIGH if single else LOW]
    assert 100_000 < (street.picture_octets - before) * 8 / 20 < NARROW
    assert 0.5 * NARROW < street.estimate < 1.3 * NARROW
    # When it is as before: a probe in at most twenty seconds, then steps of one second
    street.line.rate = GOOD
    street.run(27)
    assert street.limits == [HIGH]
    assert street.capped == RATES[HIGH]
    assert street.watch(5) == 1.0


def test_who_begins_on_a_narrow_line_is_heard_soon_and_finds_the_best_layer_when_it_is_wide() -> None:
    street = Street(Line(NARROW))
    street.run(2)
    assert street.watch(5) == 1.0
    assert street.limits == [LOW]
    street = Street(Line(1_000_000))
    street.run(10)
    assert street.watch(10) == 1.0
    assert street.limits == [MEDIUM]


def test_a_line_for_sound_alone_carries_no_picture() -> None:
    street = Street(Line(90_000))
    street.run(10)
    # A probe is short, and rarer each time it fails
    assert street.watch(30) > 0.98
    assert street.limits == [NONE]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("narrow", "seconds"), [(40_000, 20), (90_000, 30), (100_000, 5), (130_000, 20)])
@pytest.mark.parametrize("queue_ms", [300, 800])
def test_after_a_spell_without_any_picture_there_is_one_again(
    narrow: int, seconds: float, queue_ms: int, single: bool
) -> None:
    street = Street(Line(GOOD, queue_ms=queue_ms), single=single)
    street.run(3)
    street.line.rate = narrow
    street.run(seconds)
    # Sound has all that it needs, or all there is
    needs = SOUND_PACKET * 8_000 / SOUND_EVERY_MS
    assert street.watch(10) > 0.98 * min(1.0, narrow / needs)
    street.line.rate = GOOD
    street.run(45)
    assert street.limits == [HIGH]
    assert street.capped == RATES[HIGH]


def test_a_silence_leaves_no_queue_behind() -> None:
    grows = tuple(Step(20_000, 50_000, 1_000) for _ in range(20))
    rests = Step(20_000, 20_000, 1_000)

    def said(*steps: Step, at_ms: int) -> Feedback:
        return Feedback(10, 0, 0, 10_000, at_ms * 1_000, at_ms * 1_000, 0, 0, 0, 0, steps)

    # Given a long queue, of which the last that is heard is that it was there
    for silence in (Step(LONGEST_US, 4_500_000, 1_000), Step(3_000_000, 2_600_000, 1_000)):
        estimator = Estimator()
        estimator.feedback(said(*grows, at_ms=1_000), 1_000, 40.0)
        assert not estimator.clean(1_000)
        assert not estimator.clean(2_100), "a queue, not only trouble"
        # Then some seconds later it is none, as nothing was sent into it
        assert estimator.clean(3_100)
        # Nor when something is heard again: early, of what was sent after the silence, or late
        estimator.feedback(said(silence, *[rests] * 3, at_ms=2_200), 2_200, 40.0)
        assert estimator.clean(3_000)
    estimator = Estimator()
    estimator.feedback(said(*grows, at_ms=1_000), 1_000, 40.0)
    estimator.feedback(said(rests, rests, at_ms=9_000), 9_000, 40.0)
    assert estimator.clean(9_000)
    assert estimator._trend.queue_ms < SHORT_QUEUE_MS


def test_a_receiver_whose_clock_stands_still_has_us_add_up_little() -> None:
    arrived = Arrived()
    for _ in range(10_000):
        arrived.add(7_000_000, 1_000)
    assert len(arrived._window) <= Arrived.MOST
    arrived.add(7_200_000, 1_000)
    assert arrived.bitrate == pytest.approx((Arrived.MOST - 1) * 1_000 * 8 / 0.2)
    assert arrived.latest() == pytest.approx(1_000 * 8 / 0.2)


def test_losses_that_are_not_ours_leave_the_picture() -> None:
    street = Street(Line(GOOD, loss=0.05))
    street.run(20)
    assert street.limits == [HIGH]
    assert street.estimate >= RATES[HIGH]


def test_many_pictures_share_a_line() -> None:
    street = Street(Line(2_000_000), pictures=6)
    street.run(15)
    assert street.watch(10) == 1.0
    assert all(limit >= LOW for limit in street.limits)


@settings(max_examples=5, deadline=None)
@given(
    rates=st.lists(st.integers(250_000, 6_000_000), min_size=1, max_size=2),
    delay_ms=st.integers(1, 120),
    queue_ms=st.integers(100, 800),
    loss=st.sampled_from([0.0, 0.0, 0.01, 0.03]),
    pictures=st.integers(1, 2),
)
def test_sound_survives_on_any_line_and_the_estimate_stays_near_it(
    rates: list[int], delay_ms: int, queue_ms: int, loss: float, pictures: int
) -> None:
    street = Street(Line(rates[0], delay_ms=delay_ms, queue_ms=queue_ms, loss=loss), pictures=pictures)
    for rate in rates:
        street.line.rate = rate
        # Reports on sound come every five seconds, and may have to be waited for
        street.run(6)
        assert street.watch(6) >= 0.95 - loss
        wanted = pictures * RATES[HIGH]
        assert LEAST <= street.estimate <= max(1.6 * rate, START, 1.6 * wanted)
        carried = sum(RATES[limit] for limit in street.limits if limit > NONE)
        assert carried <= 1.25 * rate


shares = st.floats(0, 1)
feedbacks = st.builds(
    Feedback,
    received=st.integers(0, 2**31), lost=st.integers(0, 2**31), recovered=st.integers(0, 2**31),
    octets=st.integers(0, 2**31), sent_us=st.integers(0, 2**62), arrived_us=st.integers(-(2**62), 2**62),
    probe_packets=st.integers(0, 2**31), probe_octets=st.integers(0, 2**31),
    probe_sent_us=st.integers(0, 5_000_000), probe_arrived_us=st.integers(0, 5_000_000),
    steps=st.lists(
        st.builds(Step, st.integers(-(2**31), 2**31), st.integers(0, 5_000_000), st.integers(0, 2**31)),
        max_size=32,
    ).map(tuple),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(said=st.lists(st.tuples(feedbacks, st.integers(0, 2_000), shares), max_size=12))
def test_no_lie_leaves_the_bounds(said: list[tuple[Feedback, int, float]]) -> None:
    policy, now_ms = Bandwidth(), 1_000
    for feedback, later, share in said:
        now_ms += later
        policy.feedback(feedback, now_ms, 60_000 * share)
        policy.prober.begin(1e9, 1e6, now_ms, 10.0)
        division = policy.decide([], 0.0, now_ms)
        assert division is not None
        assert policy.estimator.bitrate is not None
        assert LEAST <= policy.estimator.bitrate <= MOST
        assert 0.0 <= policy.estimator.loss <= 1.0


def test_the_trend_knows_a_queue_that_grows_from_one_that_trembles() -> None:
    grows, trembles, empties = Trend(), Trend(), Trend()
    step = Step(20_000, 26_000, 1_000)
    assert 1 in [grows.follow([step] * 5) for _ in range(4)]
    assert not grows.stands or grows.queue_ms > SHORT_QUEUE_MS
    shakes = [Step(20_000, 20_000 + by, 1_000) for by in (40_000, -20_000, 10_000, -20_000, -10_000)]
    assert 1 not in [trembles.follow(shakes) for _ in range(8)]
    assert -1 in [empties.follow([Step(20_000, 14_000, 1_000)] * 5) for _ in range(4)]


def test_a_queue_that_stays_whatever_is_sent_is_none() -> None:
    trend = Trend()
    trend.follow([Step(20_000, 20_000, 1_000)] * 10)
    trend.follow([Step(20_000, 120_000, 1_000)] + [Step(20_000, 20_000, 1_000)] * 15)
    assert trend.stands
    trend.accept_queue()
    trend.follow([Step(20_000, 20_000, 1_000)])
    assert not trend.stands


DICE = {
    "jitter": {"jitter_ms": 50},
    "shuffled": {"jitter_ms": 50, "shuffled": True},
    "busy receiver": {"hiccup_ms": 150},
    "both": {"jitter_ms": 30, "hiccup_ms": 100},
    "pauses": {"stall_ms": 60, "queue_ms": 500},
}
"""Lines that delay, and have no queue."""


@pytest.mark.parametrize("kind", DICE)
@pytest.mark.parametrize("rate", [4_000_000, GOOD])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000), single=st.booleans())
@example(seed=4098, single=False)
def test_a_line_whose_delay_dices_carries_what_it_carries(kind: str, rate: int, seed: int, single: bool) -> None:
    options: dict[str, Any] = DICE[kind]
    street = Street(Line(rate, seed=seed, **options), single=single)
    best = 0
    for _ in range(40):
        assert street.watch(1) == 1.0
        # Once in some hundred seeds 50 ms look like a queue: then less is sent, but not little, and not for long
        assert street.estimate >= 0.6 * START
        assert street.limits >= [MEDIUM]
        assert street.capped >= 0.6 * RATES[HIGH]
        best += street.limits == [HIGH] and street.capped >= 0.8 * RATES[HIGH]
        if best == 15:
            break
    assert best == 15


@pytest.mark.parametrize("single", [False, True])
@settings(max_examples=5, deadline=None)
@given(
    queue_ms=st.integers(150, 1_500), jitter_ms=st.sampled_from([0, 0, 20]), phase=st.integers(0, 40),
    narrow=st.integers(250_000, 1_200_000),
)  # fmt: skip
def test_off_a_cliff_little_of_the_sound_is_lost(
    single: bool, queue_ms: int, jitter_ms: int, phase: int, narrow: int
) -> None:
    street = Street(Line(GOOD, queue_ms=queue_ms, jitter_ms=jitter_ms), single=single)
    street.run(3 + 0.005 * phase)
    street.line.rate = narrow
    # Two feedbacks' time, in which nobody could know, and what it takes to empty a queue that is full
    assert street.watch(1) >= 0.65
    assert street.watch(20) >= 0.97
    # And what was lost meanwhile is not held against the line afterwards
    assert street.estimate > 0.4 * narrow


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("rate", [250_000, 400_000, 1_000_000, 2_000_000])
def test_a_narrow_line_is_used_without_a_queue_and_to_and_fro(rate: int, single: bool) -> None:
    street = Street(Line(rate), single=single)
    street.run(10)
    changes, octets, waits = street.changes, street.picture_octets, []
    for _ in range(400):
        assert street.watch(0.1) >= 0.6
        waits.append(street.line.waits_ms(street.now_ms))
    assert street.changes - changes <= 1
    assert sum(waits) / len(waits) < 60
    fits = max(each for each in RATES if each * 1.1 < rate - 64_000) if not single else 0.65 * (rate - 64_000)
    assert (street.picture_octets - octets) * 8 / 40 > 0.95 * fits


@pytest.mark.parametrize("more_ms", [60, 100, 250])
def test_a_way_that_has_become_longer_is_no_queue_for_long(more_ms: int) -> None:
    street = Street(Line(GOOD))
    street.run(5)
    street.line.delay_ms += more_ms
    street.run(15)
    assert street.limits == [HIGH]
    assert street.estimate > RATES[HIGH]


def test_who_has_no_transport_wide_feedback_is_believed_its_own_estimate() -> None:
    estimator = Estimator()
    estimator.told(400_000, 0, 0, whole=True)
    assert (estimator.bitrate, estimator.plain, estimator.whole) == (400_000, True, True)
    estimator.told(10**12, 1_000, 0, whole=False)
    assert (estimator.bitrate, estimator.whole) == (MOST, False)


def test_an_estimate_of_who_is_sent_no_picture_is_no_news() -> None:
    """A browser judges by pictures: without any it repeats the last word for ever."""
    policy = Bandwidth()
    policy.estimator.told(60_000, 0, 0, whole=False)
    for fifth in range(300):
        policy.estimator.told(5_000, 200 * fifth, None, whole=False)
        policy.decide([], 0.0, 200 * fifth)
    tried = policy.estimator.bitrate
    assert tried is not None
    assert tried > 500_000
    # When pictures come again it begins where it was: that is no less than before, and keeps nobody from it
    policy.estimator.told(5_000, 60_000, 60_000, whole=False)
    for second, bitrate in enumerate((8_000, 20_000, 60_000), 61):
        policy.estimator.told(bitrate, 1_000 * second, 60_000, whole=False)
        policy.decide([], 0.0, 1_000 * second)
    assert policy.estimator.bitrate == tried, "nor is more tried meanwhile"
    # But less is, and so is what it says when it had time enough
    policy.estimator.told(50_000, 64_000, 60_000, whole=False)
    assert policy.estimator.bitrate == 50_000
    policy.estimator.bitrate = tried
    policy.estimator.told(70_000, 61_000 + CATCH_UP_MS, 60_000, whole=False)
    assert policy.estimator.bitrate == 70_000


def test_who_says_nothing_but_losses_is_bound_by_them() -> None:
    estimator = Estimator()
    estimator.reported(200, 2, 2e6, 0)
    assert estimator.bitrate is None
    # Given nine tenths lost of what was sent, which the next report still tells of
    estimator.reported(200, 180, 2e6, 1_000)
    estimator.reported(200, 180, 2e6, 2_000)
    assert estimator.bitrate == pytest.approx(0.85 * 200_000)
    # Then it recovers as slowly as it may, whether anything is reported or not
    estimator.reported(200, 0, 1e5, 4_000)
    for second in range(4, 14):
        estimator.recover(second * 1_000)
    assert 250_000 < (estimator.bitrate or 0) < 500_000


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.05, 0.08])
def test_who_says_nothing_but_losses_of_which_some_are_usual_gets_more_again(loss: float, single: bool) -> None:
    street = Street(Line(NARROW, loss=loss), single=single, plain=True)
    street.run(20)
    # Of a narrow line it is sent little more than that carries
    assert street.watch(20) > 0.88 - loss
    street.line.rate = GOOD
    for _ in range(150):
        street.run(1)
        if street.limits == [HIGH] and street.capped == RATES[HIGH]:
            break
    assert street.limits == [HIGH]
    assert street.capped == RATES[HIGH]


def test_which_losses_are_usual() -> None:
    losses = Losses()
    # Few packets are no sum until some time has passed
    assert not losses.add(19, 19, 0)
    assert losses.add(19, 19, 1)
    assert losses.excessive
    for second in range(200):
        assert losses.add(150, 9, 1_000 * second)
    assert not losses.excessive
    assert losses.usual == pytest.approx(0.06, abs=0.01)
    assert losses.add(150, 30, 201_000)
    assert losses.excessive
    # Nobody's own line loses a fifth
    for second in range(200):
        losses.add(150, 30, 202_000 + 1_000 * second)
    assert losses.excessive


def test_who_says_nothing_but_losses_and_is_silent_is_tried_again() -> None:
    for every_ms, packets in ((1_000, 4), (1_000, 0)):
        estimator = Estimator()
        for report in range(10):
            estimator.reported(200, 180, 2e6, 3_000 * report)
        assert estimator.bitrate == pytest.approx(0.85 * 200_000, rel=0.01)
        # A silent microphone's few packets arrive, or there are none at all: what was lost is old news
        fell_ms = 3_000 * report
        for now_ms in range(fell_ms, fell_ms + FORGOTTEN_MS + 30_000, every_ms):
            estimator.reported(packets, 0, 20_000.0, now_ms)
            estimator.recover(now_ms)
        assert estimator.bitrate is not None
        assert estimator.loss == 0.0
        assert estimator.bitrate > 1_000_000
    # Few packets, most of them lost, are a bad line, too
    estimator = Estimator()
    for second in range(5):
        estimator.reported(6, 4, 20_000.0, 1_000 * second)
    assert estimator.bitrate is not None
    assert estimator.loss > 0.5


def test_who_once_said_its_own_estimate_and_is_silent_is_tried_again() -> None:
    policy = Bandwidth()
    policy.estimator.told(60_000, 0, 0, whole=True)
    for tenth in range(300):
        policy.decide([], 0.0, 200 * tenth)
    assert policy.estimator.bitrate is not None
    assert policy.estimator.bitrate > 500_000
