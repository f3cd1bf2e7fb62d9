"""One ffmpeg whose output is a file: a private stream's picture and sound as fragmented MP4.

A fragment every half second, so that whatever is killed leaves a file that plays up to there.
"""

from __future__ import annotations

from pathlib import Path

import ffmpeg

from models.ladder import RUNGS
from workers.transcode.ladder import SOUND_OPTIONS, Encoder, Ends, command_line, inputs, picture_options

FRAGMENT_US = 500_000
_CONTAINER: dict[str, str | int] = {
    "f": "mp4",
    "movflags": "empty_moov+default_base_moof+frag_keyframe+skip_trailer",
    "frag_duration": FRAGMENT_US,
    "use_editlist": 0,
    "flush_packets": 1,
    "map_metadata": -1,
    "fflags": "+bitexact",
}


class Film(Encoder):
    """Writes ``path``, which must not be there yet."""

    def __init__(self, preset: str, path: Path) -> None:
        super().__init__(lambda ends: arguments(preset, ends, path))


def arguments(preset: str, ends: Ends, path: Path) -> list[str]:
    """ffmpeg's command line: the composed picture as it is, H.264 and AAC."""
    picture, sound = inputs(ends)
    options = {**picture_options(preset, RUNGS[0].kbps), **SOUND_OPTIONS, **_CONTAINER}
    return command_line(ffmpeg.output(picture, sound, str(path), **options))
