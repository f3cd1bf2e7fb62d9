"""What the load's C sends and says, read by the product's own readers. SRTP is left out: it does nothing here."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from bench.load import Load, Receiving, Sending
from media import rtp
from media.codecs import vp8_keyframe, vp8_numbers
from media.send_history import SendHistory

NUMBER_ID, LEVEL_ID, REPAIR_TYPE = 5, 2, 98
SLICE_SECONDS = 0.3
ENOUGH = 100
"""Packets."""


class Run(NamedTuple):
    """What came to a server that forwards everything, and what it was told."""

    packets: list[bytes]
    reports: list[bytes]
    answers: list[bytes]
    counted: Counter[str]


class OpenLoad(Load):
    """No cipher, and contexts that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self._nothing = self._ffi.callback("int(void *, void *, int *)", lambda context, data, size: 0)
        self.library.load_use(*(self._ffi.cast("void *", self._nothing) for _ in range(4)))

    def context(self, of_libsrtp: Any) -> Any:
        return self._ffi.cast("void *", of_libsrtp)


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.setblocking(False)
    return made


def waiting(on: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield on.recv(2048)
        except BlockingIOError:
            return


@pytest.fixture(scope="module")
def run() -> Run:
    """One who sends, whose packets are then given to one who receives, until it has said what it has to say."""
    with closing(udp()) as client, closing(udp()) as server:
        path: Any = SimpleNamespace(
            protect_context=1, unprotect_context=2, socket=client, address=server.getsockname()
        )
        load = OpenLoad()
        lines = {
            "audio": Sending(11, 96, NUMBER_ID, LEVEL_ID),
            "video": Sending(22, 97, NUMBER_ID),
        }  # fmt: skip
        streams = load.sends(path, lines)
        sent: list[bytes] = []
        while len(sent) < ENOUGH:
            load.run(SLICE_SECONDS)
            sent += waiting(server)
        for stream in streams:
            load.library.load_switch(stream, 0)
        load.receives(Receiving(path, NUMBER_ID, frozenset({REPAIR_TYPE})))
        media = [packet for packet in sent if not rtp.is_rtcp(packet)]
        reports = [packet for packet in sent if rtp.is_rtcp(packet)]
        # One is lost, one comes twice, one comes as a repeat.
        repeat = bytes((media[3][0], REPAIR_TYPE)) + media[3][2:]
        given = (*media[:10], *media[11:], media[4], repeat)
        for packet in (*given, *reports):
            server.sendto(packet, client.getsockname())
        counted: Counter[str] = Counter()
        while counted["received"] + counted["again"] < len(given):
            counted += Counter(load.run(SLICE_SECONDS)._asdict())
        before = counted["reports"]
        while counted["reports"] == before:
            counted += Counter(load.run(SLICE_SECONDS)._asdict())
        answers = [packet for packet in waiting(server) if rtp.is_rtcp(packet)]
        load.library.load_clear()
    return Run(media, reports, answers, counted)


def test_what_is_sent_is_numbered_across_both_lines_and_looks_like_a_browsers(run: Run) -> None:
    numbers = [rtp.extension(packet, NUMBER_ID) for packet in run.packets]
    assert [int.from_bytes(number or b"", "big") for number in numbers] == list(range(1, len(numbers) + 1))
    pictures = [packet for packet in run.packets if packet[1] & 0x7F == 97]
    sounds = [packet for packet in run.packets if packet[1] & 0x7F == 96]
    assert {len(packet) for packet in pictures} == {1200}
    levels = [rtp.extension(packet, LEVEL_ID) for packet in sounds]
    assert all(level is not None and 0 < level[0] & 0x7F < 127 for level in levels)
    bodies = [packet[slice(*rtp.payload_bounds(packet) or (0, 0))] for packet in pictures]
    assert [vp8_keyframe(body) for body in bodies[:6]] == [True, False, False, False, False, False]
    assert [vp8_numbers(body, 0)[0] for body in bodies[:10]] == [0] * 5 + [1] * 5


def test_it_reports_once_a_second_which_moment_is_which_timestamp(run: Run) -> None:
    parts = [part for report in run.reports for part in rtp.compound(report)]
    infos = [rtp.sender_info(part.body) for part in parts if part.kind == rtp.SR]
    assert {info.ssrc for info in infos if info is not None} == {11, 22}
    assert all(info is not None and info.ntp >> 32 > 2_208_988_800 for info in infos)


def test_what_came_is_counted_once(run: Run) -> None:
    assert (run.counted["received"], run.counted["again"]) == (len(run.packets) - 1, 2)


def test_receiver_reports_and_transport_feedback_say_what_came(run: Run) -> None:
    # given
    history = SendHistory()
    history.stamp(0)  # its numbers begin at 0, those of the load at 1
    for packet in run.packets:
        history.stamp(len(packet))
    parts = [part for answer in run.answers for part in rtp.compound(answer)]
    # when
    said = [
        history.feedback(part.body) for part in parts if (part.kind, part.fmt) == (rtp.RTPFB, rtp.FMT_TRANSPORT_CC)
    ]  # fmt: skip
    blocks = [block for part in parts if part.kind == rtp.RR for block in rtp.report_blocks(part)]
    nacks = [part for part in parts if (part.kind, part.fmt) == (rtp.RTPFB, rtp.FMT_NACK)]
    # then
    heard = [each for each in said if each is not None]
    assert len(heard) == len(said) == run.counted["feedbacks"]
    assert (sum(each.received for each in heard), sum(each.lost for each in heard)) == (len(run.packets) - 1, 1)
    last = {block.ssrc: block for block in blocks}
    assert set(last) == {11, 22}
    assert sum(block.lost for block in last.values()) == 1
    assert all(block.last_sr for block in last.values())
    assert len(nacks) == run.counted["nacks"]
    assert {rtp.media_ssrc(nack.body) for nack in nacks} <= {22}
