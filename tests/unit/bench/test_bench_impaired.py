"""The bad line of ``bench-impaired`` is as bad as it says, and each time in the same way."""

from __future__ import annotations

import itertools
import struct

import pytest

from bench.impaired_link import Condition, Direction, rebind
from bench.impaired_lips import Lips, in_words, middle
from bench.impaired_page import added, offsets

SIZE = 1200
CLIENT, NODE = 0, 2


def fates(condition: Condition, *, seed: int = 7, every: float = 0.005, count: int = 2000) -> list[float | None]:
    """When each of many packets arrives, in seconds from its own departure."""
    way = Direction(seed)
    sent = [100 + number * every for number in range(count)]
    return [None if (at := way.arrives_at(SIZE, now, condition)) is None else at - now for now in sent]


def test_the_same_seed_loses_the_same_packets_and_about_as_many_as_it_says() -> None:
    lossy = fates(Condition(loss=0.05))
    assert lossy == fates(Condition(loss=0.05))
    assert lossy != fates(Condition(loss=0.05), seed=8)
    assert 60 < lossy.count(None) < 140
    assert all(took == pytest.approx(0.02) for took in lossy if took is not None)


@pytest.mark.parametrize("shuffled", [False, True])
def test_jitter_stays_within_its_bound_and_overtakes_only_where_it_may(shuffled: bool) -> None:
    took = fates(Condition(jitter=0.05, shuffled=shuffled))
    assert all(each is not None and 0.02 - 1e-9 <= each <= 0.07 + 1e-9 for each in took)
    arrivals = [number * 0.005 + (each or 0) for number, each in enumerate(took)]
    in_order = all(earlier <= later + 1e-9 for earlier, later in itertools.pairwise(arrivals))
    assert in_order is not shuffled


def test_a_slow_line_passes_its_rate_and_queues_no_longer_than_it_may() -> None:
    # given twice as much as the line takes
    took = fates(Condition(rate=960_000, queue=0.3))
    passed = [each for each in took if each is not None]
    assert len(passed) == pytest.approx(1000, abs=40)
    assert max(passed) <= 0.02 + 0.3 + SIZE * 8 / 960_000 + 1e-9


def test_nothing_passes_while_it_is_down() -> None:
    assert set(fates(Condition(down=True))) == {None}


def udp(source: int, target: int) -> bytes:
    """An IPv4 datagram with a right checksum, between two addresses of the bench."""
    addresses = bytes([10, 77, 1, 2, 10, 77, 0, 1])
    data = b"STUN or media"
    header = struct.pack("!HHHH", source, target, 8 + len(data), 0)
    checksum = ~total(addresses + struct.pack("!HH", 17, 8 + len(data)) + header + data) & 0xFFFF
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 1, 0, 64, 17, 0) + addresses
    return ip + header[:6] + struct.pack("!H", checksum) + data


def total(data: bytes) -> int:
    """The sum of RFC 1071."""
    data += bytes(len(data) % 2)
    summed = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while summed >> 16:
        summed = (summed & 0xFFFF) + (summed >> 16)
    return int(summed)


@pytest.mark.parametrize(
    ("offset", "ports"), [(CLIENT, (40_000 ^ 0x0A50, 50_000)), (NODE, (40_000, 50_000 ^ 0x0A50))]
)
def test_a_nat_that_forgot_turns_a_port_and_keeps_the_checksum(offset: int, ports: tuple[int, int]) -> None:
    changed = rebind(udp(40_000, 50_000), 0x0A50, offset)
    assert struct.unpack("!HH", changed[20:24]) == ports
    length = len(changed) - 20
    assert total(changed[12:20] + struct.pack("!HH", 17, length) + changed[20:]) == 0xFFFF
    assert rebind(changed, 0x0A50, offset) == udp(40_000, 50_000)


def test_other_packets_pass_a_nat_as_they_are() -> None:
    tcp = bytearray(udp(40_000, 50_000))
    tcp[9] = 6
    assert rebind(bytes(tcp), 0x0A50, CLIENT) == bytes(tcp)
    assert rebind(udp(40_000, 50_000), 0, CLIENT) == udp(40_000, 50_000)


def test_each_flash_has_the_beep_of_its_own_second() -> None:
    flashes = [1_000.0, 2_000.0, 3_000.0, 4_000.0]
    beeps = [970.0, 2_100.0, 4_480.0]
    assert offsets(flashes, beeps) == [(1_000.0, -30.0), (2_000.0, 100.0)]
    assert offsets(flashes, []) == []


def test_what_lay_between_flash_and_beep_at_the_source_is_not_ours() -> None:
    # given: a source whose sound drifts, and a viewer who sees each flash 100 ms later, one of them not at all
    source = [(1_000.0, -10.0), (2_000.0, -20.0), (3_000.0, -30.0)]
    came = [(1_100.0, 15.0), (3_100.0, -5.0)]
    # then
    assert added(source, came) == [25.0, 25.0]
    # and what nobody sent is no flash
    assert added(source, [(900.0, 0.0)]) == []


def test_what_the_first_seconds_were_like_is_not_what_it_settles_at() -> None:
    settled = Lips(first=[150.0] * 9, then=[9.0, 10.0, 11.0], believed=[12.0], kept=(60.4, 80.0), known=2.04)
    assert middle(settled.then) == 10.0
    assert "sound after picture  +10 ms" in in_words(settled)
    assert "at first +150 ms   known after 2.0 s   believed  +12 ms   kept   60 and   80 ms" in in_words(settled)
    few = Lips(first=[150.0] * 9, then=[9.0, 10.0], believed=[], kept=(0.0, 0.0), known=None)
    assert middle(few.then) is None
    assert middle([-300.0, 8.0, 10.0, 12.0, 14.0, 900.0]) == 11.0, "of what is odd nothing"
    assert in_words(few) == "only 2 flashes were seen with their beeps"
