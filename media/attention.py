"""Who speaks in a room, and whose picture goes to whom because of it.

Says ACTIVE_SPEAKER where at least two people can be heard. With ``last_n`` above 0 everybody is sent the pictures
of the creators and of the last ``last_n`` others who spoke; the rest are taken out of their slots and put back
later, with no m-line made or changed. Who is the speaker is ruled by ``speakers``; sound is never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from media.participants import Participant
from media.plane import PublishedTrack
from media.speakers import Speakers
from models.messages.signaling import ActiveSpeaker, TrackState

LOOK_MS = 200


class Attention:
    """One room's. ``everybody``: the room's own mapping, in the order in which they came."""

    def __init__(
        self,
        everybody: Mapping[str, Participant],
        *,
        creators: Callable[[], set[str]],
        last_n: int,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.speakers = Speakers()
        self._everybody = everybody
        self._creators = creators
        self._last_n = last_n
        self._spawn = spawn
        self._next_ms = 0

    def tick(self, now_ms: int) -> None:
        """As often as the room ticks."""
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + LOOK_MS
        levels = {}
        for user_id, participant in self._everybody.items():
            tracks = [track for track in participant.peer.published.values() if track.kind == "audio"]
            if tracks and "audio" not in participant.muted:
                levels[user_id] = max(track.loudness.at(now_ms) for track in tracks)
        self._rank()
        if len(levels) < 2:
            return
        speaker = self.speakers.look(levels, now_ms)
        if speaker is not None:
            for participant in tuple(self._everybody.values()):
                participant.send(ActiveSpeaker(user_id=speaker))
            self.arrange()

    def _rank(self) -> None:
        """Whose picture comes first on a narrow line: the creators', then who speaks."""
        creators = self._creators()
        for user_id, participant in self._everybody.items():
            rank = 2 if user_id in creators else int(user_id == self.speakers.active)
            for track in participant.peer.published.values():
                track.rank = rank

    def welcome(self, newcomer: Participant) -> None:
        """Before anything is sent to somebody who comes: what it is not going to be sent."""
        if self.speakers.active in self._everybody and self.speakers.active is not None:
            newcomer.send(ActiveSpeaker(user_id=self.speakers.active))
        self._arrange_for(newcomer)

    def gone(self, user_id: str) -> None:
        """The user's seat is free."""
        self.speakers.gone(user_id)
        self.arrange()

    def arrange(self) -> None:
        """Bring everybody's pictures up to who speaks and who is here; also before a new track is handed out."""
        for participant in tuple(self._everybody.values()):
            self._arrange_for(participant)

    def _arrange_for(self, viewer: Participant) -> None:
        wanted = self._left_out(viewer) if self._last_n else {}
        if viewer.stopped or wanted.keys() == viewer.left_out:
            return
        came_back = viewer.left_out - wanted.keys()
        new = wanted.keys() - viewer.left_out
        viewer.left_out = set(wanted)
        for track_id in new:
            viewer.drop(track_id)
            viewer.send(TrackState(user_id=wanted[track_id].user_id, kind="video", state="off", cause="last_n"))
        for other in self._everybody.values():
            for track_id in came_back & other.watches.keys():
                viewer.receive(other.peer.published[track_id])
                state = other.watches[track_id].announced or "on"
                viewer.send(TrackState(user_id=other.user_id, kind="video", state=state))
        self._spawn(viewer.offer())

    def _left_out(self, viewer: Participant) -> dict[str, PublishedTrack]:
        """The pictures that this viewer is not sent, by track id."""
        creators = self._creators()
        pictures = {
            user_id: [track for track in other.peer.published.values() if track.kind == "video"]
            for user_id, other in self._everybody.items()
            if user_id != viewer.user_id and user_id not in creators
        }
        shown = self.speakers.foremost((user_id for user_id in pictures if pictures[user_id]), self._last_n)
        return {
            track.track_id: track
            for user_id, tracks in pictures.items()
            if user_id not in shown
            for track in tracks
        }
