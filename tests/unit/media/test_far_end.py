"""What a subscriber's receiver reports say: only what can be true of a receiver, whatever numbers come."""

from __future__ import annotations

from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from media import rtp
from media.far_end import FarEnd
from media.rtp import ReportBlock

NTP = 0x1122_3344_5566_7788
MIDDLE = 0x3344_5566
WORD = st.integers(0, 0xFFFFFFFF)


def block(*, highest: int = 0, lost: int = 0, jitter: int = 0, last_sr: int = 0, delay: int = 0) -> ReportBlock:
    return ReportBlock(7, 0, lost, highest, jitter, last_sr, delay)


def test_the_round_trip_is_what_passed_less_what_the_receiver_kept_it() -> None:
    far = FarEnd("video")
    # given a sender report that was sent at 1,000 ms
    far.sent(NTP, 1_000)
    # when it is answered 250 ms later, of which the receiver kept it for 200
    far.reported(block(last_sr=MIDDLE, delay=200 * 65536 // 1000), 1_250)
    # then the way there and back took 50
    assert far.rtt_ms is not None
    assert abs(far.rtt_ms - 50) < 0.1
    # and a second of 90 ms moves it by a quarter
    far.sent(NTP + (1 << 32), 2_000)
    far.reported(block(last_sr=MIDDLE + (1 << 16), delay=0), 2_090)
    assert abs(far.rtt_ms - 60) < 0.1


def test_a_report_that_answers_none_of_ours_says_nothing_of_the_way() -> None:
    far = FarEnd("video")
    far.sent(NTP, 1_000)
    far.reported(block(last_sr=MIDDLE + 1), 1_100)
    far.reported(block(last_sr=MIDDLE, delay=0x10000), 1_200)  # kept for longer than it was gone
    assert far.rtt_ms is None


def test_loss_is_counted_from_report_to_report() -> None:
    far = FarEnd("video")
    far.reported(block(highest=100, lost=3), 0)
    far.reported(block(highest=200, lost=8, jitter=900), 1_000)
    assert (far.expected, far.lost, far.jitter_ms) == (100, 5, 10)
    # one that comes back late is no negative loss, and a receiver that begins anew is no loss at all
    far.reported(block(highest=300, lost=7), 2_000)
    far.reported(block(highest=10, lost=0), 3_000)
    far.reported(block(highest=20, lost=1), 4_000)
    assert (far.expected, far.lost) == (210, 6)


@given(st.lists(st.tuples(WORD, st.integers(-0x800000, 0x7FFFFF), WORD, WORD, st.booleans()), max_size=20))
def test_whatever_is_reported_the_figures_stay_possible(reports: list[tuple[int, int, int, int, bool]]) -> None:
    far, now_ms = FarEnd("audio"), 0
    for highest, lost, jitter, delay, ours in reports:
        now_ms += 500
        far.sent(NTP, now_ms - 100)
        far.reported(
            block(highest=highest, lost=lost, jitter=jitter, last_sr=MIDDLE if ours else 1, delay=delay), now_ms
        )
        assert 0 <= far.lost <= far.expected
        assert far.rtt_ms is None or 0 <= far.rtt_ms <= 100


def test_report_blocks_are_read_back_as_they_were_written() -> None:
    blocks = [ReportBlock(5, 128, -3, 70_000, 9, MIDDLE, 65536), ReportBlock(6, 0, 12, 1, 0, 0, 0)]
    (packet,) = rtp.compound(rtp.receiver_report(1, blocks))
    assert rtp.report_blocks(packet) == blocks
    # also behind a sender's own part
    body = pack("!I", 1) + bytes(20) + packet.body[4:]
    assert rtp.report_blocks(rtp.Rtcp(2, rtp.SR, body)) == blocks


@given(st.sampled_from((rtp.SR, rtp.RR)), st.integers(0, 31), st.binary(max_size=200))
def test_no_report_is_too_broken_to_be_read(kind: int, count: int, body: bytes) -> None:
    assert len(rtp.report_blocks(rtp.Rtcp(count, kind, body))) <= count
