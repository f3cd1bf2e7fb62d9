"""The native engine behind the node's port: it has the sockets, and tells this loop what it did and what came.

Whoever opens a connection, a source or a lane there says here who hears of it. What is told of something that is
gone meanwhile is dropped. Knows no room, no SDP and no SRTP; who forwards what is ``media/native_forwarding.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from socket import AF_INET6, socket
from typing import Any, Protocol

from media.fastpath import engine as fastpath
from media.fastpath.engine import Engine, Kind, Record
from models import log

Address = tuple[Any, ...]
"""As ``media/port.py`` has it."""


_PACKET = int(Kind.PACKET)
"""Compared for each packet: members of an enumeration are slow to look up."""


class Connection(Protocol):
    """Who hears of a connection."""

    def compound(self, data: bytes) -> None:
        """RTCP came, opened."""

    def stranger(self, record: Record) -> None:
        """RTP of an SSRC that nobody named came, opened."""


class Native:
    """One engine in one loop. Made by the port, which it tells of datagrams that are no media."""

    def __init__(
        self, engine: Engine, families: Sequence[int], on_datagram: Callable[[int, Address, bytes], None]
    ) -> None:
        """``families``: of its sockets, by number."""
        self.engine = engine
        self.connections: dict[int, Connection] = {}
        self.sources: dict[int, Callable[[Record], None]] = {}
        self.lanes: dict[int, Callable[[Record], None]] = {}
        self.routes: list[Routes] = []
        """Of its sockets, by number."""
        self._families = families
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._busy = self._closed = self._scheduled = False
        self._full: set[str] = set()
        self._dropped = 0
        """Records, when it was last logged."""
        engine.keeps.append(self)
        self._loop.add_reader(engine.wake, self._woken)

    def close(self) -> None:
        """End the engine's thread; nothing is received, sent or told any more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self.engine.wake)
            self.engine.close()

    def address(self, number: int, address: Address) -> fastpath.Address:
        """An address as the engine has it; ``number``: of our socket."""
        return fastpath.Address(address[0], address[1], number)

    def drain(self, most: int) -> bool:
        """Handle what the kernel holds, and what was told, at most ``most`` of each; whether nothing is left.
        Of one that asks in the middle of something that is told, nothing."""
        if self._busy or self._closed:
            return self._closed
        empty = self.engine.drain(most)
        while most > 0:
            told = self._handle()
            if told == 0:
                return empty
            most -= told
        return False

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.engine.wake)
        self._go_on()

    def _go_on(self) -> None:
        """Some of what was told, and the rest after everybody else's turn; one such turn at a time, however often
        we are woken meanwhile."""
        if not self._scheduled and not self._closed and not self._busy and self._handle():
            self._scheduled = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        self._go_on()

    def placed(self, of: str, *, fine: bool) -> None:
        """Whether the engine had a place; ``of``: for what. That it had none is said once for each kind."""
        if not fine and of not in self._full and not self._closed:
            self._full.add(of)
            log.event("engine_full", level=logging.WARNING, of=of)

    def _handle(self) -> int:
        self._busy = True
        count = 0
        try:
            for record in self.engine.take():
                count += 1
                try:
                    if record.kind != _PACKET:
                        self._told(record)
                    elif (hears := self.sources.get(record.id)) is not None:
                        hears(record)
                except Exception as error:  # a defect of ours over one datagram is not everybody's
                    self._loop.call_exception_handler({"message": "datagram_failed", "exception": error})
                if self._closed:
                    break
        finally:
            self._busy = False
        dropped = self.engine.dropped
        if dropped > 2 * self._dropped:  # a flood is no flood of lines
            self._dropped = dropped
            log.event("engine_records_dropped", level=logging.WARNING, records=dropped)
        return count

    def _told(self, record: Record) -> None:
        kind = record.kind
        if kind == Kind.RTCP:
            if (whose := self.connections.get(record.id)) is not None:
                whose.compound(record.data)
        elif kind == Kind.ENTERED:
            if (enters := self.lanes.get(record.id)) is not None:
                enters(record)
        elif kind == Kind.STRANGER:
            if (whose := self.connections.get(record.id)) is not None:
                whose.stranger(record)
        else:
            host, number, gate = record.address
            six = self._families[gate] == AF_INET6
            self._on_datagram(gate, (host, number, 0, 0) if six else (host, number), record.data)


class Routes(dict[Address, Any]):
    """Whose datagrams come from which address at one of our sockets; the engine knows it as well."""

    def __init__(self, native: Native, number: int) -> None:
        super().__init__()
        self._native = native
        self._number = number
        self._connection_of: dict[Any, int] = {}
        native.routes.append(self)

    def setdefault(self, address: Address, client: Any = None) -> Any:
        """``client``'s, unless it is somebody else's."""
        if address not in self:
            self[address] = client
        return self[address]

    def __setitem__(self, address: Address, client: Any) -> None:
        former = self.get(address)
        if former is not client:
            if former is not None:
                self._unbind(former, address)
            super().__setitem__(address, client)
            self._bind(client, address)

    def __delitem__(self, address: Address) -> None:
        self._unbind(self[address], address)
        super().__delitem__(address)

    def connected(self, client: Any, connection: int) -> None:
        """``client`` has a connection of the engine now."""
        self._connection_of[client] = connection
        for address, known in self.items():
            if known is client:
                self._bind(client, address)

    def gone(self, client: Any) -> None:
        """It has none any more."""
        self._connection_of.pop(client, None)

    def _bind(self, client: Any, address: Address) -> None:
        connection = self._connection_of.get(client)
        if connection:
            fine = self._native.engine.bind(connection, self._native.address(self._number, address))
            self._native.placed("addresses", fine=fine)

    def _unbind(self, client: Any, address: Address) -> None:
        connection = self._connection_of.get(client)
        if connection:
            self._native.engine.unbind(connection, self._native.address(self._number, address))


def attach(
    sockets: Sequence[socket], on_datagram: Callable[[int, Address, bytes], None], *, wanted: bool
) -> Native | None:
    """The engine on these sockets, if it was built here and is wanted."""
    engine = fastpath.load(sockets) if wanted else None
    return Native(engine, [each.family for each in sockets], on_datagram) if engine is not None else None
