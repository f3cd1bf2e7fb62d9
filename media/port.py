"""The node's one UDP port: a socket for each local address, and whose datagram is whose.

STUN requests find their client by the user fragment they name, everything else by the address it comes from,
which has to have passed a check (RFC 7983, RFC 8445 section 7.3). What fits nobody is dropped without a word.
Knows neither aiortc nor rooms; what a check means is the client's to say (``media/aiortc_seam/ice.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from typing import TYPE_CHECKING, Any, Protocol

import ifaddr

from media import stun
from models import log

if TYPE_CHECKING:
    from media.native import Native

Address = tuple[Any, ...]
"""As the kernel gives it: host and port, for IPv6 also flow and scope."""

MOST_CLIENTS = 20_000
"""User fragments at a time; signaling lets in a tenth of that."""
READ_AT_ONCE = 32
"""Datagrams of one socket before the event loop gets its turn."""
SOCKET_BUFFER = 8 << 20
"""Everybody's packets wait here: at 40 Mbit/s some hundred milliseconds of them."""
LARGEST_DATAGRAM = 2_048
ATTEMPTS = 20
"""To find a number that is free on every address, if any will do."""


class PortError(Exception):
    """The port cannot be opened; the text says on which address, and why."""


class Client(Protocol):
    """One connection, as the port sees it."""

    on_media: Any
    """Called with every datagram that may be SRTP or SRTCP; None: they are dropped."""

    def requested(self, gate: Gate, address: Address, fragment: str, message: stun.Message) -> None:
        """A STUN request that names this client; nobody has looked yet who sent it."""

    def answered(self, gate: Gate, address: Address, message: stun.Message) -> None:
        """An answer to a request that this client sent."""

    def handshake(self, data: bytes) -> None:
        """A DTLS datagram of an address that checked in."""


class Gate:
    """One local address: its socket, and who is known there."""

    __slots__ = ("host", "native", "number", "routes", "sendto", "socket")

    def __init__(self, host: str, handle: socket.socket, number: int = 0) -> None:
        self.host = host
        self.number = number
        """Its place among the port's."""
        self.native: Native | None = None
        """What reads this socket, if it is not the loop."""
        self.socket = handle
        self.sendto = handle.sendto
        self.routes: dict[Address, Client] = {}


class Port:
    """Open it inside the running loop; ``close`` ends it. Everything here belongs to that loop."""

    def __init__(
        self, addresses: tuple[str, ...] = (), number: int = 0, announced: tuple[str, ...] = (), *,
        native: bool = True,
    ) -> None:  # fmt: skip
        """``addresses``: local ones (empty: all of this host's; loopback if there is nothing else).
        ``announced``: what clients are told instead, for the same family. ``native``: whether the native engine
        gets the sockets, if it was built here. Raises PortError."""
        self.malformed = 0
        self._loop = asyncio.get_running_loop()
        self._clients: dict[str, Client] = {}
        self._asked: dict[bytes, Client] = {}
        self._busy = False
        bound = _bind(addresses, number) if addresses else _bind(host_addresses(), number, skip_unusable=True)
        self.gates = tuple(Gate(*one, place) for place, one in enumerate(bound))
        self.number: int = self.gates[0].socket.getsockname()[1]
        self.candidates = _candidates([gate.host for gate in self.gates], announced)
        """Hosts that clients are told, best first; all have this port's number."""
        from media.native import Routes, attach  # they need the seam, and the seam's agents use this

        self.native = attach([gate.socket for gate in self.gates], self._told, wanted=native)
        """The native engine, if it has the sockets."""
        for gate in self.gates:
            if self.native is not None:
                gate.native, gate.routes = self.native, Routes(self.native, gate.number)
            else:
                self._loop.add_reader(gate.socket.fileno(), self._read, gate, READ_AT_ONCE)

    def close(self) -> None:
        """Nothing is received or sent any more; harmless to repeat."""
        if self.native is not None:
            self.native.close()
        for gate in self.gates:
            if gate.socket.fileno() >= 0:
                if self.native is None:
                    self._loop.remove_reader(gate.socket.fileno())
                gate.socket.close()
            gate.routes.clear()
        self._clients.clear()
        self._asked.clear()

    @property
    def receive_buffer(self) -> int:
        """Bytes that may wait for us, as the system counts them."""
        return self.gates[0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    @property
    def untold(self) -> int:
        """Records that found no room in the native engine's queue."""
        return self.native.engine.dropped if self.native is not None else 0

    # --- who is known -------------------------------------------------------------------------------

    def register(self, fragment: str, client: Client) -> None:
        """Requests that name ``fragment`` are for ``client``; beyond the limit nobody is found any more."""
        if len(self._clients) < MOST_CLIENTS:
            self._clients[fragment] = client
        else:
            log.event("media_port_full", level=logging.WARNING, clients=len(self._clients))

    def forget(self, fragment: str) -> None:
        """No request is for that one any more; harmless to repeat."""
        self._clients.pop(fragment, None)

    def expect(self, transaction: bytes, client: Client) -> None:
        """``client`` sent a request: its answer is for it, once, until ``give_up``."""
        self._asked[transaction] = client

    def give_up(self, transaction: bytes) -> None:
        """That answer is not awaited any more; harmless to repeat."""
        self._asked.pop(transaction, None)

    def tables(self) -> tuple[int, int, int]:
        """How many fragments, addresses and open requests are known: none when nobody is connected."""
        return len(self._clients), sum(len(gate.routes) for gate in self.gates), len(self._asked)

    # --- datagrams ----------------------------------------------------------------------------------

    def drain(self, most: int) -> bool:
        """Handle what waits in the kernel now, for everybody, by the usual path; whether nothing is left.

        At most ``most`` datagrams, so that nobody can hold us here; of one that asks while another is in the
        middle of a datagram, none.
        """
        if self.native is not None:
            return self.native.drain(most)
        for gate in self.gates:
            if gate.socket.fileno() < 0:
                continue
            most = self._read(gate, most)
            if most <= 0:
                return False
        return True

    def _read(self, gate: Gate, most: int) -> int:
        """Handle up to ``most`` datagrams; how many fewer there were, 0 if more may wait."""
        if self._busy:
            return 0
        self._busy = True
        receive, routes = gate.socket.recvfrom, gate.routes
        try:
            while most > 0:
                try:
                    data, address = receive(LARGEST_DATAGRAM)
                except BlockingIOError:
                    return most
                except OSError:  # closed meanwhile, or a complaint about what we sent
                    return most if gate.socket.fileno() < 0 else most - 1
                most -= 1
                try:
                    if data and 128 <= data[0] < 192:
                        client = routes.get(address)
                        if client is not None and client.on_media is not None:
                            client.on_media(data)
                    else:
                        self._other(gate, data, address)
                except Exception as error:  # a defect of ours over one datagram is not everybody's
                    self._loop.call_exception_handler({"message": "datagram_failed", "exception": error})
            return 0
        finally:
            self._busy = False

    def _told(self, number: int, address: Address, data: bytes) -> None:
        """The engine read something that is no media."""
        self._other(self.gates[number], data, address)

    def _other(self, gate: Gate, data: bytes, address: Address) -> None:
        if not data:
            return
        if data[0] < 4:
            self._stun(gate, data, address)
        elif 20 <= data[0] < 64:
            client = gate.routes.get(address)
            if client is not None:
                client.handshake(data)

    def _stun(self, gate: Gate, data: bytes, address: Address) -> None:
        message = stun.parse(data)
        if message is None:
            self.malformed += 1
            return
        if message.kind == stun.REQUEST:
            fragment, _ = message.fragments
            client = self._clients.get(fragment)
            if client is not None:
                client.requested(gate, address, fragment, message)
        elif message.kind != stun.INDICATION:
            client = self._asked.get(message.transaction)
            if client is not None:
                client.answered(gate, address, message)


# --- addresses ----------------------------------------------------------------------------------------


def host_addresses() -> tuple[str, ...]:
    """This host's addresses that others may reach: no link-local ones; loopback only if there is nothing else."""
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            address = ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
            if not (address.is_loopback or address.is_link_local or address.is_multicast):
                found.append(str(address))
    return tuple(found) or ("127.0.0.1",)


def _candidates(local: list[str], announced: tuple[str, ...]) -> tuple[str, ...]:
    """Announced addresses take the place of local ones of their family; IPv6 goes first (RFC 8421)."""
    instead = {ipaddress.ip_address(host).version for host in announced}
    kept = [host for host in local if ipaddress.ip_address(host).version not in instead]
    return tuple(sorted([*announced, *kept], key=lambda host: -ipaddress.ip_address(host).version))


def _bind(
    addresses: tuple[str, ...], number: int, *, skip_unusable: bool = False
) -> list[tuple[str, socket.socket]]:
    """A socket for each address, all with the same number. Raises PortError."""
    for _ in range(ATTEMPTS):
        bound: list[tuple[str, socket.socket]] = []
        for host in addresses:
            chosen = bound[0][1].getsockname()[1] if bound else number
            try:
                bound.append((host, _socket(host, chosen)))
            except OSError as error:
                if skip_unusable and error.errno == errno.EADDRNOTAVAIL:
                    continue
                for _host, handle in bound:
                    handle.close()
                if error.errno == errno.EADDRINUSE and chosen != number:
                    break
                raise PortError(f"UDP port {chosen} on {host}: {error.strerror or error}") from error
        else:
            if bound:
                return bound
            raise PortError("no address of this host can be used")
    raise PortError("no UDP port is free on all of " + ", ".join(addresses))


def _socket(host: str, number: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    handle = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for usual, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
            handle.setsockopt(socket.SOL_SOCKET, usual, SOCKET_BUFFER)
            with contextlib.suppress(OSError):  # beyond the system's limit only for whom it is allowed
                handle.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER)
        handle.setblocking(False)
        handle.bind((host, number))
    except BaseException:
        handle.close()
        raise
    return handle


_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h; Python does not name them
