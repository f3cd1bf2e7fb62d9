"""One ffmpeg for the whole ladder: raw picture and sound in by pipes, fragmented MP4 of every rung out by pipes.

Built with ffmpeg-python, started by ourselves: in a session of its own, ended by the kernel when the
thread that started it ends. Knows nothing of rooms, slots or files. ``film`` is one whose output is a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import ffmpeg

from models.ladder import (
    AUDIO,
    AUDIO_KBPS,
    FRAMES_PER_SECOND,
    HEIGHT,
    RUNGS,
    SAMPLES_PER_SECOND,
    SLOT_SECONDS,
    WIDTH,
)
from workers.transcode import surroundings

VIDEO_TIMESCALE = 90_000
KEY_EVERY = FRAMES_PER_SECOND * SLOT_SECONDS
AAC_PRIMING_SAMPLES = 1024
"""ffmpeg's AAC encoder delays by one frame. Whoever feeds it starts that much later in the sound, so that
sound and picture agree without an edit list, which not every player reads."""
QUEUED_TICKS = 10
"""A third of a second; more than that behind, and pictures are left out instead of getting old."""
STOP_SECONDS = 5.0
PICTURE_BYTES = 1024 * 1024
"""Most of a picture."""
OUTPUT_BYTES = 256 * 1024
"""A key frame and what is written while the reader waits for more."""

Buffers = Sequence[bytes | memoryview]
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Ends(NamedTuple):
    """The pipe ends that ffmpeg holds."""

    picture: int
    sound: int
    outputs: dict[str, int]


class Encoder:
    """A running ffmpeg. Start it from a thread that lives as long as it should."""

    def __init__(self, command: Callable[[Ends], list[str]], names: Sequence[str] = ()) -> None:
        """``command`` gives its command line; it writes a pipe for each of ``names``."""
        picture_read, self._picture = os.pipe()
        sound_read, self._sound = os.pipe()
        pipes = {name: os.pipe() for name in names}
        self.outputs = {name: read for name, (read, _) in pipes.items()}
        """Where each stream is read."""
        ends = Ends(picture_read, sound_read, {name: write for name, (_, write) in pipes.items()})
        held = (ends.picture, ends.sound, *ends.outputs.values())
        _widen(self._picture, PICTURE_BYTES)
        for fd in self.outputs.values():
            _widen(fd, OUTPUT_BYTES)
        self.process = subprocess.Popen(
            command(ends),
            stdin=subprocess.DEVNULL,
            pass_fds=held,
            env=surroundings.for_children(),
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        for fd in held:
            os.close(fd)
        self._pictures: queue.Queue[Buffers | None] = queue.Queue(QUEUED_TICKS)
        self._sounds: queue.Queue[Buffers | None] = queue.Queue(QUEUED_TICKS + 2)
        self._writers = [
            threading.Thread(target=_write, args=(self._pictures, self._picture), name="pictures", daemon=True),
            threading.Thread(target=_write, args=(self._sounds, self._sound), name="sounds", daemon=True),
        ]
        for writer in self._writers:
            writer.start()

    def offer(self, picture: Buffers, sound: bytes) -> bool:
        """One tick's picture (planar 4:2:0) and sound; False if the encoders are behind and it was not taken."""
        if self._pictures.full() or self._sounds.full():
            return False
        self.put(picture, sound)
        return True

    def put(self, picture: Buffers, sound: bytes) -> None:
        """The same, waiting until it is taken: for who has no clock to keep up with."""
        self._pictures.put(picture)
        self._sounds.put((sound,))

    def end_input(self) -> None:
        """Let the encoders finish what they have; their outputs end by themselves. Ends them if they hang."""
        try:
            for items in (self._pictures, self._sounds):
                items.put(None, timeout=STOP_SECONDS)
            for writer in self._writers:
                writer.join(STOP_SECONDS)
        except queue.Full:
            self.process.kill()

    def stop(self) -> int:
        """Wait a little for ffmpeg to end, then end it; its exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(STOP_SECONDS)
        self.process.kill()
        return self.process.wait()


class Ladder(Encoder):
    """All rungs at once."""

    def __init__(self, preset: str) -> None:
        super().__init__(partial(arguments, preset), (*(rung.name for rung in RUNGS), AUDIO))


def inputs(ends: Ends) -> tuple[Any, Any]:
    """The two pipes that are written to: picture and sound, as ffmpeg-python's streams."""
    picture = ffmpeg.input(
        f"pipe:{ends.picture}",
        f="rawvideo",
        pix_fmt="yuv420p",
        s=f"{WIDTH}x{HEIGHT}",
        framerate=FRAMES_PER_SECOND,
        probesize=32,
        analyzeduration=0,
        thread_queue_size=4,
    )
    sound = ffmpeg.input(
        f"pipe:{ends.sound}",
        f="s16le",
        ar=SAMPLES_PER_SECOND,
        ac=2,
        probesize=32,
        analyzeduration=0,
        thread_queue_size=32,
    )
    return picture.video, sound.audio


def command_line(*outputs: Any) -> list[str]:
    """What starts ffmpeg with these outputs."""
    command = ffmpeg.merge_outputs(*outputs).global_args(
        "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-filter_complex_threads", "1"
    )
    return list(ffmpeg.compile(command))


def arguments(preset: str, ends: Ends) -> list[str]:
    """ffmpeg's command line, built with ffmpeg-python."""
    picture, sound = inputs(ends)
    copies = picture.filter_multi_output("split", len(RUNGS))
    outputs = []
    for index, rung in enumerate(RUNGS):
        scaled = copies[index]
        if (rung.width, rung.height) != (WIDTH, HEIGHT):
            scaled = scaled.filter("scale", rung.width, rung.height, flags="fast_bilinear")
        # The shape on the screen, not of a pixel: 854 is not 480 × 16 / 9, and DASH wants one shape.
        scaled = scaled.filter("setdar", "16/9")
        options = {**picture_options(preset, rung.kbps), **_CONTAINER}
        outputs.append(ffmpeg.output(scaled, f"pipe:{ends.outputs[rung.name]}", **options))
    outputs.append(ffmpeg.output(sound, f"pipe:{ends.outputs[AUDIO]}", **SOUND_OPTIONS, **_CONTAINER))
    return command_line(*outputs)


SOUND_OPTIONS: dict[str, str | int] = {"c:a": "aac", "b:a": f"{AUDIO_KBPS}k"}
_CONTAINER: dict[str, str | int] = {
    "f": "mp4",
    # A fragment per sample: nothing waits in the muxer, and the packager cuts where it wants.
    "movflags": "empty_moov+default_base_moof+frag_every_frame+skip_trailer",
    "use_editlist": 0,
    "flush_packets": 1,
    "map_metadata": -1,
    "fflags": "+bitexact",
}


def picture_options(preset: str, kbps: int) -> dict[str, str | int]:
    """How a picture is encoded: a key frame every two seconds, nothing held back."""
    return {
        "c:v": "libx264",
        "preset": preset,
        "profile:v": "main",
        "g": KEY_EVERY,
        "keyint_min": KEY_EVERY,
        "sc_threshold": 0,
        "force_key_frames": f"expr:gte(t,n_forced*{SLOT_SECONDS})",
        "bf": 0,
        "b:v": f"{kbps}k",
        "maxrate": f"{kbps * 107 // 100}k",
        "bufsize": f"{kbps}k",
        # No look-ahead, and one thread each: three encoders share the machine with other rooms' anyway,
        # and frame threads would hold pictures back.
        "x264-params": "rc-lookahead=0:sync-lookahead=0:sliced-threads=0:threads=1",
        "video_track_timescale": VIDEO_TIMESCALE,
    }


def _end_with_parent() -> None:
    """In the new process: die when the thread that started it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _widen(fd: int, size: int) -> None:
    """A pipe that holds ``size`` bytes, so that both sides wake less often; as it was where that is refused."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)


def _write(items: queue.Queue[Buffers | None], fd: int) -> None:
    """Write what is queued until None; a reader that is gone ends it, and takes what comes after."""
    broken = False
    while (item := items.get()) is not None:
        if broken:
            continue
        try:
            _write_all(fd, [memoryview(buffer).cast("B") for buffer in item])
        except OSError:
            broken = True
    os.close(fd)


def _write_all(fd: int, views: list[memoryview]) -> None:
    while views:
        written = os.writev(fd, views)
        while views and written >= len(views[0]):
            written -= len(views[0])
            del views[0]
        if views and written:
            views[0] = views[0][written:]
