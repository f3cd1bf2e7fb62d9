"""Who in a room is sent whose tracks, and what the others hear of them: on, off, stalled.

Everybody is sent everything but what they switched off, and what ``attention`` leaves out. Knows no seats, no
grants and no ends; a private call's meter is hung on every track here, and is asked nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from media.attention import Attention
from media.call import Call
from media.outlet import Outlet
from media.participants import Announced, Participant, Watch
from models.clock import monotonic_ms
from models.messages import signaling as say
from models.messages.signaling import Kind, Layer

STALLED_MS = 2_000


class Exchange:
    """One room's. ``everybody``: the room's own mapping."""

    def __init__(
        self,
        everybody: Mapping[str, Participant],
        *,
        call: Call | None,
        attention: Attention,
        outlet: Outlet,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._everybody = everybody
        self._call = call
        self._attention = attention
        self._outlet = outlet
        self._spawn = spawn

    def welcome(self, newcomer: Participant) -> None:
        """Somebody is sent what is there, and told what does not flow."""
        for other in self._others(newcomer):
            for track in other.peer.published.values():
                newcomer.receive(track)
            for track_id, watch in other.watches.items():
                if watch.announced not in (None, "on") and track_id not in newcomer.left_out:
                    newcomer.send(say.TrackState(user_id=other.user_id, kind=watch.kind, state=watch.announced))

    def sync(self, publisher: Participant) -> None:
        """After any offer: hooks on what is new, and everybody else is sent it; what went is taken back."""
        published = publisher.peer.published
        for track_id in publisher.watches.keys() - published.keys():
            self._withdraw(publisher, track_id)
        for track_id in published.keys() - publisher.watches.keys():
            track = published[track_id]
            watch = publisher.watches[track_id] = Watch(track.kind, monotonic_ms())
            if self._call is not None:
                self._call.attach(track, watch)
            else:
                track.on_frame = watch.frame
            self._outlet.published(track, publisher.display_name)
            self._attention.arrange()
            for other in self._others(publisher):
                other.receive(track)
        self.offer_changes(publisher)

    def withdraw(self, publisher: Participant) -> None:
        """Nobody is sent anything of it any more."""
        for track_id in tuple(publisher.watches):
            self._withdraw(publisher, track_id)

    def _withdraw(self, publisher: Participant, track_id: str) -> None:
        publisher.watches.pop(track_id, None)
        self._outlet.withdrawn(track_id)
        for other in self._others(publisher):
            other.switched_off.discard(track_id)
            other.qualities.pop(track_id, None)
            other.drop(track_id)

    def offer_changes(self, publisher: Participant) -> None:
        """All others are told what they are sent of it now."""
        for other in self._others(publisher):
            self._spawn(other.offer())

    def select(self, participant: Participant, track_id: str, layer: Layer) -> None:
        """As ``Room.select``."""
        for other in self._others(participant):
            track = other.peer.published.get(track_id)
            if track is None:
                continue
            if layer == "off":
                participant.switched_off.add(track_id)
                participant.drop(track_id)
            else:
                participant.switched_off.discard(track_id)
                participant.prefer(track_id, layer)
                participant.receive(track)
        self._spawn(participant.offer())

    def mute(self, participant: Participant, kind: Kind, *, muted: bool) -> None:
        """As ``Room.mute``."""
        (participant.muted.add if muted else participant.muted.discard)(kind)
        if self._call is not None and kind == "video":
            self._call.camera(participant.user_id, off=muted)
        self.announce(participant, monotonic_ms(), 0)

    def announce(self, participant: Participant, now_ms: int, awake_since_ms: int) -> None:
        """Say which of its tracks are on, off or stalled, where that has changed. What we slept through ourselves,
        up to ``awake_since_ms``, is no stall."""
        for track_id, watch in tuple(participant.watches.items()):
            state: Announced = "on"
            if watch.kind in participant.muted:
                state = "off"
            elif now_ms - max(watch.last_ms, awake_since_ms) > STALLED_MS:
                state = "stalled"
            if state != watch.announced:
                first, watch.announced = watch.announced is None, state
                self._outlet.state(track_id, state)
                if not (first and state == "on"):
                    message = say.TrackState(user_id=participant.user_id, kind=watch.kind, state=state)
                    for other in self._others(participant):
                        if track_id not in other.left_out:
                            other.send(message)

    def _others(self, participant: Participant) -> list[Participant]:
        return [other for other in self._everybody.values() if other is not participant]
