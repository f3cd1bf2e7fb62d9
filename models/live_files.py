"""How a broadcast's files are served: of what kind, for how long they are kept, and where object storage has them.

Shared by who serves them and by who puts them into object storage (nginx has the same in deploy/nginx).
``stored_at`` reads one small file, which a transcode worker wrote there (``workers.transcode.upload``): an address
that works without asking anybody, for whoever has it, for a short while. Whoever reads it needs no credentials.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import msgspec

STORED = "stored"
"""Directory below HLS_DIR: for each file that object storage has, one of the same name with its address there."""
ADDRESS_SECONDS = 120
"""How long such an address works: as long as a signed address of ours at a CDN that checks nothing."""
USABLE_SECONDS = 60.0
"""How old it may be when it is handed out: whoever gets it has this long to use it."""
KINDS = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".mp4": "video/mp4",
    ".m4s": "video/iso.segment",
    ".jpg": "image/jpeg",
    ".vtt": "text/vtt",
}
# A playlist is another one two seconds later; a segment never changes.
_FRESH, _FOR_GOOD = "public, max-age=1", "public, max-age=3600, immutable"
_PART = re.compile(r"\.p[0-9]+\.m4s$")


class Condition(msgspec.Struct, kw_only=True):
    """How one transcode worker finds the object storage, for metrics; ``at``: Unix seconds."""

    worker: str = ""
    up: bool = True
    failures: int = 0
    """Rounds that something went wrong in."""
    objects: int = 0
    """Put since the worker began."""
    removed: int = 0
    at: float = 0.0


def kind(name: str) -> str:
    """The Content-Type of ``name``; raises KeyError for what is not served."""
    return KINDS[PurePosixPath(name).suffix]


def cache_control(name: str) -> str:
    """For how long whoever is between us and a viewer may keep ``name``."""
    return _FOR_GOOD if never_changes(name) else _FRESH


def never_changes(name: str) -> bool:
    """Whether ``name`` always has the same bytes: init segments, segments and parts."""
    return name.endswith((".mp4", ".m4s"))


def is_part(name: str) -> bool:
    """Whether ``name`` is a part of a segment: there for seconds, and on disk alone."""
    return _PART.search(name) is not None


def stored_at(hls_dir: Path, broadcast_id: str, name: str, now: float) -> str | None:
    """Where object storage has a file that never changes; None: serve it from disk. ``now`` is Unix seconds."""
    path = hls_dir / STORED / broadcast_id / name
    try:
        if now - path.stat().st_mtime > USABLE_SECONDS:
            return None
        return path.read_text()
    except OSError:
        return None


def condition_name(worker_id: str) -> str:
    """The file in STORED that has a worker's Condition."""
    return f"worker-{re.sub(r'[^A-Za-z0-9_.-]', '_', worker_id)}.json"


def conditions(hls_dir: Path) -> list[Condition]:
    """What each worker said last; none where there is no object storage."""
    found = []
    for path in sorted((hls_dir / STORED).glob("worker-*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Condition))
        except (FileNotFoundError, msgspec.DecodeError):
            continue
    return found
