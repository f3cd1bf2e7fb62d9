"""When more is tried, and what an attempt proves."""

from __future__ import annotations

from media.probing import LONGEST_MS, NEXT_MS, PROBE_MS, RETRY_MS, Prober
from media.send_history import Feedback

NOTHING = Feedback(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ())
WHOLE = NOTHING._replace(
    probe_packets=30, probe_octets=12_500, probe_sent_us=100_000, probe_arrived_us=100_000
)  # 1 Mbit/s
END_MS = PROBE_MS + 1_000


def test_what_came_as_fast_as_it_was_sent_gets_through() -> None:
    prober = Prober()
    assert prober.begin(1_000_000, 400_000, 0, 50.0)
    assert prober.running(PROBE_MS - 1)
    assert not prober.running(PROBE_MS)
    assert not prober.begin(1_000_000, 400_000, PROBE_MS, 50.0)
    assert prober.judge(WHOLE, PROBE_MS) is None
    assert prober.judge(WHOLE, END_MS) == 1_000_000
    assert not prober.begin(2_000_000, 1_000_000, END_MS + NEXT_MS - 1, 50.0)
    assert prober.begin(2_000_000, 1_000_000, END_MS + NEXT_MS, 50.0)


def test_what_came_apart_came_at_the_lines_own_rate_and_is_tried_more_and_more_rarely() -> None:
    prober, now_ms, waits = Prober(), 0, []
    apart = WHOLE._replace(probe_arrived_us=400_000)
    for _ in range(6):
        began = now_ms
        while not prober.begin(1_000_000, 250_000, now_ms, 50.0):
            now_ms += 100
        waits.append(now_ms - began)
        now_ms += END_MS
        through = prober.judge(apart, now_ms)
        assert through is not None
        assert 230_000 < through < 250_000
    assert waits == [0, RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS, LONGEST_MS, LONGEST_MS]
    assert prober.failed == 6


def test_too_little_proves_nothing() -> None:
    for said in (None, NOTHING, WHOLE._replace(probe_packets=3), WHOLE._replace(probe_sent_us=5_000)):
        prober = Prober()
        assert prober.begin(1_000_000, 400_000, 0, 50.0)
        assert prober.judge(said, END_MS) is None
        assert prober.failed == 1
    # A burst of something else within it proves no more than twice what was tried
    prober = Prober()
    prober.begin(1_000_000, 400_000, 0, 50.0)
    assert prober.judge(WHOLE._replace(probe_octets=10**6), END_MS) == 2_000_000
