"""ICE-lite on the node's port: always controlled, and never the first to send anything anywhere (RFC 8445).

Stands where aiortc expects aioice's ``Connection``. It knows no remote candidate but those that checked in with
the right password, and takes DTLS and media from nobody else. One thing more than a lite agent has to do: it
checks back. A pair is used only once its address has answered a check of ours, so that nobody can point the
node at a third party with a forged source address, nor take over somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import NamedTuple

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import ConnectionClosed

from media import stun
from media.bucket import Bucket
from media.port import Address, Gate, Port

MOST_CHECKED = 32
"""Addresses that one connection may check in from, before the one that was silent longest is forgotten."""
MOST_QUEUED = 64
"""DTLS datagrams that may wait for aiortc."""
RETRY_SECONDS = (0.15, 0.45, 1.6)
"""How long each of our checks waits for its answer. Few: who does not answer may be a third party."""
MOST_ROUNDS = 4
"""So often an address is asked while there is no pair yet, and lines may be bad; later once."""
REFRAIN_SECONDS = 60
"""And then it is not asked again for so long, unless an ICE restart begins anew."""
MOST_REMOTE = 4
"""Names of the other side that are remembered: it may still use those of before the last ICE restart."""
MOST_OPEN_CHECKS = 8
"""Addresses that are being asked at a time; the next one when it checks again."""
MOST_FORGERIES = 50
"""Requests a second with the right name and the wrong signature that are worth computing one."""
MOST_REQUESTS = 200
"""Requests with the right signature that are answered at once, and half as many a second: browsers begin with some
twenty a second for each pair of addresses, and go on with one every few seconds."""
MOVE_SECONDS = 0.25
"""A pair is used for so long before the next one, whatever is nominated meanwhile: moving costs."""
CONSENT_SECONDS = 30
"""An address that sends no check for so long has taken its consent back (RFC 7675 section 5.1)."""
LOOKS = 6


class Pair(NamedTuple):
    """Where media goes out, and where to."""

    gate: Gate
    address: Address


class _Credentials:
    """One generation of names and passwords; an ICE restart begins another."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fragment = secrets.token_hex(6)
        self.password = secrets.token_hex(16)
        self.remote_fragment: str | None = None


class _Checked:
    """An address that sent a check with the right password."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.names = ("", "")
        """Ours and theirs, as its last check had them."""
        self.asked_under = (-1, -1)
        """How new the names were, ours and theirs, under which it was asked last."""
        self.proven = False
        """It has answered a check of ours."""
        self.heard = 0
        self.quiet = 0
        """Looks since its last check."""
        self.tries = 0
        self.rounds = 0
        self.refrain_until = 0.0
        self.transaction: bytes | None = None
        self.key = b""
        self.timer: asyncio.TimerHandle | None = None


class Agent:
    """Duck-typed for what ``RTCIceTransport`` and ``RTCIceGatherer`` use of a ``Connection``."""

    remote_is_lite = False
    remote_username: str | None = None
    remote_password: str | None = None

    def __init__(self, port: Port, on_pair: Callable[[Pair], None]) -> None:
        self.on_media: Callable[[bytes], None] | None = None
        self.on_heard: Callable[[], None] | None = None
        self.silent = False
        self.forged = 0
        self.pair: Pair | None = None
        self.local_candidates: list[Candidate] = []
        self.remote_candidates: list[Candidate] = []
        self._port = port
        self._on_pair = on_pair
        self._loop = asyncio.get_running_loop()
        self._generations: dict[str, _Credentials] = {}
        self._remote: dict[str, tuple[int, str]] = {}
        """What the other side called itself: with which of our generations, and its password."""
        self._newest = self._begin_generation(0)
        self._checked: dict[Pair, _Checked] = {}
        self._wish: _Checked | None = None
        self._wish_of: _Credentials | None = None
        self._count = 0
        self._forgeries = Bucket(MOST_FORGERIES, MOST_FORGERIES, self._loop.time)
        self._requests = Bucket(MOST_REQUESTS, MOST_REQUESTS / 2, self._loop.time)
        self._open = 0
        self._moved_at = self._loop.time()
        self._move: asyncio.TimerHandle | None = None
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._closed = asyncio.Event()
        self._closing = False
        self._watch: asyncio.TimerHandle | None = None

    # --- what aiortc uses ---------------------------------------------------------------------------

    @property
    def ice_controlling(self) -> bool:
        """Never, whatever aiortc concludes from a description."""
        return False

    @ice_controlling.setter
    def ice_controlling(self, value: bool) -> None:
        pass

    @property
    def local_username(self) -> str:
        """The newest user fragment."""
        return self._newest.fragment

    @property
    def local_password(self) -> str:
        """The newest password."""
        return self._newest.password

    async def gather_candidates(self) -> None:
        """All addresses of the port, best first."""
        if not self.local_candidates:
            self.local_candidates = [
                Candidate(
                    foundation=candidate_foundation("host", "udp", host),
                    component=1,
                    transport="udp",
                    priority=candidate_priority(1, "host", 65535 - number),
                    host=host,
                    port=self._port.number,
                    type="host",
                )
                for number, host in enumerate(self._port.candidates)
            ]

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Named candidates are not for us."""

    async def connect(self) -> None:
        """Wait for the first pair. Raises ConnectionError after ``close``."""
        await self._connected

    async def get_event(self) -> ConnectionClosed:
        """Wait for the end: that is the only event there is."""
        await self._closed.wait()
        return ConnectionClosed()

    async def recv(self) -> bytes:
        """The next DTLS datagram. Raises ConnectionError after the end."""
        data = None if self._closed.is_set() else await self._queue.get()
        if data is None:
            raise ConnectionError("closed")
        return data

    async def send(self, data: bytes) -> None:
        """Send a DTLS datagram; lost if the socket is full, as on any network."""
        if self._closing:
            raise ConnectionError("closed")
        if self.pair is not None and not self.silent:
            self._to(self.pair, data)

    def send_now(self, data: bytes) -> None:
        """Send a last DTLS datagram, even when nothing else is sent any more."""
        if self.pair is not None and not self._closing:
            self._to(self.pair, data)

    async def close(self) -> None:
        """Forget everything, at the port too."""
        self._closing = True
        self._end()
        for fragment in tuple(self._generations):
            self._port.forget(fragment)
        self._generations.clear()
        for checked in tuple(self._checked.values()):
            self._forget(checked)

    # --- descriptions -------------------------------------------------------------------------------

    def restart(self) -> None:
        """New names and passwords; the old ones, and media, go on until the new ones have nominated a pair."""
        for fragment, credentials in tuple(self._generations.items()):
            if credentials is not self._wish_of and credentials is not self._newest:
                self._drop_generation(fragment)
        self._newest = self._begin_generation(self._newest.number + 1)

    @property
    def remote_fragment(self) -> str | None:
        """What the newest description of the other side calls itself."""
        return self._newest.remote_fragment

    def set_remote(self, fragment: str, password: str) -> None:
        """What the other side calls itself, in answer to our newest names."""
        self._newest.remote_fragment = fragment
        self._remote.pop(fragment, None)
        self._remote[fragment] = self._newest.number, password
        if len(self._remote) > MOST_REMOTE:
            del self._remote[next(iter(self._remote))]
        for checked in self._checked.values():
            self._prove(checked)

    def _begin_generation(self, number: int) -> _Credentials:
        credentials = _Credentials(number)
        self._generations[credentials.fragment] = credentials
        self._port.register(credentials.fragment, self)
        return credentials

    def _drop_generation(self, fragment: str) -> None:
        del self._generations[fragment]
        self._port.forget(fragment)

    # --- checks -------------------------------------------------------------------------------------

    def requested(self, gate: Gate, address: Address, fragment: str, message: stun.Message) -> None:
        """RFC 8445 section 7.3; who does not know the password hears nothing, not even a 401."""
        credentials = self._generations.get(fragment)
        if credentials is None or self.silent or self._closing or stun.PRIORITY not in message.attributes:
            return
        password = credentials.password.encode()
        pair = Pair(gate, address)
        if not (pair in self._checked or self._forgeries.take()) or not stun.is_authentic(message, password):
            self.forged += 1
            return
        if not self._requests.take():  # only after the signature: nobody else is to use it up
            return
        if stun.ICE_CONTROLLED in message.attributes:
            self._to(pair, stun.refusal(message, stun.ROLE_CONFLICT, password))
            return
        if message.not_understood:
            self._to(pair, stun.refusal(message, stun.UNKNOWN_ATTRIBUTE, password))
            return
        checked = self._known(pair)
        checked.names = message.fragments
        self._heard(checked)
        self._to(pair, stun.success(message, address[0], address[1], password))
        if stun.USE_CANDIDATE in message.attributes:
            self._wish, self._wish_of = checked, credentials
        self._prove(checked)
        self._follow()

    def _known(self, pair: Pair) -> _Checked:
        checked = self._checked.get(pair)
        if checked is None:
            if len(self._checked) >= MOST_CHECKED:
                spare = [c for c in self._checked.values() if c.pair != self.pair]
                self._forget(min(spare, key=lambda c: c.heard))
            checked = self._checked[pair] = _Checked(pair)
            # An address that somebody else holds has to be proven first.
            pair.gate.routes.setdefault(pair.address, self)
        return checked

    def _heard(self, checked: _Checked) -> None:
        self._count += 1
        checked.heard = self._count
        checked.quiet = 0
        if self._watch is None:
            self._look()
        if self.on_heard is not None:
            self.on_heard()

    def _prove(self, checked: _Checked) -> None:
        """Check back, if that is due, under the names of its last check: others mean nothing to it.

        In an ICE restart they may be the new ones of one side and the old ones of the other, and Chromium keeps to
        these once it uses the pair. Who goes over to newer ones is asked anew, and whose password is not known yet
        as soon as it is.
        """
        local, remote = checked.names
        ours = self._generations.get(local)
        if checked.proven or self.silent or ours is None or remote not in self._remote:
            return
        since, password = self._remote[remote]
        under = ours.number, since
        if under > checked.asked_under:
            self._stop_asking(checked)
            checked.rounds, checked.refrain_until = 0, 0.0
        elif checked.transaction is not None or self._loop.time() < checked.refrain_until:
            return
        if self._open >= MOST_OPEN_CHECKS:
            return
        checked.asked_under = under
        checked.tries = 0
        checked.rounds += 1
        self._open += 1
        checked.key = password.encode()
        name = f"{remote}:{local}".encode()
        checked.transaction = stun.new_transaction()
        self._port.expect(checked.transaction, self)
        attributes = {
            stun.USERNAME: name,
            stun.PRIORITY: candidate_priority(1, "prflx").to_bytes(4, "big"),
            stun.ICE_CONTROLLED: bytes(8),
        }
        self._send_check(checked, stun.encode(stun.REQUEST, checked.transaction, attributes, checked.key))

    def _send_check(self, checked: _Checked, data: bytes) -> None:
        if checked.tries == len(RETRY_SECONDS) or self.silent:
            self._stop_asking(checked)
            if self.pair is not None or checked.rounds >= MOST_ROUNDS:
                checked.rounds, checked.refrain_until = 0, self._loop.time() + REFRAIN_SECONDS
            return
        self._to(checked.pair, data)
        wait = RETRY_SECONDS[checked.tries]
        checked.tries += 1
        checked.timer = self._loop.call_later(wait, self._send_check, checked, data)

    def _stop_asking(self, checked: _Checked) -> None:
        if checked.timer is not None:
            checked.timer.cancel()
            checked.timer = None
        if checked.transaction is not None:
            self._port.give_up(checked.transaction)
            checked.transaction = None
            self._open -= 1

    def answered(self, gate: Gate, address: Address, message: stun.Message) -> None:
        """An address that signs an answer to our check is where it says it is (RFC 8445 section 7.2.5)."""
        checked = self._checked.get(Pair(gate, address))
        if checked is None or checked.transaction != message.transaction or self.silent:
            return
        if not stun.is_authentic(message, checked.key):
            return
        self._stop_asking(checked)
        checked.proven = True
        gate.routes[address] = self
        self._follow()

    def _follow(self) -> None:
        """Media goes where the latest nomination wants it, if that has been proven."""
        wish, credentials = self._wish, self._wish_of
        if wish is None or not wish.proven or self.silent or self._closing:
            return
        if credentials is self._newest:
            for fragment in self._generations.keys() - {self._newest.fragment}:
                self._drop_generation(fragment)
        if wish.pair == self.pair or self._move is not None:
            return
        wait = self._moved_at + MOVE_SECONDS - self._loop.time()
        if self.pair is not None and wait > 0:
            self._move = self._loop.call_later(wait, self._carry_out)
            return
        self.pair = wish.pair
        self._moved_at = self._loop.time()
        if not self._connected.done():
            self._connected.set_result(None)
        self._on_pair(self.pair)

    def _carry_out(self) -> None:
        """What was wished last, while it was not time yet."""
        self._move, self._moved_at = None, self._loop.time() - MOVE_SECONDS
        self._follow()

    def _forget(self, checked: _Checked) -> None:
        self._stop_asking(checked)
        self._checked.pop(checked.pair, None)
        gate, address = checked.pair
        if gate.routes.get(address) is self:
            del gate.routes[address]
        if self._wish is checked:
            self._wish = None

    # --- datagrams and the end ----------------------------------------------------------------------

    def handshake(self, data: bytes) -> None:
        """A DTLS datagram, for ``recv``."""
        if not self.silent and self._queue.qsize() < MOST_QUEUED:
            self._queue.put_nowait(data)

    def _to(self, pair: Pair, data: bytes) -> None:
        with contextlib.suppress(OSError):
            pair.gate.sendto(data, pair.address)

    def _look(self) -> None:
        """Every few seconds since the first check. Counted, not measured: if we stood still, nobody was silent."""
        for checked in tuple(self._checked.values()):
            checked.quiet += 1
            if checked.quiet > LOOKS and (checked.proven or self._loop.time() >= checked.refrain_until):
                self._forget(checked)
        used = None if self.pair is None else self._checked.get(self.pair)
        if used is not None and used.quiet > 1 and self._wish is not None:
            self._wish.refrain_until = 0.0  # where no answer came from yet, the client may be by now
        if self.pair is not None and used is None:
            self._go_elsewhere()
        if all(checked.quiet > LOOKS for checked in self._checked.values()):
            self._end()
        elif not self._closed.is_set():
            self._watch = self._loop.call_later(CONSENT_SECONDS / LOOKS, self._look)

    def _go_elsewhere(self) -> None:
        """Where media went, nobody consents any more: it goes where somebody does, or the connection ends."""
        self.pair = None
        if self._move is not None:
            self._move.cancel()
            self._move = None
        others = [checked for checked in self._checked.values() if checked.proven]
        if others and (self._wish is None or not self._wish.proven):
            self._wish = max(others, key=lambda checked: checked.heard)
        self._follow()
        if self.pair is None:
            self._end()

    def _end(self) -> None:
        for timer in (self._watch, self._move):
            if timer is not None:
                timer.cancel()
        if not self._connected.done():
            self._connected.set_exception(ConnectionError("closed"))
            self._connected.exception()  # nobody may be waiting
        if not self._closed.is_set():
            self._closed.set()
            self._queue.put_nowait(None)
