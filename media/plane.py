"""What a room may ask of media: one ``Peer`` a participant, tracks that it publishes, slots that it receives in.

This is the waist between rooms and packets. Rooms, signaling and budgets live above it and never see a
packet; below it nobody knows what a room, a grant or a minute is. Everything here belongs to one event loop.

A participant has two peer connections: on ``publish`` the client offers its own tracks; on ``subscribe``
we offer m-lines ("slots") that carry other people's tracks: see ``media.publication`` and ``media.seats``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Literal

from media import sdp_rules
from media.aiortc_seam import Leg, Line, Path, State
from media.codecs import FORWARDED
from media.downlink import Downlink
from media.fastpath.engine import EngineError
from media.forwarding import Ingress
from media.layers import HIGH, LOW, MEDIUM, Layer
from media.native_forwarding import egress_for, ingress_for, wire_for
from media.port import Port
from media.publication import Publication
from media.sdp_rules import BadSdp as BadSdp
from media.seats import Seats
from media.stats import Sample, sample
from media.subscriber_feedback import Egress
from media.tracks import Kind
from media.tracks import PublishedTrack as PublishedTrack
from media.tracks import Slot as Slot
from media.wire import Wire
from models import log
from models.clock import monotonic_ms

Pc = Literal["publish", "subscribe"]
Quality = Literal["high", "medium", "low"]

MOST_TRACKS = 4
"""Tracks that one participant may publish: camera, microphone, and a screen with sound."""
MOST_AT_ONCE = 1_000
"""Waiting datagrams that are read in one go: some ten milliseconds."""
TICK_SECONDS = 0.1
TICKS_A_REPORT = 10
_LAYERS: dict[Quality, int] = {"high": HIGH, "medium": MEDIUM, "low": LOW}


class Peer:
    """One participant's two peer connections; made inside the running loop, ended by ``close``."""

    def __init__(
        self,
        *,
        user_id: str,
        port: Port,
        on_connected: Callable[[Pc], None],
        on_lost: Callable[[Pc], None],
        answers: tuple[Kind, ...] | None = None,
    ) -> None:
        """``port``: what its connections are reached at. ``on_connected`` is called once ICE and DTLS of
        that connection are complete, ``on_lost`` when it failed or the other side closed it; neither after
        ``stop_forwarding``. ``answers``: the client offers to receive, and these are its m-lines in their
        order (WHEP; none for one who receives nothing). Nothing else carries anything then."""
        self.user_id = user_id
        self._publication = Publication(user_id, self._ask_keyframe)
        self.published = self._publication.tracks
        """By track id; filled by ``accept_publish``. A track that a later offer drops disappears from here."""
        self.last_heard_ms = monotonic_ms()
        """Monotonic milliseconds of the last datagram from this peer that passed authentication (STUN, or
        SRTP, SRTCP); at first the moment of creation."""
        self._port = port
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._stopped = False
        self._leaving: set[asyncio.Task[None]] = set()
        self._publish: Leg | None = None
        self._ingress: Ingress | None = None
        self._subscribe: Leg | None = None
        self._egress: Egress | None = None
        self._seats = Seats(self._add_line, answers)
        self._offered = ""
        self._open_offer = self._restart = False
        self._refused = 0
        """By wires that are closed."""
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._fixed = answers is not None

    # --- publish

    async def accept_publish(self, sdp: str, taken: Collection[str] = FORWARDED) -> str:
        """Answer the client's offer; ``published`` holds its tracks afterwards. Of the codecs that may be
        ``taken`` it is the first that the client names. Raises BadSdp."""
        if self._stopped:
            raise BadSdp("the peer is gone")
        text = sdp_rules.check(sdp, most_media=MOST_TRACKS)
        leg = self._publish
        if leg is None or not leg.goes_on(text):
            leg = Leg(self._port, lambda state: self._publish_state(leg, state), self._heard)
        try:
            answer, received, transport_cc = await leg.answer(text, taken)
        except BaseException:
            if leg is not self._publish:
                await leg.close()
            raise
        if self._stopped:
            await leg.close()
            raise BadSdp("the peer is gone")
        if leg is not self._publish:
            self._replace_publish(leg)
        self._publication.take(received, text, transport_cc)
        if self._ingress is not None:
            self._publication.bind(self._ingress)
        return answer

    def _replace_publish(self, leg: Leg) -> None:
        """The client opened another connection in place of the old one."""
        old, self._publish = self._publish, leg
        if old is not None:
            old.silence()
            self._drop_ingress()
            self._publication.withdraw()
            self._later(old.close())

    def _ask_keyframe(self, layer: Layer) -> None:
        if self._ingress is not None:
            self._ingress.ask_keyframe(layer)

    def read_what_waits(self) -> bool:
        """Handle, as ever, what the kernel holds of what this peer sent, and of what everybody else on the port
        did; whether nothing is left.

        Of a long queue only ``MOST_AT_ONCE``: call it again soon."""
        return self._stopped or self._publish is None or self._port.drain(MOST_AT_ONCE)

    def _publish_state(self, leg: Leg | None, state: State) -> None:
        if self._stopped or leg is None or leg is not self._publish:
            return
        if state == "lost":
            self._drop_ingress()
            self._on_lost("publish")
            return
        path = leg.path()
        if path is None:
            return
        if self._ingress is not None:
            old, self._ingress.wire = self._ingress.wire, self._ingress.wire.moved(path)
            self._close_former(old, self._ingress.wire)
            return
        wire = self._wire(path, numbered=False)
        if wire is None:
            self._on_lost("publish")
            return
        self._ingress = ingress_for(wire, self._now_heard)
        self._publication.bind(self._ingress)
        leg.on_media(self._ingress.receive)
        self._tick()
        self._on_connected("publish")

    def _tick(self) -> None:
        """Ten times a second, while the publish connection stands."""
        if self._ingress is None:
            return
        self._ticks += 1
        now_ms = monotonic_ms()
        self._ingress.tick(now_ms)
        if self._ticks % TICKS_A_REPORT == 0:
            self._ingress.report(now_ms)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _drop_ingress(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ingress is not None:
            self._close_wire(self._ingress.wire)
            self._ingress = None

    # --- subscribe

    def subscribe(self, track: PublishedTrack) -> Slot:
        """Forward ``track`` to this peer. Starts at once if a negotiated slot is free, else after the next
        offer and answer: look at ``needs_offer``. A key frame is asked for. After ``stop_forwarding``, or
        with every seat taken, the slot that is returned carries nothing (its ``track`` is None)."""
        slot = None if self._stopped or track.closed else self._seats.slot_for(track)
        if slot is None:
            return Slot(kind=track.kind, ssrc=0, seat=0)
        track.add(slot, monotonic_ms())
        if self._egress is not None and self._egress.downlink is not None:
            self._egress.downlink.look(monotonic_ms())
        return slot

    def unsubscribe(self, slot: Slot) -> None:
        """Stop forwarding in ``slot`` and free it for another track; harmless to repeat."""
        if slot.track is not None:
            slot.track.remove(slot, monotonic_ms())

    def prefer(self, slot: Slot, quality: Quality) -> None:
        """Which of several layers the subscriber wants, at most; taken at that layer's next key frame."""
        if slot.track is not None:
            slot.wanted_layer = _LAYERS[quality]
            slot.chosen = quality == "high"
            slot.track.choose(monotonic_ms())

    @property
    def needs_offer(self) -> bool:
        """There are m-lines that the client does not know, or ICE is to restart: send ``offer_subscribe()``."""
        return self._restart or (self._seats.are_new and not self._fixed)

    @property
    def awaits_answer(self) -> bool:
        """The last new offer has not been answered yet."""
        return self._open_offer

    def restart_subscribe(self) -> None:
        """The next new offer brings other ICE credentials; until the client has nominated a pair with them,
        media goes on over the old ones. Nothing happens before there was an answer."""
        self._restart = bool(self._seats.negotiated) and not self._fixed

    async def offer_subscribe(self) -> str:
        """The complete offer, our candidates included; the same text again, at no cost, unless ``needs_offer``.
        One offer at a time: wait for its answer first (while ``awaits_answer``, it is simply the same again)."""
        if self._subscribe is None:
            raise BadSdp("nothing is subscribed")
        if not self._open_offer and self.needs_offer:
            self._open_offer = True
            restart, self._restart = self._restart, False
            self._offered, mids = await self._subscribe.offer(restart=restart)
            self._seats.offered(mids)
        return self._offered

    def mids(self) -> dict[str, PublishedTrack]:
        """Which track each used m-line of the last offer carries now (OFFER's ``tracks``). Not a track whose
        codec the client refused in its answer: there is nothing to show."""
        return self._seats.mids()

    async def accept_subscribe_answer(self, sdp: str) -> None:
        """The client's answer; ignored if no offer is open. Raises BadSdp."""
        if not self._open_offer or self._subscribe is None or self._stopped:
            return
        text = sdp_rules.check(sdp, most_media=len(self._seats.slots))
        lines = await self._subscribe.accept_answer(text)
        self._open_offer = False
        self._negotiate(lines)

    async def answer_subscribe(self, sdp: str) -> str:
        """Answer the client's offer to receive, once: for a peer that was made with ``answers``. What is
        subscribed, before or later, flows in these slots without another word. Raises BadSdp."""
        if self._stopped or not self._fixed or self._subscribe is None or self._seats.negotiated:
            raise BadSdp("nothing is to be answered")
        text = sdp_rules.check(sdp, most_media=len(self._seats.slots))
        answer, lines = await self._subscribe.answer_sending(text)
        if self._stopped:
            raise BadSdp("the peer is gone")
        self._negotiate(lines)
        return answer

    def _negotiate(self, lines: list[Line]) -> None:
        self._seats.negotiate(lines)
        self._rewire()

    def _add_line(self, kind: Kind, seat: int) -> tuple[int, int]:
        """One m-line more, and the connection with the first; its SSRC and that of its repairs."""
        if self._subscribe is None:
            self._subscribe = Leg(self._port, self._subscribe_state, self._heard)
        return self._subscribe.add_line(kind, f"seat{seat}")

    def _subscribe_state(self, state: State) -> None:
        if self._stopped or self._subscribe is None:
            return
        if state == "lost":
            self._drop_egress()
            self._on_lost("subscribe")
            return
        path = self._subscribe.path()
        if path is None:
            return
        if self._egress is not None:
            # The same association at another address: what it counted, and whom it has heard, stays.
            old, self._egress.wire = self._egress.wire, self._egress.wire.moved(path)
            self._rewire()
            self._close_former(old, self._egress.wire)
            return
        wire, slots = self._wire(path, numbered=True), self._seats.by_ssrc
        if wire is None or wire.history is None:
            self._on_lost("subscribe")
            return
        downlink = Downlink(slots, wire.history, self._loop.call_later, monotonic_ms)
        self._egress = egress_for(wire, slots, self._now_heard, downlink)
        self._rewire()
        downlink.begin()
        self._subscribe.on_media(self._egress.receive)
        self._on_connected("subscribe")

    def _rewire(self) -> None:
        """Give every negotiated slot the wire as it is now."""
        wire = self._egress.wire if self._egress is not None else None
        now_ms = monotonic_ms()
        for slot in self._seats.negotiated:
            fresh = slot.wire is None and wire is not None
            slot.wire = wire
            if wire is not None:
                wire.take(slot)
            if slot.track is not None:
                slot.track.refresh()
                if fresh:
                    slot.track.choose(now_ms)

    def _drop_egress(self) -> None:
        """Take this peer out of every fan-out, then close the wire: in this order, as fan-out holds contexts."""
        for slot in self._seats.slots:
            self.unsubscribe(slot)
            slot.wire = None
        if self._egress is not None:
            if self._egress.downlink is not None:
                self._egress.downlink.close()
            self._close_wire(self._egress.wire)
            self._egress = None

    # --- both

    @property
    def remote_fragment(self) -> str | None:
        """Of a client that has one connection: what its ICE calls itself now."""
        leg = self._publish or self._subscribe
        return leg.remote_fragment if leg is not None else None

    def restart(self, fragment: str, password: str) -> str:
        """ICE begins again on a client's one connection: its new names in, ours out, as an SDP fragment (RFC 8840
        section 4.4). Media goes on meanwhile. Raises BadSdp."""
        leg = self._publish or self._subscribe
        if leg is None or self._stopped:
            raise BadSdp("there is no connection")
        sdp_rules.check_names(fragment, password)
        return leg.restart(fragment, password)

    def add_candidate(self, pc: Pc, candidate: dict[str, str | int | None] | None) -> None:
        """Accepted and ignored: we answer addresses that checked in, and never send to one that was named."""

    def stop_forwarding(self) -> None:
        """Synchronous and final: from its return no datagram of this peer is forwarded and none is sent to
        it. Its tracks leave every other peer's slots. ``close`` still has to be awaited."""
        if self._stopped:
            return
        self._stopped = True
        for leg in (self._publish, self._subscribe):
            if leg is not None:
                leg.silence()
        self._publication.withdraw()
        self._drop_ingress()
        self._drop_egress()
        if self._fixed:
            for leg in (self._publish, self._subscribe):
                if leg is not None:
                    leg.goodbye()

    async def close(self) -> None:
        """``stop_forwarding``, then free sockets, SRTP contexts, tasks; harmless to repeat."""
        self.stop_forwarding()
        legs = [leg for leg in (self._publish, self._subscribe) if leg is not None]
        self._publish = self._subscribe = None
        for leg in legs:
            await leg.close()
        if self._leaving:
            await asyncio.gather(*self._leaving)
        self._seats.clear()

    def stats(self) -> dict[str, int]:
        """Counters since the connections stand: packets and bytes in, losses, NACKs, key-frame requests."""
        ingress, egress = self._ingress, self._egress
        layers = [layer for track in self.published.values() for layer in track.layers]
        return {
            "packets_in": ingress.packets_in if ingress else 0,
            "bytes_in": ingress.bytes_in if ingress else 0,
            "refused": (ingress.refused if ingress else 0) + self._wires_refused(),
            "packets_lost": sum(layer.reception.lost for layer in layers),
            "packets_repaired": sum(layer.repaired for layer in layers),
            "keyframes_asked": sum(layer.throttle.sent for layer in layers),
            "keyframes_wanted": egress.keyframe_requests if egress else 0,
            "nacks": egress.nacks if egress else 0,
            "retransmitted": egress.retransmitted if egress else 0,
        }

    def sample(self) -> Sample:
        """Everything counted so far, by connection, track and slot."""
        return sample(
            self._ingress, self._egress, self.published.values(), self._seats.slots, self._wires_refused()
        )

    def _wire(self, path: Path, *, numbered: bool) -> Wire | None:
        """None: the engine has no place for one more connection, and the client will try again."""
        try:
            return wire_for(path, numbered=numbered)
        except EngineError:
            log.event("engine_full", level=logging.WARNING, of="connections")
            return None

    def _close_wire(self, wire: Wire) -> None:
        wire.close()
        self._refused += wire.refused

    def _close_former(self, former: Wire, wire: Wire) -> None:
        if former is not wire:
            self._close_wire(former)

    def _wires_refused(self) -> int:
        """What sockets refused of everything that was for this peer."""
        open_ones = [end.wire.refused for end in (self._ingress, self._egress) if end is not None]
        return self._refused + sum(open_ones)

    def _heard(self) -> None:
        self.last_heard_ms = monotonic_ms()

    def _now_heard(self) -> int:
        """The clock that ingress reads once per authenticated packet."""
        self.last_heard_ms = monotonic_ms()
        return self.last_heard_ms

    def _later(self, closing: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(closing)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
