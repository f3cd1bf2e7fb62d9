"""A bad line in user space: takes packets from one TUN device and gives them to another, late, or not at all.

The kernel's own (tc netem) is not everywhere. A process of its own, so that nothing else holds packets up: two
file descriptors of TUN devices and a seed come as arguments, conditions as JSON lines on standard input; each is
answered with what has passed since the one before. Loss and jitter are drawn from one generator a direction: the
n-th packet has the same fate in every run with that seed. Knows IP only as far as a NAT does.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import sys
import time

import msgspec

LONGEST_PACKET = 2048
JITTER_SECONDS = 0.02
"""For so long the extra delay stays as it is, where order is kept: queues elsewhere fill and empty, they do not
dice for each packet."""
UDP = 17


class Condition(msgspec.Struct, frozen=True):
    """How bad the line is, in each direction."""

    loss: float = 0.0
    """Share of packets that vanish, each by itself."""
    delay: float = 0.02
    """Seconds that each packet takes."""
    jitter: float = 0.0
    """Up to so many seconds more."""
    shuffled: bool = False
    """Jitter is drawn for each packet, which then overtakes others by no more than it. Else order is kept."""
    rate: float = 0.0
    """Bits a second; 0: any number."""
    queue: float = 0.3
    """Seconds at ``rate`` that may wait; what comes on top is dropped."""
    down: bool = False
    """Nothing passes."""
    rebound: int = 0
    """What the other end sees as the client's UDP ports are its own, these bits turned: a NAT that forgot them."""


class Passed(msgspec.Struct):
    """What became of the packets of one direction."""

    packets: int = 0
    lost: int = 0
    overflowed: int = 0


class Direction:
    """One way over the line."""

    def __init__(self, seed: int) -> None:
        self.passed = Passed()
        self._random = random.Random(seed)
        self._line_free_at = self._last_at = self._jitter_until = self._jitter = 0.0

    def arrives_at(self, size: int, now: float, is_: Condition) -> float | None:
        """When a packet of ``size`` bytes is at the other end; None: never."""
        # Drawn for each packet, whatever the condition: the next one's fate is the same in every scenario.
        luck, late = self._random.random(), self._random.random()
        self.passed.packets += 1
        if is_.down or luck < is_.loss:
            self.passed.lost += 1
            return None
        at = now
        if is_.rate:
            begins = max(now, self._line_free_at)
            if begins - now > is_.queue:
                self.passed.overflowed += 1
                return None
            at = self._line_free_at = begins + size * 8 / is_.rate
        if is_.shuffled:
            return at + is_.delay + late * is_.jitter
        if now >= self._jitter_until:
            self._jitter_until, self._jitter = now + JITTER_SECONDS, late * is_.jitter
        self._last_at = max(self._last_at, at + is_.delay + self._jitter)
        return self._last_at


def rebind(packet: bytes, bits: int, offset: int) -> bytes:
    """``packet`` with bits of the UDP port turned that is ``offset`` bytes into its header; others as they are."""
    if not bits or packet[0] >> 4 != 4 or packet[9] != UDP:
        return packet
    at = (packet[0] & 15) * 4
    changed = bytearray(packet)
    old = int.from_bytes(packet[at + offset : at + offset + 2], "big")
    new = old ^ bits
    changed[at + offset : at + offset + 2] = new.to_bytes(2, "big")
    checksum = int.from_bytes(packet[at + 6 : at + 8], "big")
    if checksum:
        # RFC 1624: the sum follows from the old one.
        total = (~checksum & 0xFFFF) + (~old & 0xFFFF) + new
        total = (total & 0xFFFF) + (total >> 16)
        changed[at + 6 : at + 8] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF or 0xFFFF).to_bytes(2, "big")
    return bytes(changed)


def run(client: int, node: int, seed: int) -> None:
    """Carry packets until standard input ends."""
    ways = {client: Direction(seed), node: Direction(seed + 1)}
    other = {client: node, node: client}
    under_way: list[tuple[float, int, int, bytes]] = []
    condition, count = Condition(), 0
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 1.0
        ready, _, _ = select.select([client, node, sys.stdin.fileno()], [], [], wait)
        for source in ready:
            if source not in ways:
                line = os.read(source, 4096)
                if not line:
                    return
                condition = msgspec.json.decode(line, type=Condition)
                print(json.dumps([msgspec.to_builtins(ways[end].passed) for end in (client, node)]), flush=True)
                for way in ways.values():
                    way.passed = Passed()
                continue
            for packet in waiting(source):
                at = ways[source].arrives_at(len(packet), time.monotonic(), condition)
                if at is not None:
                    count += 1
                    packet = rebind(packet, condition.rebound, 0 if source == client else 2)
                    heapq.heappush(under_way, (at, count, other[source], packet))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, target, packet = heapq.heappop(under_way)
            try:
                os.write(target, packet)
            except OSError:
                # Its queue is full, as a real one may be.
                ways[other[target]].passed.overflowed += 1


def waiting(source: int) -> list[bytes]:
    """What a device has to give at this moment."""
    packets = []
    while True:
        try:
            packets.append(os.read(source, LONGEST_PACKET))
        except BlockingIOError:
            return packets


if __name__ == "__main__":
    run(*(int(argument) for argument in sys.argv[1:]))
