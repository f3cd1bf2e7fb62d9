"""ICE that only answers: always controlled, and never the first to send anything anywhere.

It knows no remote candidate but those that checked in with the right password, and takes DTLS and media from
nobody else (RFC 8445 section 7.3, RFC 7983).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from aioice import stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol, get_host_addresses

MOST_CHECKED = 32
"""Addresses that one connection may check in from."""
MOST_QUEUED = 64
"""DTLS datagrams that may wait for aiortc."""
SOCKET_BUFFER = 4 << 20
LARGEST_DATAGRAM = 65_536


class _RoleRefusedError(Exception):
    """The other side insists on our being the controlling one."""


class _Protocol(StunProtocol):
    """Demultiplexes one socket (RFC 7983); whatever does not fit is dropped without a word."""

    receiver: Agent

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        agent = self.receiver
        if not data or not isinstance(data, bytes) or agent.silent:
            return
        if len(addr) != 2:
            addr = addr[:2]
        first = data[0]
        if 128 <= first < 192:
            if agent.on_media is not None and addr in agent.checked:
                agent.on_media(data)
        elif first < 4:
            self._stun(data, (addr[0], addr[1]))
        elif 20 <= first < 64 and addr in agent.checked:
            agent.data_received(data, 1)

    def _stun(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = stun.parse_message(data)
            if message.message_class == stun.Class.REQUEST:
                self.receiver.request_received(message, addr, self)
            elif transaction := self.transactions.get(message.transaction_id):
                transaction.response_received(message, addr)
        except Exception:  # strangers' bytes: the parser raises whatever it likes
            self.receiver.malformed += 1

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        if not self.receiver.silent:
            super().send_stun(message, addr)

    async def send_data(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.receiver.silent:
            await super().send_data(data, addr)


class Agent(Connection):
    """Always controlled; its only remote candidates are peers that checked in."""

    def __init__(self, addresses: tuple[str, ...], on_pair: Callable[[CandidatePair], None]) -> None:
        super().__init__(ice_controlling=False)
        self.checked: set[tuple[Any, ...]] = set()
        self.on_media: Callable[[bytes], None] | None = None
        self.on_heard: Callable[[], None] | None = None
        self.silent = False
        self.malformed = 0
        self._addresses = addresses
        self._on_pair = on_pair
        self._pair: CandidatePair | None = None
        self._tie_breaker = 0  # loses every role conflict, so that the other side becomes controlling

    async def gather_candidates(self) -> None:
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        loop = asyncio.get_running_loop()
        for address in self._addresses or get_host_addresses(use_ipv4=True, use_ipv6=True):
            with contextlib.suppress(OSError):
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: _Protocol(self), local_addr=(address, 0)
                )
                self._bound(transport, protocol)
        self._local_candidates_end = True

    def _bound(self, transport: asyncio.DatagramTransport, protocol: _Protocol) -> None:
        handle = transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        host, port = transport.get_extra_info("sockname")[:2]
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host", 65535 - len(self._protocols)),
            host=host,
            port=port,
            type="host",
        )
        self._protocols.append(protocol)
        self._local_candidates.append(protocol.local_candidate)

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Named candidates are not for us."""

    def request_received(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        attributes = message.attributes
        if (
            self._closing
            or message.message_method != stun.Method.BINDING
            or "USERNAME" not in attributes
            or "PRIORITY" not in attributes
            or not self._valid_username(attributes["USERNAME"])
            or not message.check_message_integrity(self.local_password.encode())
        ):
            return
        if addr not in self.checked and len(self.checked) >= MOST_CHECKED:
            return
        self.checked.add(addr)
        if self.on_heard is not None:
            self.on_heard()
        super().request_received(message, addr, protocol)

    def switch_role(self, ice_controlling: bool) -> None:
        if ice_controlling:
            raise _RoleRefusedError

    async def check_start(self, pair: CandidatePair) -> None:
        try:
            await super().check_start(pair)
        except _RoleRefusedError:
            self.check_state(pair, CandidatePair.State.FAILED)
            self.check_complete(pair)

    def check_complete(self, pair: CandidatePair) -> None:
        super().check_complete(pair)
        nominated = self._nominated.get(1)
        if nominated is not None and nominated is not self._pair:
            self._pair = nominated
            self._on_pair(nominated)

    def data_received(self, data: bytes, component: int) -> None:
        if self._queue.qsize() < MOST_QUEUED:
            super().data_received(data, component)

    def drain(self, most: int) -> bool:
        """Take what waits in the kernel now, by the usual path; whether nothing is left.

        At most ``most`` datagrams, so that nobody can hold us here. Of a time at which we stood still, the
        kernel keeps up to ``SOCKET_BUFFER`` (or the system's limit).
        """
        for protocol in self._protocols:
            if self.silent:
                break
            number = protocol.transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=socket.dup(number)) as waiting:
                waiting.setblocking(False)
                while True:
                    if most == 0:
                        return False
                    try:
                        data, address = waiting.recvfrom(LARGEST_DATAGRAM)
                    except BlockingIOError:
                        break
                    most -= 1
                    protocol.datagram_received(data, address)
        return True
