"""What one publish connection carries: tracks by m-line, and how its packets are told apart.

Made anew from every offer of the client; a track lives as long as its m-line says the same. Knows no connection,
no packet, and nobody who watches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from media import sdp_media, sdp_rules
from media.aiortc_seam import Received
from media.forwarding import Bindings, Extensions, Ingress, Source
from media.layers import Layer
from media.tracks import Codec, Kind, PublishedTrack
from models.clock import monotonic_ms
from models.ids import new_id


class Publication:
    """One participant's tracks."""

    def __init__(self, user_id: str, ask_keyframe: Callable[[Layer], None]) -> None:
        self.tracks: dict[str, PublishedTrack] = {}
        """By track id."""
        self._user_id = user_id
        self._ask_keyframe = ask_keyframe
        self._by_mid: dict[str, PublishedTrack] = {}
        self._bindings = Bindings({}, {}, Extensions())

    def take(self, received: list[Received], sdp: str, transport_cc: int) -> None:
        """Bring the tracks up to the latest offer: its m-lines, its text, the id of its transport-wide numbers."""
        announced: dict[int, Source] = {}
        by_type: dict[int, list[Source]] = {}
        for mid in set(self._by_mid) - {line.mid for line in received}:
            self._withdraw(mid)
        for line in received:
            track = self._by_mid.get(line.mid)
            if track is not None and not _is_of(track, line):
                self._withdraw(line.mid)
                track = None
            if track is None:
                track = self._new_track(line)
            track.repeats = line.kind == "video" or line.repeats
            for layer, encoding in zip(track.layers, line.layers, strict=True):
                source = Source(track, layer, line.mid, retransmission=False)
                by_type.setdefault(line.payload_type, []).append(source)
                if encoding.ssrc is not None:
                    announced[encoding.ssrc] = source
                    layer.ssrc = encoding.ssrc
                if line.retransmission_type is None:
                    continue
                source = Source(track, layer, line.mid, retransmission=True)
                by_type.setdefault(line.retransmission_type, []).append(source)
                if encoding.repair_ssrc is not None:
                    announced[encoding.repair_ssrc] = source
        self._bindings = Bindings(announced, by_type, _extensions(sdp, transport_cc))
        level_id = sdp_rules.extension_id(sdp, sdp_rules.AUDIO_LEVEL_URI)
        for track in self.tracks.values():
            track.level_id = level_id if track.kind == "audio" else 0

    def bind(self, ingress: Ingress) -> None:
        """From now on its packets are these tracks'."""
        ingress.bind(list(self._by_mid.values()), self._bindings)

    def withdraw(self) -> None:
        """Every track leaves every slot that it is in."""
        for mid in tuple(self._by_mid):
            self._withdraw(mid)

    def _new_track(self, line: Received) -> PublishedTrack:
        track = PublishedTrack(
            track_id=new_id("trk"),
            user_id=self._user_id,
            kind=cast(Kind, line.kind),
            codec=cast(Codec, line.codec),
            clock_rate=line.clock_rate,
            rids=[encoding.rid for encoding in line.layers],
            ask_keyframe=self._ask_keyframe,
        )
        self._by_mid[line.mid] = track
        self.tracks[track.track_id] = track
        return track

    def _withdraw(self, mid: str) -> None:
        track = self._by_mid.pop(mid)
        self.tracks.pop(track.track_id, None)
        track.close(monotonic_ms())


def _extensions(sdp: str, transport_cc: int) -> Extensions:
    """Which header extensions this offer has under which ids."""
    uris = (sdp_media.MID_URI, sdp_media.RID_URI, sdp_media.REPAIRED_RID_URI)
    return Extensions(transport_cc, *(sdp_rules.extension_id(sdp, uri) for uri in uris))


def _is_of(track: PublishedTrack, line: Received) -> bool:
    """Whether an m-line goes on with the track that it had."""
    return track.codec == line.codec and [layer.rid for layer in track.layers] == [e.rid for e in line.layers]
