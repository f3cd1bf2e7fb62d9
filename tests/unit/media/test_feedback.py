"""Throttles, gaps, loss arithmetic, arrival times: with the time as an argument."""

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.feedback import (
    BACKOFF,
    LONGEST_REORDER_MS,
    NACK_RETRY_MS,
    NACK_TRIES,
    NACK_WINDOW,
    REORDER_MS,
    REPEAT_MS,
    SHORTEST_RETRY_MS,
    Arrivals,
    Gaps,
    KeyframeThrottle,
    Reception,
)
from tests.unit.media.transport_feedback import read_transport_feedback


def test_key_frame_requests_of_many_become_one() -> None:
    throttle = KeyframeThrottle()
    assert throttle.ask(1_000)
    assert not throttle.ask(1_010)
    assert not throttle.due(1_299)
    assert throttle.due(1_300), "the one that came too early is not forgotten"
    assert not throttle.due(1_700), "and is sent once"


def test_gaps_are_asked_for_after_a_while_again_and_then_given_up() -> None:
    gaps = Gaps()
    gaps.opened(100, 104, 0)
    assert gaps.due(REORDER_MS - 1) == [], "they may only have been overtaken"
    assert gaps.due(REORDER_MS) == [101, 102, 103]
    assert gaps.due(REORDER_MS + 1) == []
    gaps.filled(102, REORDER_MS + 2)
    now_ms = REORDER_MS
    for tries in range(NACK_TRIES - 1):
        now_ms += math.ceil(NACK_RETRY_MS * BACKOFF**tries)
        assert gaps.due(now_ms) == [101, 103]
    assert not gaps.gave_up()
    assert gaps.due(now_ms + math.ceil(NACK_RETRY_MS * BACKOFF**NACK_TRIES)) == []
    assert len(gaps) == 0
    assert gaps.gave_up()
    assert not gaps.gave_up(), "said once"


def test_what_was_only_overtaken_is_never_asked_for() -> None:
    gaps = Gaps()
    gaps.opened(100, 102, 0)
    gaps.filled(101, REORDER_MS - 1)
    assert gaps.due(1_000) == []
    assert len(gaps) == 0


def test_answers_are_waited_for_as_long_as_they_take() -> None:
    # given: a line of 200 ms there and back
    gaps = Gaps()
    gaps.opened(100, 102, 0)
    assert gaps.due(REORDER_MS) == [101]
    gaps.filled(101, REORDER_MS + 200)
    # when: the next is missing
    gaps.opened(102, 104, 1_000)
    assert gaps.due(1_000 + REORDER_MS) == [103]
    # then
    assert gaps.due(1_000 + REORDER_MS + 299) == []
    assert gaps.due(1_000 + REORDER_MS + 300) == [103]
    # and a near publisher is asked sooner than one that nobody has measured, but not with every packet
    near = Gaps()
    near.opened(100, 102, 0)
    near.due(REORDER_MS)
    near.filled(101, REORDER_MS + 1)
    near.due(1_000)
    assert near.retry_ms == SHORTEST_RETRY_MS


def test_a_line_that_has_a_queue_now_is_not_asked_as_often_as_it_was() -> None:
    # given: a publisher that answered within 20 ms
    gaps = Gaps()
    gaps.opened(0, 2, 0)
    gaps.due(REORDER_MS)
    gaps.filled(1, REORDER_MS + 20)
    gaps.due(1_000)
    assert gaps.retry_ms == 30
    # when: answers come 300 ms after they were asked for
    requests = []
    for number in range(2, 42, 2):
        at = 1_000 * number
        gaps.opened(number, number + 2, at)
        requests.append(sum(bool(gaps.due(at + after)) for after in range(REORDER_MS, REORDER_MS + 300, 5)))
        gaps.filled(number + 1, at + REORDER_MS + 300)
    # then: each is asked for once in the end, and not five times
    assert requests[0] > 3
    assert requests[-1] == 1
    assert 1.5 * 250 < gaps.retry_ms <= 1.5 * 400


def test_patience_grows_with_packets_that_come_late_by_themselves_and_falls_with_losses() -> None:
    # given: a line on which one came 40 ms late, before anybody had asked
    gaps = Gaps()
    gaps.opened(0, 2, 0)
    gaps.filled(1, 40)
    # then: the next one is waited for as long, and some more
    gaps.opened(2, 4, 1_000)
    assert gaps.due(1_049) == []
    assert gaps.due(1_050) == [3]
    gaps.filled(3, 1_090)
    # and: holes that only an answer fills make it impatient again
    for number in range(4, 64, 2):
        at = number * 1_000
        gaps.opened(number, number + 2, at)
        assert gaps.due(at + LONGEST_REORDER_MS) == [number + 1]
        gaps.filled(number + 1, at + LONGEST_REORDER_MS + 40)
    gaps.due(100_000)
    assert gaps.patience_ms == REORDER_MS


def test_what_was_asked_for_and_came_by_itself_comes_twice_and_was_asked_for_too_soon() -> None:
    # given: a packet that is 30 ms late, asked for meanwhile
    gaps = Gaps()
    gaps.opened(0, 2, 0)
    assert gaps.due(REORDER_MS) == [1]
    gaps.filled(1, 30)
    # when: the answer comes as well
    gaps.repeated(1, 55)
    # then: the next one would have been waited for, and the packet itself is taken for no answer
    assert gaps.patience_ms == 1.25 * 30
    gaps.due(1_000)
    assert gaps.retry_ms == NACK_RETRY_MS
    # and what a browser repeats for reasons of its own, later, or unasked, says nothing
    gaps.opened(2, 4, 2_000)
    gaps.due(2_038)
    gaps.filled(3, 2_060)
    gaps.repeated(3, 2_060 + REPEAT_MS)
    gaps.repeated(2, 2_100)
    assert gaps.patience_ms == 1.25 * 30


@given(st.lists(st.tuples(st.integers(0, 80), st.booleans()), min_size=1, max_size=60))
def test_every_lost_packet_is_asked_for_in_time_and_no_early_one(packets: list[tuple[int, bool]]) -> None:
    """One packet every 5 ms, each up to 80 ms late, or lost; nothing is answered."""
    gaps, highest = Gaps(), 0
    arrivals = sorted((5 * n + late, n) for n, (late, lost) in enumerate(packets, 1) if not lost)
    end = 5 * len(packets) + 80
    patience = math.ceil(NACK_RETRY_MS * BACKOFF**NACK_TRIES / (BACKOFF - 1))
    missing_since: dict[int, int] = {}
    asked: dict[int, list[int]] = {}
    for now_ms in range(end + patience + LONGEST_REORDER_MS + 1):
        while arrivals and arrivals[0][0] == now_ms:
            _, number = arrivals.pop(0)
            if number > highest:
                missing_since |= dict.fromkeys(range(highest + 1, number), now_ms)
                if number > highest + 1:
                    gaps.opened(highest, number, now_ms)
                highest = number
            else:
                missing_since.pop(number)
                gaps.filled(number, now_ms)
        for number in gaps.due(now_ms):
            assert number in missing_since, "it is there"
            asked.setdefault(number, []).append(now_ms)
            assert now_ms - missing_since[number] >= REORDER_MS
    for number, since in missing_since.items():
        assert asked[number][0] - since <= LONGEST_REORDER_MS
        assert len(asked[number]) == NACK_TRIES
    assert len(gaps) == 0, "and all of them were given up"


@pytest.mark.parametrize(("loss", "most"), [(0.0, 20), (0.05, 170)])
def test_a_line_that_shuffles_costs_hardly_a_request_beyond_what_is_lost(loss: float, most: int) -> None:
    """2,000 packets 4 ms apart, each up to 50 ms late; what is asked for comes 40 ms later, shuffled as well."""
    chance, gaps, highest, asked = random.Random(1), Gaps(), 0, 0
    under_way = [(4 * n + 50 * chance.random(), n) for n in range(1, 2_001) if chance.random() >= loss]
    heapq.heapify(under_way)
    there: set[int] = set()
    while under_way:
        at, number = heapq.heappop(under_way)
        now_ms = int(at)
        if number in there:
            gaps.repeated(number, now_ms)
        elif number < highest:
            gaps.filled(number, now_ms)
        else:
            gaps.opened(highest, number, now_ms)
            highest = number
        there.add(number)
        for wanted in gaps.due(now_ms):
            asked += 1
            heapq.heappush(under_way, (at + 40 + 50 * chance.random(), wanted))
    assert asked < most
    assert len(there) >= 1_990, "and what was lost came all the same"


def test_a_hole_too_long_for_nacks_is_left_to_a_key_frame() -> None:
    gaps = Gaps()
    gaps.opened(0, NACK_WINDOW + 2, 0)
    assert len(gaps) == 0
    assert gaps.gave_up()
    for start in range(0, 3000, 100):
        gaps.opened(start, start + 90, start)
    assert len(gaps) <= NACK_WINDOW


def test_loss_is_reported_per_interval_and_in_all() -> None:
    reception = Reception(90_000)
    assert reception.block(5, 0) is None
    for number in range(65536, 65636):
        if number % 4:
            reception.packet(number, number * 3000, number)
    reception.sender_report(0x1111_2222_3333_4444, 1_000)
    block = reception.block(5, 1_500)
    assert block is not None
    # 65536 is a multiple of four: the first packet that came is 65537.
    assert block.lost == 24
    assert block.fraction == 256 * 24 // 99
    assert block.highest == 65635 - 65536
    assert (block.last_sr, block.delay) == (0x22223333, 32768)
    for number in range(65636, 65736):
        reception.packet(number, number * 3000, number)
    again = reception.block(5, 2_000)
    assert again is not None
    assert (again.fraction, again.lost) == (0, 24)


def test_jitter_of_an_even_stream_is_nothing() -> None:
    reception = Reception(48_000)
    for number in range(100):
        reception.packet(65536 + number, number * 960, number * 20)
    block = reception.block(1, 2_000)
    assert block is not None
    assert block.jitter == 0


def test_what_passed_behind_a_closed_gate_is_neither_due_nor_lost() -> None:
    reception = Reception(90_000)
    for number in range(10):
        reception.packet(number, 3_000 * number, 33 * number)
    # when numbers go on behind a gate, and it opens
    reception.resume(500)
    # then nothing more is due, before the next packet as after it
    assert (reception.expected, reception.lost) == (10, 0)
    reception.packet(500, 3_000 * 500, 33 * 500)
    assert (reception.expected, reception.received, reception.lost) == (11, 11, 0)


def test_arrivals_report_a_loss_between_two_reports() -> None:
    arrivals = Arrivals()
    assert arrivals.feedback(1, 2) is None
    arrivals.packet(65534, 10_000)
    arrivals.packet(65535, 11_000)
    first = arrivals.feedback(1, 2)
    assert first is not None
    assert read_transport_feedback(first) == (65534, {0: 9_750 + 250, 1: 11_000})
    arrivals.packet(1, 12_000)
    second = arrivals.feedback(1, 2)
    assert second is not None
    base, seen = read_transport_feedback(second)
    assert (base, list(seen)) == (0, [1]), "number 0 is reported as not received"


def test_a_jump_of_numbers_costs_no_more_than_a_report() -> None:
    arrivals = Arrivals()
    arrivals.packet(0, 1_000)
    arrivals.packet(30_000, 2_000)
    feedback = arrivals.feedback(1, 2)
    assert feedback is not None
    assert len(feedback) < 64
