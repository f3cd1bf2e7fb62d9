"""What a room may ask of media: one ``Peer`` a participant, tracks that it publishes, slots that it receives in.

This is the waist between rooms and packets. Rooms, signaling and budgets live above it and never see a
packet; below it nobody knows what a room, a grant or a minute is. Everything here belongs to one event loop.

A participant has two peer connections: on ``publish`` the client offers its own tracks; on ``subscribe``
we offer m-lines ("slots") that carry other people's tracks. Slots are allocated in blocks, never recycled
by renegotiation, and are mapped to tracks: whoever joins while a slot is free costs no SDP at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from media.sdp_rules import BadSdp as BadSdp
from media.tracks import PublishedTrack as PublishedTrack
from media.tracks import Slot as Slot

Pc = Literal["publish", "subscribe"]


class Peer:
    """One participant's two peer connections; made inside the running loop, ended by ``close``."""

    user_id: str
    published: dict[str, PublishedTrack]
    """By track id; filled by ``accept_publish``. A track that a later offer drops disappears from here."""
    last_heard_ms: int
    """Monotonic milliseconds of the last datagram from this peer that passed authentication
    (STUN, DTLS or SRTP on either connection); at first the moment of creation."""

    def __init__(
        self,
        *,
        user_id: str,
        addresses: tuple[str, ...] = (),
        on_connected: Callable[[Pc], None],
        on_lost: Callable[[Pc], None],
    ) -> None:
        """``addresses``: local addresses to offer candidates on (empty: all of this host's; loopback only
        if named). ``on_connected`` is called once ICE and DTLS of that connection are complete,
        ``on_lost`` when it failed or the other side closed it; neither after ``stop_forwarding``."""
        raise AssertionError("filled next")

    async def accept_publish(self, sdp: str) -> str:
        """Answer the client's offer; ``published`` holds its tracks afterwards. Raises BadSdp."""
        raise AssertionError("filled next")

    def subscribe(self, track: PublishedTrack) -> Slot:
        """Forward ``track`` to this peer. Starts at once if a negotiated slot is free, else after the next
        offer and answer: look at ``needs_offer``. A key frame is asked for."""
        raise AssertionError("filled next")

    def unsubscribe(self, slot: Slot) -> None:
        """Stop forwarding in ``slot`` and free it for another track; harmless to repeat."""
        raise AssertionError("filled next")

    @property
    def needs_offer(self) -> bool:
        """Some subscribed track has no negotiated m-line yet: send ``offer_subscribe()``."""
        raise AssertionError("filled next")

    async def offer_subscribe(self) -> str:
        """The complete offer, our candidates included. Unchanged m-lines: the same text again, at no cost,
        so that the client can be told a new mapping. One offer at a time: await the answer first, if
        ``needs_offer`` was true (an unanswered offer is simply sent again)."""
        raise AssertionError("filled next")

    def mids(self) -> dict[str, PublishedTrack]:
        """Which track each used m-line of the last offer carries now (OFFER's ``tracks``)."""
        raise AssertionError("filled next")

    async def accept_subscribe_answer(self, sdp: str) -> None:
        """The client's answer; ignored if no offer is open. Raises BadSdp."""
        raise AssertionError("filled next")

    def add_candidate(self, pc: Pc, candidate: dict[str, str | int | None] | None) -> None:
        """Accepted and ignored: we answer addresses that checked in, and never send to one that was named."""

    def stop_forwarding(self) -> None:
        """Synchronous and final: from its return no datagram of this peer is forwarded and none is sent to
        it. Its tracks leave every other peer's slots. ``close`` still has to be awaited."""
        raise AssertionError("filled next")

    async def close(self) -> None:
        """``stop_forwarding``, then free sockets, SRTP contexts, tasks; harmless to repeat."""
        raise AssertionError("filled next")

    def stats(self) -> dict[str, int]:
        """Counters since creation: packets and bytes in and out, losses, key-frame requests, drops."""
        raise AssertionError("filled next")
