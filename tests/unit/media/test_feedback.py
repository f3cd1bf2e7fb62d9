"""Throttles, gaps, loss arithmetic, arrival times: with the time as an argument."""

from media.feedback import NACK_RETRY_MS, NACK_TRIES, NACK_WINDOW, Arrivals, Gaps, KeyframeThrottle, Reception
from tests.unit.media.transport_feedback import read_transport_feedback


def test_key_frame_requests_of_many_become_one() -> None:
    throttle = KeyframeThrottle()
    assert throttle.ask(1_000)
    assert not throttle.ask(1_010)
    assert not throttle.due(1_299)
    assert throttle.due(1_300), "the one that came too early is not forgotten"
    assert not throttle.due(1_700), "and is sent once"


def test_gaps_are_asked_for_again_and_then_given_up() -> None:
    gaps = Gaps()
    gaps.opened(100, 104)
    assert gaps.due(0) == [101, 102, 103]
    assert gaps.due(1) == []
    gaps.filled(102)
    now_ms = 0
    for _ in range(NACK_TRIES - 1):
        now_ms += NACK_RETRY_MS
        assert gaps.due(now_ms) == [101, 103]
    assert gaps.due(now_ms + NACK_RETRY_MS) == []
    assert len(gaps) == 0


def test_a_hole_too_long_for_nacks_is_left_to_a_key_frame() -> None:
    gaps = Gaps()
    gaps.opened(0, NACK_WINDOW + 2)
    assert len(gaps) == 0
    for start in range(0, 3000, 100):
        gaps.opened(start, start + 90)
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
