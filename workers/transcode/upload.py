"""What is on disk of a broadcast, in object storage too: put there by a thread that nobody waits for.

The directory is the queue. Each round looks at what is there, puts what the bucket has not, first what playlists
name and then the playlists, and removes what has left the disk. However slow the bucket is or long away, there is
never more to do than a window of segments, and whoever writes the files does not know of this. Where the bucket
does not answer, rounds become rare, the addresses of what it has are taken back, and the disk serves on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from models import live_files, log
from models.clock import utc_now
from models.db import Database
from models.ladder import RENDITIONS, TIERS, manifest_name, master_name
from models.live_files import ADDRESS_SECONDS, STORED, USABLE_SECONDS, Condition
from models.services import broadcasts
from workers.transcode.objects import Bucket, Unreachable
from workers.transcode.supervisor import CHILD_FILE, KEEP_ENDED_SECONDS, Mark

ROUND_SECONDS = 0.2
CONNECTIONS = 8
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 15.0
SWEEP_SECONDS = 30.0
SAY_SECONDS = 5.0
RENEW_SECONDS = USABLE_SECONDS / 2
AS_IT_WAS = -1
"""The version of what an earlier life of this worker put there; only of files that never change."""
_NAMED = re.compile(r'^(?:#EXT-X-MAP:URI="([^"]+)"|([^#\s]\S*))', re.MULTILINE)
_OURS = re.compile(r"(?:[0-9a-z]{1,8}/)?[0-9A-Za-z_]+(?:\.[0-9A-Za-z_]+)+")
_PICTURE = re.compile(r"poster\.jpg|storyboard_[0-9_]{1,20}\.jpg")
_STORYBOARD = "storyboard.vtt"


class _File(NamedTuple):
    """A file as it was read: another one has another version."""

    name: str
    version: int
    data: bytes


class _Broadcast:
    """One broadcast: what the bucket has of it, by version."""

    def __init__(self, path: Path) -> None:
        self.path, self.id = path, path.name
        self.has: dict[str, int] = {}
        self.addressed: dict[str, float] = {}
        """When the address of a file was written, by the monotonic clock."""
        self.known = False

    def changed(self, *names: str) -> list[_File]:
        """Those of these files that are there and that the bucket has not, as they are now."""
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError), open(self.path / name, "rb") as file:
                version = os.fstat(file.fileno()).st_mtime_ns
                if self.has.get(name) not in (AS_IT_WAS, version):
                    found.append(_File(name, version, file.read()))
        return found

    def gone(self) -> list[str]:
        """What the bucket has and the disk no more."""
        return [name for name in self.has if not (self.path / name).exists()]

    def pictures(self) -> list[str]:
        """Posters and sprites that are there."""
        return [name for name in os.listdir(self.path) if _PICTURE.fullmatch(name)]


class Mirror:
    """All broadcasts that one worker writes. ``step`` is called in a loop, from one thread."""

    def __init__(
        self, db: Database, bucket: Bucket, *, root: Path, worker_id: str, hand_out_addresses: bool
    ) -> None:
        """``hand_out_addresses``: whoever serves may send viewers to the bucket; else a CDN reads it by itself."""
        self._db, self._bucket, self._root, self._worker_id = db, bucket, root, worker_id
        self._hands_out = hand_out_addresses
        self._pool = ThreadPoolExecutor(CONNECTIONS, "objects")
        self._broadcasts: dict[str, _Broadcast] = {}
        self._condition = Condition(worker=worker_id)
        self._backoff = FIRST_BACKOFF_SECONDS
        self._sweep_at = self._say_at = 0.0

    def step(self) -> float:
        """One round; seconds until the next."""
        try:
            self._round()
        except Unreachable as error:
            return self._lost(str(error))
        if not self._condition.up:
            log.event("storage_back", failures=self._condition.failures)
        self._condition.up = True
        self._backoff = FIRST_BACKOFF_SECONDS
        self._say()
        return ROUND_SECONDS

    def close(self) -> None:
        """Put nothing more, and send nobody there: nobody would renew the addresses."""
        self._take_back_addresses()
        self._pool.shutdown(cancel_futures=True)

    def _round(self) -> None:
        self._look()
        mine = list(self._broadcasts.values())
        for broadcast in mine:
            if not broadcast.known:
                self._learn(broadcast)
        lists = [(broadcast, *self._lists(broadcast)) for broadcast in mine]
        # Each kind after what it names: nobody who reads the bucket is led to what is not there yet.
        self._put((each, file) for each, _, playlists in lists for file in self._media(each, playlists))
        self._put((each, file) for each, _, playlists in lists for file in playlists)
        self._put((each, file) for each, tops, _ in lists for file in tops)
        self._put((each, file) for each in mine for file in each.changed(*each.pictures()))
        self._put((each, file) for each in mine for file in each.changed(_STORYBOARD))
        for broadcast in mine:
            self._remove(broadcast)
            self._renew_addresses(broadcast)
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
            self._sweep()

    def _look(self) -> None:
        """Which broadcasts this worker's children write."""
        found = {path.name: path for path in self._root.glob("brd_*") if self._is_mine(path)}
        for name in self._broadcasts.keys() - found.keys():
            del self._broadcasts[name]
            shutil.rmtree(self._root / STORED / name, ignore_errors=True)
            self._sweep_at = 0.0
        for name in found.keys() - self._broadcasts.keys():
            self._broadcasts[name] = _Broadcast(found[name])

    def _is_mine(self, path: Path) -> bool:
        try:
            mark = msgspec.json.decode((path / CHILD_FILE).read_bytes(), type=Mark)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return False
        return mark.worker_id == self._worker_id

    def _learn(self, broadcast: _Broadcast) -> None:
        """What an earlier life of this worker, or another worker, has put there."""
        start = f"{broadcast.id}/"
        for name in self._bucket.names(start):
            its_name = name.removeprefix(start)
            if _OURS.fullmatch(its_name) is None:
                # Not a name of ours: no file of this machine is to be called so.
                continue
            broadcast.has[its_name] = AS_IT_WAS if live_files.never_changes(its_name) else 0
        broadcast.known = True

    @staticmethod
    def _lists(broadcast: _Broadcast) -> tuple[list[_File], list[_File]]:
        """What changed of masters and manifests, and of playlists. Read in this order: what the first name, the
        second have."""
        tops = broadcast.changed(*(name(tier) for tier in TIERS for name in (master_name, manifest_name)))
        return tops, broadcast.changed(*(f"{rung}/index.m3u8" for rung in RENDITIONS))

    @staticmethod
    def _media(broadcast: _Broadcast, playlists: list[_File]) -> list[_File]:
        """What these playlists name and the bucket has not; a gap has no file."""
        named = [
            f"{playlist.name.partition('/')[0]}/{init or segment}"
            for playlist in playlists
            for init, segment in _NAMED.findall(playlist.data.decode())
        ]
        return broadcast.changed(*dict.fromkeys(named))

    def _put(self, files: Iterable[tuple[_Broadcast, _File]]) -> None:
        """Put them, several at a time. Raises Unreachable when one could not be; the others count all the same."""
        putting = [(*each, self._pool.submit(self._put_one, *each)) for each in files]
        failed: Unreachable | None = None
        for broadcast, file, future in putting:
            if failed is not None and future.cancel():
                continue
            try:
                future.result()
            except Unreachable as error:
                failed = error
            else:
                self._condition.objects += 1
                broadcast.has[file.name] = file.version
        if failed is not None:
            raise failed

    def _put_one(self, broadcast: _Broadcast, file: _File) -> None:
        name = f"{broadcast.id}/{file.name}"
        self._bucket.put(name, file.data, live_files.kind(file.name), live_files.cache_control(file.name))

    def _remove(self, broadcast: _Broadcast) -> None:
        gone = broadcast.gone()
        if not gone:
            return
        for name in gone:
            broadcast.addressed.pop(name, None)
            (self._root / STORED / broadcast.id / name).unlink(missing_ok=True)
        self._bucket.remove(f"{broadcast.id}/{name}" for name in gone)
        self._condition.removed += len(gone)
        for name in gone:
            del broadcast.has[name]

    def _sweep(self) -> None:
        """Remove broadcasts that ended a while ago, whoever put them there."""
        found = {name.rstrip("/") for name in self._bucket.names("brd_", below=False)}
        if not found:
            return
        with self._db.reading() as tx:
            keep = broadcasts.worth_keeping(tx, found, utc_now(), seconds=KEEP_ENDED_SECONDS)
        for broadcast_id in found - keep:
            names = self._bucket.names(f"{broadcast_id}/")
            self._bucket.remove(names)
            self._condition.removed += len(names)
            log.event("storage_removed", broadcast_id=broadcast_id, objects=len(names))

    # --- addresses ----------------------------------------------------------------------------------

    def _renew_addresses(self, broadcast: _Broadcast) -> None:
        """An address for each file that never changes, for whoever serves it to hand on."""
        if not self._hands_out:
            return
        now = time.monotonic()
        for name in broadcast.has:
            due = now - broadcast.addressed.get(name, -RENEW_SECONDS) >= RENEW_SECONDS
            if due and live_files.never_changes(name):
                address = self._bucket.address(f"{broadcast.id}/{name}", ADDRESS_SECONDS)
                _replace(self._root / STORED / broadcast.id / name, address.encode())
                broadcast.addressed[name] = now

    def _take_back_addresses(self) -> None:
        for broadcast in self._broadcasts.values():
            broadcast.addressed.clear()
            shutil.rmtree(self._root / STORED / broadcast.id, ignore_errors=True)

    # --- what is said -------------------------------------------------------------------------------

    def _lost(self, error: str) -> float:
        """The bucket did not do something: the disk serves alone, and we wait longer each time."""
        if self._condition.up:
            log.event("storage_lost", level=logging.WARNING, error=error)
        self._condition.up = False
        self._condition.failures += 1
        self._say_at = 0.0
        self._take_back_addresses()
        self._say()
        pause, self._backoff = self._backoff, min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
        return pause

    def _say(self) -> None:
        """For ``/metrics``, which another process answers."""
        if time.monotonic() < self._say_at:
            return
        self._say_at = time.monotonic() + SAY_SECONDS
        self._condition.at = time.time()
        path = self._root / STORED / live_files.condition_name(self._worker_id)
        _replace(path, msgspec.json.encode(self._condition))


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
