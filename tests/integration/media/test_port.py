"""One UDP port for everybody, over real sockets: whose datagram is whose, who is believed, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

from media import port as ports
from media import stun
from media.aiortc_seam import ice
from media.aiortc_seam.ice import MOST_CHECKED, Agent, Pair
from media.bucket import Bucket
from media.port import Port, PortError
from tests.integration.media.media_clients import (
    LOOPBACK,
    given_back,
    held,
    until,
)
from tests.integration.media.test_forwarding import run

THEIRS, THEIR_PASSWORD = "theirs", "the password of the client"


class Caller:
    """A client's socket that speaks STUN by hand."""

    def __init__(self, port: Port, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self._to = (host, port.number)

    async def hears(self) -> stun.Message:
        async with asyncio.timeout(60):
            data = await asyncio.get_running_loop().sock_recv(self.socket, 2048)
        message = stun.parse(data)
        assert message is not None
        return message

    async def is_answered(self) -> bool:
        """Whether the next answer is a success; checks that are asked again are passed by."""
        while (message := await self.hears()).kind == stun.REQUEST:
            pass
        return message.kind == stun.SUCCESS

    def heard(self, but: int | None = None) -> int:
        """How many datagrams wait that are not of this kind of STUN message."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while data := self.socket.recv(2048):
                message = stun.parse(data)
                count += message is None or message.kind != but
        return count

    def sends(self, data: bytes) -> None:
        self.socket.sendto(data, self._to)

    async def is_asked(self) -> stun.Message:
        """The next check that comes; answers are passed by."""
        while (message := await self.hears()).kind != stun.REQUEST:
            pass
        return message

    def asks(
        self, fragment: str, password: str, *, nominates: bool = True, theirs: str = THEIRS, **more: bytes
    ) -> None:
        attributes = {stun.USERNAME: f"{fragment}:{theirs}".encode(), stun.PRIORITY: bytes(4)}
        if nominates:
            attributes[stun.USE_CANDIDATE] = b""
        attributes |= {getattr(stun, name, 0x0033): value for name, value in more.items()}
        self.sends(stun.encode(stun.REQUEST, stun.new_transaction(), attributes, password.encode()))

    def answers(self, check: stun.Message, password: str = THEIR_PASSWORD) -> None:
        self.sends(stun.success(check, "127.0.0.1", 1, password.encode()))

    async def checks_in(self, agent: Agent) -> None:
        """Asks, is answered, is checked, and answers that."""
        self.asks(agent.local_username, agent.local_password)
        checked = answered = False
        while not (checked and answered):
            message = await self.hears()
            if message.kind != stun.REQUEST:
                assert (message.kind, message.error) == (stun.SUCCESS, 0)
                answered = True
            # What an agent of before asked again and again, on a slow machine, may wait still.
            elif message.fragments == (THEIRS, agent.local_username):
                assert stun.is_authentic(message, THEIR_PASSWORD.encode())
                self.answers(message)
                checked = True
        await agent.connect()
        await until(lambda: agent.pair is not None and agent.pair.address == self.address, "the pair is used")


class Stage:
    """A port, and makers of agents and callers."""

    def __init__(self) -> None:
        self.port = Port(LOOPBACK, native=False)  # what is no SRTP gets no further in the engine
        self.pairs: list[Pair] = []
        self.agents: list[Agent] = []
        self.callers: list[Caller] = []

    def agent(self, *, answered: bool = True) -> Agent:
        agent = Agent(self.port, self.pairs.append)
        self.agents.append(agent)
        if answered:
            agent.set_remote(THEIRS, THEIR_PASSWORD)
        return agent

    def caller(self) -> Caller:
        self.callers.append(Caller(self.port))
        return self.callers[-1]

    async def close(self) -> None:
        await asyncio.gather(*(agent.close() for agent in self.agents))
        assert self.port.tables() == (0, 0, 0), "nothing stays registered"
        self.port.close()
        for caller in self.callers:
            caller.socket.close()


def plays(scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of an async scene: runs it on a stage of its own."""

    async def play() -> None:
        stage = Stage()
        try:
            await scene(stage)
        finally:
            await stage.close()

    def test() -> None:
        run(play())

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


# --- checks -------------------------------------------------------------------------------------------


@plays
async def test_the_one_with_the_password_is_answered_and_others_hear_nothing(stage: Stage) -> None:
    ours, friend, stranger = stage.agent(), stage.caller(), stage.caller()
    # When strangers know the name alone, or nothing
    stranger.asks(ours.local_username, "a guess that is wrong!")
    stranger.asks("nobody", ours.local_password)
    stranger.sends(b"\x80\x60" + bytes(40))
    stranger.sends(bytes([22, 254, 253]) + bytes(40))
    await friend.checks_in(ours)
    # Then nothing comes back, and nothing of theirs is kept
    assert stranger.heard() == 0
    assert (ours.forged, ours._queue.qsize()) == (1, 0)
    assert stage.port.tables() == (1, 1, 0)
    assert [pair.address for pair in stage.pairs] == [friend.address]


@plays
async def test_the_controlled_side_stays_controlled_and_says_what_it_does_not_understand(stage: Stage) -> None:
    ours, friend = stage.agent(), stage.caller()
    friend.asks(ours.local_username, ours.local_password, ICE_CONTROLLED=bytes(8))
    assert (await friend.hears()).error == stun.ROLE_CONFLICT
    friend.asks(ours.local_username, ours.local_password, UNHEARD_OF=b"")
    assert (await friend.hears()).error == stun.UNKNOWN_ATTRIBUTE
    assert stage.port.tables() == (1, 0, 0)
    await friend.checks_in(ours)


@plays
async def test_a_nomination_counts_once_the_address_has_answered_for_itself(stage: Stage) -> None:
    ours, home, elsewhere = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    # Given a nomination from an address that does not answer, or answers with the wrong signature
    elsewhere.asks(ours.local_username, ours.local_password)
    first, second = await elsewhere.hears(), await elsewhere.hears()
    check = first if first.kind == stun.REQUEST else second
    elsewhere.answers(check, "not the password of it")
    assert (await elsewhere.hears()).transaction == check.transaction, "it is asked again"
    assert ours.pair is not None
    assert ours.pair.address == home.address
    # When it does answer, then media goes there; and back, when the client goes back
    elsewhere.answers(check)
    await until(lambda: len(stage.pairs) == 2, "we follow")
    home.asks(ours.local_username, ours.local_password)
    await until(lambda: len(stage.pairs) == 3, "and again")
    assert [pair.address for pair in stage.pairs] == [home.address, elsewhere.address, home.address]


@plays
async def test_nobody_takes_over_an_address_with_a_forged_source(stage: Stage) -> None:
    victims, attackers, victim = stage.agent(), stage.agent(), stage.caller()
    await victim.checks_in(victims)
    taken: list[bytes] = []
    victims.on_media = taken.append
    # When another client's check arrives from the victim's address, who does not answer checks of that name
    victim.asks(attackers.local_username, attackers.local_password)
    await until(lambda: len(attackers._checked) == 1, "it has arrived")
    victim.sends(b"\x80media")
    await until(lambda: taken == [b"\x80media"], "the victim's media is still the victim's")
    assert attackers.pair is None
    await attackers.close()
    victim.sends(b"\x80again")
    await until(lambda: len(taken) == 2, "also when the attacker has gone")


@plays
async def test_an_ice_restart_goes_over_to_the_new_names_when_they_nominate(stage: Stage) -> None:
    ours, friend = stage.agent(), stage.caller()
    await friend.checks_in(ours)
    old = ours.local_username, ours.local_password
    ours.restart()
    ours.set_remote(THEIRS, THEIR_PASSWORD)
    assert ours.local_username != old[0]
    assert stage.port.tables()[0] == 2, "both names are known for a while"
    friend.asks(*old)
    assert await friend.is_answered()
    # When the new ones nominate an address that is proven already
    friend.asks(ours.local_username, ours.local_password)
    assert await friend.is_answered()
    # Then the old ones are unknown, and the pair is as before
    assert stage.port.tables()[0] == 1
    friend.asks(*old)
    friend.asks(ours.local_username, ours.local_password)
    assert await friend.is_answered()
    assert friend.heard(but=stun.REQUEST) == 0
    assert len(stage.pairs) == 1


@plays
@mock.patch.object(ice, "RETRY_SECONDS", (3_600.0,))
async def test_in_a_restart_a_check_back_has_the_names_that_the_browser_uses_just_then(stage: Stage) -> None:
    ours, home, moved = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    old = ours.local_username, ours.local_password
    # Given a browser that begins anew: its next port checks under our old name and its new one, which we lack yet
    moved.asks(*old, theirs="anew")
    assert await moved.is_answered()
    assert stage.port.tables()[2] == 0, "whose password we do not know is not asked"
    # When its offer is here, then the port is asked under these names
    ours.restart()
    ours.set_remote("anew", "another password")
    check = await moved.is_asked()
    assert check.fragments == ("anew", old[0])
    assert stun.is_authentic(check, b"another password")
    # And when it has our answer, and knows itself under that name no more, then at once under the new ones
    moved.asks(ours.local_username, ours.local_password, theirs="anew")
    check = await moved.is_asked()
    assert check.fragments == ("anew", ours.local_username)
    moved.answers(check, "another password")
    await until(lambda: len(stage.pairs) == 2, "media goes there")
    assert stage.port.tables() == (1, 2, 0)


@plays
async def test_a_forged_source_is_asked_a_few_times_more_for_an_ice_restart_however_names_alternate(
    stage: Stage,
) -> None:
    ours, home, victim = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    names = [(ours.local_username, ours.local_password)]
    ours.restart()
    ours.set_remote("anew", "another password")
    names.append((ours.local_username, ours.local_password))
    mixed = [(*ours, theirs) for ours in names for theirs in (THEIRS, "anew")]
    with mock.patch.multiple(ice, RETRY_SECONDS=(0.0, 0.0, 0.0), REFRAIN_SECONDS=3_600):
        for fragment, password, theirs in mixed * 5:
            before = ours._count
            victim.asks(fragment, password, theirs=theirs)
            await until(lambda before=before: ours._count > before, "it is heard")  # type: ignore[misc]
            await until(lambda: ours._open == 0, "nothing is open")
    assert victim.heard(but=stun.SUCCESS) == len(mixed) * 3


@plays
@mock.patch.object(ice, "CONSENT_SECONDS", 1_000_000)  # looks are the test's own
async def test_who_may_have_moved_is_asked_again_when_nothing_comes_from_where_it_was(stage: Stage) -> None:
    ours, home, moved = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    # Given an address that was nominated and lost all of our checks
    with mock.patch.multiple(ice, RETRY_SECONDS=(0.0, 0.0, 0.0)):
        moved.asks(ours.local_username, ours.local_password)
        for _ in ice.RETRY_SECONDS:
            await moved.is_asked()
        await until(lambda: ours._open == 0, "it is left alone")
    home.asks(ours.local_username, ours.local_password, nominates=False)
    assert await home.is_answered()
    # When no check came from where media goes for two looks
    with mock.patch.object(ice, "RETRY_SECONDS", (3_600.0,)):
        for expected in (0, 1):
            ours._look()
            heard = ours._count
            moved.asks(ours.local_username, ours.local_password)
            await until(lambda before=heard: ours._count > before, "it is heard")  # type: ignore[misc]
            assert stage.port.tables()[2] == expected
        # Then it is asked again
        moved.answers(await moved.is_asked())
        await until(lambda: len(stage.pairs) == 2, "media goes there")


@plays
async def test_an_answer_that_comes_late_is_waited_for(stage: Stage) -> None:
    ours, friend = stage.agent(answered=False), stage.caller()
    friend.asks(ours.local_username, ours.local_password)
    assert (await friend.hears()).kind == stun.SUCCESS
    assert friend.heard() == 0, "whose name we do not know is not asked"
    ours.set_remote(THEIRS, THEIR_PASSWORD)
    friend.answers(await friend.hears())
    await until(lambda: len(stage.pairs) == 1, "it goes on")


@plays
async def test_addresses_of_one_client_have_a_limit_and_the_used_one_stays(stage: Stage) -> None:
    ours, home = stage.agent(), stage.caller()
    await home.checks_in(ours)
    for _ in range(MOST_CHECKED + 10):
        other = stage.caller()
        other.asks(ours.local_username, ours.local_password, nominates=False)
        assert (await other.hears()).kind in (stun.SUCCESS, stun.REQUEST)
    assert len(ours._checked) == MOST_CHECKED
    assert stage.port.tables()[1] == MOST_CHECKED
    assert ours.pair in ours._checked


@plays
async def test_who_sends_no_check_any_more_is_gone(stage: Stage) -> None:
    ours, friend = stage.agent(), stage.caller()
    await friend.checks_in(ours)
    looks = 0
    while not ours._closed.is_set():
        ours._look()
        looks += 1
    assert looks > 3
    with pytest.raises(ConnectionError):
        await ours.recv()


@plays
@mock.patch.object(ice, "CONSENT_SECONDS", 1_000_000)  # looks are the test's own
async def test_media_does_not_go_on_to_an_address_that_fell_silent(stage: Stage) -> None:
    ours, home, elsewhere = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    await elsewhere.checks_in(ours)
    home.asks(ours.local_username, ours.local_password)
    await until(lambda: len(stage.pairs) == 3, "it is used again")
    # When the address that is used says nothing more, and the other goes on, without nominating
    count = 0
    while len(stage.pairs) == 3 and count < 2 * ice.LOOKS:
        heard = ours._count
        elsewhere.asks(ours.local_username, ours.local_password, nominates=False)
        await until(lambda before=heard: ours._count > before, "it is heard")  # type: ignore[misc]
        ours._look()
        count += 1
    # Then media goes to the other after the usual time; and to the first only when it has been proven anew
    assert count == ice.LOOKS + 1
    assert stage.pairs[-1].address == elsewhere.address
    assert not ours._closed.is_set()
    assert stage.port.tables()[1] == 1, "nothing is taken from there"
    home.heard()
    home.asks(ours.local_username, ours.local_password)
    while (await home.hears()).kind != stun.REQUEST:
        assert len(stage.pairs) == 4


@plays
@mock.patch.object(ice, "CONSENT_SECONDS", 1_000_000)  # looks are the test's own
async def test_who_only_checks_from_where_nobody_answers_is_gone(stage: Stage) -> None:
    ours, home, elsewhere = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    for _ in range(ice.LOOKS):
        assert not ours._closed.is_set()
        heard = ours._count
        elsewhere.asks(ours.local_username, ours.local_password)
        await until(lambda before=heard: ours._count > before, "it is heard")  # type: ignore[misc]
        ours._look()
    assert ours._closed.is_set()
    assert ours.pair is None
    assert len(stage.pairs) == 1


@plays
async def test_checks_have_a_limit_that_strangers_cannot_use_up(stage: Stage) -> None:
    ours, friend, stranger = stage.agent(), stage.caller(), stage.caller()
    ours._requests = Bucket(ice.MOST_REQUESTS, ice.MOST_REQUESTS, lambda: 0.0)  # no time passes
    for _ in range(ice.MOST_FORGERIES - 5):
        stranger.asks(ours.local_username, "a guess that is wrong!")
    await friend.checks_in(ours)
    for _ in range(ice.MOST_REQUESTS + 50):
        friend.asks(ours.local_username, ours.local_password)
    friend.sends(bytes([22, 254, 253]))
    assert await ours.recv() == bytes([22, 254, 253]), "all has been read"
    assert (ours.forged, ours._count) == (ice.MOST_FORGERIES - 5, ice.MOST_REQUESTS)


@plays
async def test_a_pair_is_used_for_a_while_and_then_the_latest_nomination_counts(stage: Stage) -> None:
    ours, home, elsewhere = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    await elsewhere.checks_in(ours)
    ours._moved_at = ours._loop.time() + 3_600  # it is never time by itself
    for number in range(21):
        before = ours._count
        (home, elsewhere)[number % 2].asks(ours.local_username, ours.local_password)
        await until(lambda before=before: ours._count > before, "it is heard")  # type: ignore[misc]
    assert len(stage.pairs) == 2
    # When it is time
    ours._carry_out()
    assert [pair.address for pair in stage.pairs[2:]] == [home.address]
    ours._carry_out()
    assert len(stage.pairs) == 3, "once"


@plays
async def test_who_does_not_answer_is_asked_a_few_times_and_then_left_alone(stage: Stage) -> None:
    ours, home, victim = stage.agent(), stage.caller(), stage.caller()
    await home.checks_in(ours)
    with mock.patch.multiple(ice, RETRY_SECONDS=(0.0, 0.0, 0.0), REFRAIN_SECONDS=3_600):
        for _ in range(20):
            before = ours._count
            victim.asks(ours.local_username, ours.local_password)
            await until(lambda before=before: ours._count > before, "it is heard")  # type: ignore[misc]
            await until(lambda: ours._open == 0, "nothing is open")
        kinds = [(await victim.hears()).kind for _ in range(20 + 3)]
        assert (kinds.count(stun.SUCCESS), kinds.count(stun.REQUEST)) == (20, 3)
        assert victim.heard() == 0
    # When ICE begins anew, then it is asked anew
    with mock.patch.object(ice, "RETRY_SECONDS", (3_600.0,)):
        ours.restart()
        ours.set_remote(THEIRS, THEIR_PASSWORD)
        victim.answers(await victim.hears())
        await until(lambda: len(ours._checked) == 2 and all(c.proven for c in ours._checked.values()), "proven")


@plays
async def test_few_addresses_are_asked_at_a_time(stage: Stage) -> None:
    ours = stage.agent()
    with mock.patch.object(ice, "RETRY_SECONDS", (3_600.0,)):
        callers = [stage.caller() for _ in range(ice.MOST_OPEN_CHECKS + 3)]
        for number, caller in enumerate(callers):
            caller.asks(ours.local_username, ours.local_password)
            await until(lambda number=number: ours._count > number, "it is heard")  # type: ignore[misc]
        assert ours._open == stage.port.tables()[2] == ice.MOST_OPEN_CHECKS
        # When one has answered, then the last one's next check is checked back
        first = [await callers[0].hears() for _ in range(2)]
        callers[0].answers(next(message for message in first if message.kind == stun.REQUEST))
        await until(lambda: ours._open == ice.MOST_OPEN_CHECKS - 1, "it is proven")
        await callers[-1].hears()
        callers[-1].asks(ours.local_username, ours.local_password)
        await until(lambda: ours._open == ice.MOST_OPEN_CHECKS, "it is asked")


@plays
async def test_what_waits_in_the_kernel_is_read_for_everybody_and_in_parts(stage: Stage) -> None:
    first, second = stage.agent(), stage.agent()
    one, two, stranger = stage.caller(), stage.caller(), stage.caller()
    await one.checks_in(first)
    await two.checks_in(second)
    taken: list[bytes] = []
    nested: list[bool] = []

    def take(data: bytes) -> None:
        taken.append(data)
        nested.append(stage.port.drain(10))

    first.on_media = second.on_media = take
    assert stage.port.drain(10), "nothing waits"
    # Given datagrams that came while the loop did not turn
    for number in range(4):
        one.sends(bytes([128, number]))
        stranger.sends(bytes([128, 100]))
        two.sends(bytes([129, number]))
    # When they are read, then a part when a part is asked for, and of those who checked in
    assert not stage.port.drain(4)
    assert taken == [b"\x80\x00", b"\x81\x00", b"\x80\x01"]
    assert stage.port.drain(1_000)
    assert taken == [bytes([kind, number]) for number in range(4) for kind in (128, 129)]
    assert not any(nested), "not in the middle of a datagram"
    # And of an agent that is silent nothing
    first.on_media, first.silent = None, True
    one.sends(b"\x80\x09")
    assert stage.port.drain(1_000)
    assert len(taken) == 8


@plays
async def test_a_defect_over_one_datagram_is_not_everybody_elses(stage: Stage) -> None:
    ours, friend = stage.agent(), stage.caller()
    await friend.checks_in(ours)
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    taken: list[bytes] = []

    def take(data: bytes) -> None:
        taken.append(data)
        raise ZeroDivisionError

    ours.on_media = take
    friend.sends(b"\x80one")
    friend.sends(b"\x80two")
    assert stage.port.drain(100)
    loop.set_exception_handler(handler)
    assert (len(taken), complaints) == (2, ["datagram_failed"] * 2)


@plays
async def test_a_thousand_connections_leave_nothing_behind(stage: Stage) -> None:
    friend = stage.caller()
    before = held()
    for _ in range(1_000):
        ours = stage.agent()
        await friend.checks_in(ours)
        friend.sends(bytes([22, 254, 253]))
        assert await ours.recv() == bytes([22, 254, 253])
        await ours.close()
        stage.agents.clear()
        assert stage.port.tables() == (0, 0, 0)
    await given_back(before)
    assert len(stage.pairs) == 1_000


# --- addresses and numbers ----------------------------------------------------------------------------


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            number = other.getsockname()[1]
            with pytest.raises(PortError, match=rf"UDP port {number} on 127\.0\.0\.1: Address already in use"):
                Port(("127.0.0.2", "127.0.0.1"), number)
            # What was opened before the error is closed: it can be taken
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(("127.0.0.2", number))
        with pytest.raises(PortError, match=r"on 192\.0\.2\.200"):
            Port(("192.0.2.200",))

    run(scenario())


def test_a_node_whose_port_is_taken_says_which_and_ends() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        number = str(other.getsockname()[1])
        given = {"SECRET_KEY": "k" * 32, "MEDIA_ADDRESSES": "127.0.0.1", "MEDIA_UDP_PORT": number}
        ended = subprocess.run(
            [sys.executable, "-m", "media"],
            env={**os.environ, **given}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "The media node cannot open its UDP port (MEDIA_UDP_PORT, MEDIA_ADDRESSES): "
        f"UDP port {number} on 127.0.0.1: Address already in use"
    )


def test_announced_addresses_take_the_place_of_local_ones_of_their_family() -> None:
    async def scenario() -> None:
        assert ports._candidates(["127.0.0.1", "127.0.0.2", "::1"], ("198.51.100.7",)) == ("::1", "198.51.100.7")
        port = Port(("127.0.0.1", "127.0.0.2"), 0, ("198.51.100.7",))
        assert port.candidates == ("198.51.100.7",)
        assert {gate.socket.getsockname()[1] for gate in port.gates} == {port.number}
        port.close()

    run(scenario())


def test_loopback_is_offered_only_when_there_is_nothing_else() -> None:
    ips = [mock.Mock(ip=ip) for ip in ("127.0.0.1", ("::1", 0, 0), ("fe80::1", 0, 2), "169.254.1.1")]
    with mock.patch("ifaddr.get_adapters", return_value=[mock.Mock(ips=ips)]):
        assert ports.host_addresses() == ("127.0.0.1",)
        ips += [mock.Mock(ip="192.0.2.2"), mock.Mock(ip=("2001:db8::2", 0, 0))]
        assert ports.host_addresses() == ("192.0.2.2", "2001:db8::2")
