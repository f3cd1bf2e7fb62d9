"""The media node as it is, which on SIGUSR1 no longer asks publishers for what was lost: what repair is worth."""

from __future__ import annotations

import runpy
import signal
from collections.abc import Iterable

from media import rtp


def _never(ssrc: int, media: int, sequences: Iterable[int]) -> bytes:
    return b""


def _stop(*_signal: object) -> None:
    rtp.negative_ack = _never


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _stop)
    runpy.run_module("media", run_name="__main__")
