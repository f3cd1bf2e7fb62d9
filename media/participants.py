"""One participant of a room: a seat, a wire to signal over (or none for a while) and a peer for media.

A lost wire is not a lost seat: as long as the peer is heard, media goes on, so that an outage of the web
app interrupts no paid call. Knows nothing of grants, budgets and who may see whom; rooms decide that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from media.plane import Pc, Peer, PublishedTrack, Quality, Slot
from media.port import Port
from models import log
from models.messages import signaling as wire_messages
from models.messages.commands import Reason
from models.messages.signaling import TERMINATED_CLOSE_CODE, Kind, ServerMessage

# A silent browser is noticed within 10 s; ticks and the last datagram's age take the rest.
SILENT_MS = 8_000
UNTOLD_SILENT_MS = 20_000
"""Of one who comes over HTTP: with nothing to play, a player sends nothing but ICE's checks, every 4 to 6 s (RFC
7675 section 5.1), and nobody could tell it that its seat is gone because one was lost. It hangs up by DTLS."""


Announced = Literal["on", "off", "stalled"]


class Wire(Protocol):
    """A signaling connection as rooms see it. Neither method blocks or fails; both are bounded."""

    def send(self, message: ServerMessage) -> None:
        """Queue one message; a reader that is too slow loses its connection."""

    def close(self, code: int) -> None:
        """Close after what was queued."""


class Watch:
    """When a published track was last heard of, and the state that was last announced."""

    def __init__(self, kind: Kind, now_ms: int) -> None:
        self.kind: Kind = kind
        self.last_ms = now_ms
        self.announced: Announced | None = None

    def frame(self, now_ms: int, keyframe: bool, size: int) -> None:
        """What a track's ``on_frame`` calls."""
        self.last_ms = now_ms


class Participant:
    """A taken seat."""

    def __init__(
        self,
        *,
        user_id: str,
        display_name: str,
        publishes: bool,
        wire: Wire,
        now_ms: int,
        port: Port,
        on_connected: Callable[[Participant, Pc], None],
        answers: tuple[Kind, ...] | None = None,
        key_id: str = "",
    ) -> None:
        """``answers``: of one who comes over HTTP and is told nothing (``Peer``). ``key_id``: its stream key."""
        self.user_id = user_id
        self.display_name = display_name
        self.publishes = publishes
        self.wire: Wire | None = wire
        self.stopped = False
        self.up: set[Pc] = set()
        self.muted: set[Kind] = set()
        self.watches: dict[str, Watch] = {}
        self.slots: dict[str, Slot] = {}
        self.switched_off: set[str] = set()
        self.qualities: dict[str, Quality] = {}
        """What it asked for, by track id; who asked for nothing gets the best."""
        self.left_out: set[str] = set()
        """Pictures that it would be sent, had not others spoken since (last-N)."""
        self._ever_up = False
        self._last_message_ms = now_ms
        self._on_connected = on_connected
        self.takes_tracks = False
        """It is told who is where without a description, where that is unchanged."""
        self._revision = self._answered = 0
        """Of the last offer, and of the last one that was answered."""
        self._unseated: dict[str, PublishedTrack] = {}
        """Tracks that found no slot, in the order in which they came: the next that is free is theirs."""
        self.key_id = key_id
        self.resource = self.etag = ""
        """Of one who came over HTTP: the name of its resource, and of its ICE session."""
        self._told_nothing = answers is not None
        self._silent_ms = UNTOLD_SILENT_MS if self._told_nothing else SILENT_MS
        self._offer_due = self._offering = False
        self.peer = Peer(
            user_id=user_id, port=port, on_connected=self._connected, on_lost=self._lost, answers=answers
        )

    # --- presence -----------------------------------------------------------------------------------

    def heard(self, now_ms: int) -> None:
        """A message came over the wire."""
        self._last_message_ms = now_ms

    def is_here(self, now_ms: int, awake_since_ms: int) -> bool:
        """Whether the seat is still somebody's. What we slept through ourselves is nobody's silence.

        Before media was ever up an open wire is enough. Afterwards somebody must be heard: a browser
        that vanished leaves a wire open behind the web app's pipe.
        """
        heard = max(self._last_message_ms, awake_since_ms)
        if self.up:
            return now_ms - max(heard, self.peer.last_heard_ms) < self._silent_ms
        if self.wire is None:
            return False
        return not self._ever_up or now_ms - max(heard, self.peer.last_heard_ms) < self._silent_ms

    def _connected(self, pc: Pc) -> None:
        self.up.add(pc)
        self._ever_up = True
        self._on_connected(self, pc)

    def _lost(self, pc: Pc) -> None:
        self.up.discard(pc)
        if self._told_nothing and not self.up:
            # Without a connection there is nobody to wait for: no wire says that they are still there.
            self.wire = None

    # --- tracks -------------------------------------------------------------------------------------

    def receive(self, track: PublishedTrack) -> None:
        """Be sent ``track`` from now on, or from when there is a slot for it."""
        if self.stopped or track.track_id in self.slots:
            return
        if track.track_id in self.switched_off or track.track_id in self.left_out:
            return
        slot = self.peer.subscribe(track)
        if slot.track is None:
            self._unseated[track.track_id] = track
            return
        self._unseated.pop(track.track_id, None)
        self.slots[track.track_id] = slot
        if track.track_id in self.qualities:
            self.peer.prefer(self.slots[track.track_id], self.qualities[track.track_id])
        self._offer_due = True

    def prefer(self, track_id: str, quality: Quality) -> None:
        """Be sent that track in this quality, now and whenever it is sent again."""
        self.qualities[track_id] = quality
        if track_id in self.slots:
            self.peer.prefer(self.slots[track_id], quality)

    def drop(self, track_id: str) -> None:
        """Be sent that track no more; what waits for a slot gets its one."""
        self._unseated.pop(track_id, None)
        slot = self.slots.pop(track_id, None)
        if slot is None or self.stopped:
            return
        # A track that was closed has left its slot already, and another one may be in it.
        if slot.track is not None and slot.track.track_id == track_id:
            self.peer.unsubscribe(slot)
        self._offer_due = True
        for track in tuple(self._unseated.values()):
            self.receive(track)

    async def offer(self) -> None:
        """Offer what changed, if anything: one unanswered offer at a time, whatever the client does. What changes
        meanwhile waits, and goes out as one. Where the m-lines stay as they are, nothing has to be answered."""
        if self._offering or self._told_nothing:
            return
        self._offering = True
        try:
            while self._offer_due and not self.peer.awaits_answer and not self.stopped:
                self._offer_due = False
                renegotiates = self.peer.needs_offer
                try:
                    sdp = await self.peer.offer_subscribe()
                except Exception:
                    if self.stopped:
                        return
                    raise
                if self.stopped:
                    return
                if self.takes_tracks and not renegotiates:
                    self.send(wire_messages.Tracks(tracks=self._mapping()))
                    continue
                self._revision += 1
                self.send(
                    wire_messages.SubscribeOffer(sdp=sdp, revision=self._revision, tracks=self._mapping())
                )
        finally:
            self._offering = False

    async def restart_ice(self) -> None:
        """Offer anew with other ICE credentials; an offer that is open is answered first."""
        self.peer.restart_subscribe()
        self._offer_due = True
        await self.offer()

    def first_answer(self, revision: int) -> bool:
        """Note an answer; whether it is the first one to that offer of ours. There are no more of these than
        offers, and a client may answer each, also one that has nothing new."""
        if not self._answered < revision <= self._revision:
            return False
        self._answered = revision
        return True

    async def answered(self, sdp: str, revision: int) -> None:
        """The client's answer; one that nobody waits for is ignored. Raises BadSdp."""
        if revision != self._revision or not self.peer.awaits_answer:
            return
        offered = self.peer.mids()
        await self.peer.accept_subscribe_answer(sdp)
        if self.peer.mids() != offered:
            # It took a line without the codec of the track there: it is told that there is no such picture.
            self._offer_due = True
        await self.offer()

    def _mapping(self) -> dict[str, wire_messages.SlotInfo]:
        return {
            mid: wire_messages.SlotInfo(track_id=track.track_id, user_id=track.user_id, kind=track.kind)
            for mid, track in self.peer.mids().items()
        }

    # --- the wire and the end -----------------------------------------------------------------------

    def send(self, message: ServerMessage) -> None:
        """Tell the client, if it listens."""
        if self.wire is not None:
            self.wire.send(message)

    def info(self) -> wire_messages.ParticipantInfo:
        """How the others see this participant."""
        tracks = tuple(
            wire_messages.TrackInfo(track_id=track.track_id, kind=track.kind)
            for track in self.peer.published.values()
        )
        return wire_messages.ParticipantInfo(
            user_id=self.user_id, display_name=self.display_name, tracks=tracks
        )

    def stop(self) -> None:
        """From here on nothing is forwarded to or from this participant. Synchronous, harmless to repeat."""
        if not self.stopped:
            self.stopped = True
            self.peer.stop_forwarding()
            self.up.clear()

    def dismiss(self, reason: Reason) -> None:
        """Say why and close the wire; only after :meth:`stop`, as a client may ignore it."""
        if self.wire is not None:
            self.wire.send(wire_messages.TerminateCall(reason=reason))
            self.wire.close(TERMINATED_CLOSE_CODE)
            self.wire = None

    async def close(self) -> None:
        """Free what the peer holds."""
        self.stop()
        try:
            await self.peer.close()
        except Exception:
            log.failure("peer_close_failed", user_id=self.user_id)
