"""RTP and RTCP arithmetic: golden bytes from the RFCs, and properties that no packet may break."""

import struct

from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket, RtcpSrPacket, unpack_remb_fci
from hypothesis import given
from hypothesis import strategies as st

from media import rtp
from tests.unit.media.transport_feedback import read_transport_feedback

bits16 = st.integers(0, 0xFFFF)
bits32 = st.integers(0, 0xFFFFFFFF)


@given(first=bits16, steps=st.lists(st.integers(-200, 5000), max_size=200))
def test_extended_sequence_numbers_follow_the_true_ones(first: int, steps: list[int]) -> None:
    unwrap = rtp.SequenceUnwrapper()
    start = true = unwrap.extend(first)
    highest = true
    for step in steps:
        true = max(start, highest + step)
        assert unwrap.extend(true & 0xFFFF) == true
        highest = max(highest, true)
    assert unwrap.highest == highest


@given(timestamp=bits32, ahead=st.integers(1, 0x7FFFFFFF))
def test_later_holds_across_the_wrap(timestamp: int, ahead: int) -> None:
    assert rtp.later((timestamp + ahead) & 0xFFFFFFFF, timestamp)
    assert not rtp.later(timestamp, (timestamp + ahead) & 0xFFFFFFFF)
    assert not rtp.later(timestamp, timestamp)


@given(
    csrcs=st.integers(0, 15),
    words=st.none() | st.integers(0, 20),
    payload=st.binary(max_size=100),
    padding=st.integers(0, 30),
)
def test_payload_bounds_find_the_payload(csrcs: int, words: int | None, payload: bytes, padding: int) -> None:
    first = 0x80 | csrcs | (0x10 if words is not None else 0) | (0x20 if padding else 0)
    extension = b"" if words is None else struct.pack("!HH", 0xBEDE, words) + bytes(4 * words)
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    packet = bytes([first, 96]) + bytes(10 + 4 * csrcs) + extension + payload + tail
    bounds = rtp.payload_bounds(packet)
    assert bounds is not None
    assert packet[slice(*bounds)] == payload


@given(st.binary(max_size=80))
def test_no_bytes_make_a_parser_raise(data: bytes) -> None:
    bounds = rtp.payload_bounds(data)
    if bounds is not None:
        assert 12 <= bounds[0] <= bounds[1] <= len(data)
        rtp.extension(data, 3)
    for packet in rtp.compound(data):
        rtp.sender_info(packet.body)
        rtp.media_ssrc(packet.body)
        rtp.fir_ssrcs(packet.body)
        rtp.nacked(packet.body)


def test_extensions_are_found_in_both_forms() -> None:
    one = b"\x90\x60" + bytes(10) + struct.pack("!HH", 0xBEDE, 2) + b"\x10\x81\x31\x12\x34\x00\x00\x00"
    two = b"\x90\x60" + bytes(10) + struct.pack("!HH", 0x1000, 2) + b"\x01\x00\x03\x02\x12\x34\x00\x00"
    for packet in (one, two):
        assert rtp.extension(packet, 3) == b"\x12\x34"
        assert rtp.extension(packet, 4) is None
    assert rtp.extension(b"\x80\x60" + bytes(10), 3) is None


# --- what we write is read back by another implementation ---------------------------------------------


def test_reports_are_read_by_another_implementation() -> None:
    block = rtp.ReportBlock(7, 25, -3, 70000, 11, 0xABCDEF, 65536)
    packets = RtcpPacket.parse(
        rtp.receiver_report(1, [block])
        + rtp.sender_report(5, 0x0123456789ABCDEF, 0x1_0000_0002, 3, 4)
        + rtp.source_name(5, "seat0")
        + rtp.picture_loss(1, 9)
    )
    report, sent, name, loss = packets
    assert isinstance(report, RtcpRrPacket)
    assert (report.reports[0].ssrc, report.reports[0].fraction_lost, report.reports[0].packets_lost) == (7, 25, -3)
    assert (report.reports[0].highest_sequence, report.reports[0].lsr) == (70000, 0xABCDEF)
    assert isinstance(sent, RtcpSrPacket)
    assert sent.sender_info.ntp_timestamp == 0x0123456789ABCDEF
    assert (sent.sender_info.rtp_timestamp, sent.sender_info.octet_count) == (2, 4)
    assert name.chunks[0].items == [(1, b"seat0")]  # type: ignore[union-attr]
    assert isinstance(loss, RtcpPsfbPacket)
    assert (loss.fmt, loss.media_ssrc) == (1, 9)


@given(st.sets(st.integers(70000, 71000), min_size=1, max_size=60))
def test_nacks_survive_the_round_trip(missing: set[int]) -> None:
    packet = rtp.negative_ack(1, 9, sorted(missing))
    (theirs,) = RtcpPacket.parse(packet)
    assert isinstance(theirs, RtcpRtpfbPacket)
    assert theirs.lost == [number & 0xFFFF for number in sorted(missing)]
    (ours,) = rtp.compound(packet)
    assert (ours.kind, ours.fmt, rtp.media_ssrc(ours.body)) == (rtp.RTPFB, rtp.FMT_NACK, 9)
    assert rtp.nacked(ours.body) == theirs.lost


@given(st.integers(0, 10**10))
def test_remb_keeps_its_eighteen_bits(bitrate: int) -> None:
    (packet,) = RtcpPacket.parse(rtp.max_bitrate(1, bitrate, [5, 6]))
    assert isinstance(packet, RtcpPsfbPacket)
    value, ssrcs = unpack_remb_fci(packet.fci)
    assert ssrcs == [5, 6]
    assert 0 <= bitrate - value <= bitrate >> 17


@given(
    base=st.integers(65536, 140000),
    arrivals=st.dictionaries(st.integers(0, 900), st.integers(10**9, 10**9 + 5_000_000), min_size=1, max_size=120),
)
def test_transport_feedback_says_who_arrived_when(base: int, arrivals: dict[int, int]) -> None:
    ordered = sorted((base + offset, when) for offset, when in arrivals.items())
    read_base, read = read_transport_feedback(rtp.transport_feedback(1, 2, 300, base, ordered))
    assert read_base == base & 0xFFFF
    assert read.keys() == arrivals.keys()
    assert all(abs(read[offset] - arrivals[offset]) <= 250 for offset in arrivals)
