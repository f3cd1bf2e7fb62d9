"""What leaves a room to be read: a public one for spectators, a private one while both agree to be recorded.

One tap for all readers, as long as there is one; who may read at all the node decides. Knows no tickets and no
sockets, and not why a room ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from media.egress import Tap
from media.participants import Announced, Participant
from media.recorded import Permission
from media.tracks import PublishedTrack
from models.messages.commands import Reason, RoomSpec
from models.messages.signaling import ServerMessage


class Outlet:
    """One room's. ``everybody``: the room's own mapping. ``tell``: says something to all of them."""

    def __init__(
        self,
        room_id: str,
        everybody: Mapping[str, Participant],
        *,
        private: bool,
        tell: Callable[[ServerMessage], None],
    ) -> None:
        self.egress: Tap | None = None
        """As long as somebody reads this room's media."""
        self._room_id = room_id
        self._everybody = everybody
        self._private = private
        self._tell = tell
        self._permission = Permission()

    @property
    def readable(self) -> bool:
        """Whether this room's media may leave it: anybody may watch it, or both its parties agreed."""
        return not self._private or bool(self._permission.recording_id)

    def tap(self) -> Tap:
        """What hands out this room's media; it ends with its last reader."""
        if self.egress is None:
            self.egress = Tap(self._room_id, self._untapped)
            for participant in self._everybody.values():
                for track_id, watch in participant.watches.items():
                    track = participant.peer.published.get(track_id)
                    if track is not None:
                        self.egress.published(track, participant.display_name, watch.announced)
        return self.egress

    def _untapped(self) -> None:
        self.egress = None

    # --- whether a private one may be recorded

    def bring_to(self, spec: RoomSpec) -> None:
        """What is wished now, which may be news of a while ago."""
        if spec.recording_id:
            self.permit(spec.recording_id, spec.recording_epoch)
        elif not self._permission.is_younger(spec.recording_epoch) and self._permission.recording_id:
            # That it was taken back may have been lost on the way. What may not yet, may later.
            self.stop()

    def permit(self, recording_id: str, epoch: int) -> bool:
        """Let the media be read, and have both told before the first frame is. False once it was stopped."""
        if not self._private:
            return False
        if self._permission.give(recording_id, epoch):
            self._tell(self._permission.word)
        return self._permission.recording_id == recording_id

    def stop(self) -> None:
        """On return not one frame more is handed out, ever. Harmless to repeat, and before it began."""
        if not self._private or not self._permission.take():
            return
        if self.egress is not None:
            self.egress.close("RECORDING_STOPPED")
            self.egress = None
        self._tell(self._permission.word)

    def welcome(self, newcomer: Participant) -> None:
        """Whether it is being recorded somebody who comes hears at once."""
        if self._permission.recording_id:
            newcomer.send(self._permission.word)

    # --- what happens in the room

    def published(self, track: PublishedTrack, display_name: str) -> None:
        """A track is there that was not."""
        if self.egress is not None:
            self.egress.published(track, display_name, None)

    def withdrawn(self, track_id: str) -> None:
        """And is gone again."""
        if self.egress is not None:
            self.egress.withdrawn(track_id)

    def state(self, track_id: str, state: Announced) -> None:
        """Whether anything comes of it."""
        if self.egress is not None:
            self.egress.state(track_id, state)

    def tick(self) -> None:
        """As often as the room ticks."""
        if self.egress is not None:
            self.egress.tick()

    def suspend(self) -> None:
        """Readers come back, to wherever the room is then."""
        if self.egress is not None:
            self.egress.suspend()

    def close(self, reason: Reason) -> None:
        """The room ended."""
        if self.egress is not None:
            self.egress.close(reason)
