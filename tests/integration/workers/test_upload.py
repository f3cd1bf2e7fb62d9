"""A worker's broadcasts in object storage: whole, in order, gone when they should be, in nobody's way."""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update
from stage import Stage

from models import live_files
from models.broadcasts import BroadcastRow
from models.clock import utc_now
from models.config import load_settings
from models.db import Database
from models.ladder import RENDITIONS, TIERS, manifest_name, master_name
from models.live_files import STORED
from tests.fakes.s3_server import BUCKET, KEY_ID, SECRET, S3Server
from workers.transcode.objects import Bucket
from workers.transcode.segments import part_name, segment_name
from workers.transcode.supervisor import CHILD_FILE, Mark
from workers.transcode.upload import Mirror

MINE, THEIRS = "brd_a", "brd_b"
SECRETS = {"SECRET_KEY": "x" * 32, "TESTING": "1"}


@pytest.fixture
def storage() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hls"


class Disk:
    """What a child has written of one broadcast."""

    def __init__(self, root: Path, broadcast_id: str, worker_id: str = "worker_1") -> None:
        self.path = root / broadcast_id
        self._slots: list[int] = []
        self.write(CHILD_FILE, msgspec.json.encode(Mark(worker_id=worker_id, pid=1, started=1)))
        for name in ("state.json", "epoch", "480p/.s00000_1.m4s.1.tmp"):
            self.write(name, b"nobody's business")

    def write(self, name: str, data: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(data)
        os.replace(temporary, path)

    def slot(self, slot: int, *, keep: int = 3) -> None:
        """One segment more on every rung, and what names it; of segments the last ``keep`` stay."""
        self._slots.append(slot)
        old, self._slots = self._slots[:-keep], self._slots[-keep:]
        if not (self.path / "storyboard_1.jpg").exists():
            self.write("storyboard_1.jpg", b"sprite")
        for rung in RENDITIONS:
            if not (self.path / rung / "init_1.mp4").exists():
                self.write(f"{rung}/init_1.mp4", b"init")
            self.write(f"{rung}/{part_name(slot, 1, 0)}", b"part")
            self.write(f"{rung}/{segment_name(slot, 1)}", b"segment %d" % slot)
            lines = ["#EXTM3U", '#EXT-X-MAP:URI="init_1.mp4"', "#EXT-X-GAP", "#EXTINF:2,", "s00000_0.m4s"]
            lines += [line for each in self._slots for line in ("#EXTINF:2.00000,", segment_name(each, 1))]
            self.write(f"{rung}/index.m3u8", "\n".join(lines).encode())
            for each in old:
                (self.path / rung / segment_name(each, 1)).unlink()
        for tier in TIERS:
            self.write(master_name(tier), b"master %d" % slot)
            self.write(manifest_name(tier), b"manifest %d" % slot)
        self.write("poster.jpg", b"poster %d" % slot)
        self.write("storyboard.vtt", b"WEBVTT %d" % slot)


def mirror_of(
    db: Database, root: Path, storage: S3Server, *, cdn: bool = False, worker: str = "worker_1"
) -> Mirror:
    settings = load_settings(SECRETS | storage.environment)
    return Mirror(db, Bucket(settings, 4), root=root, worker_id=worker, hand_out_addresses=not cdn)


@pytest.fixture
def mirror(db: Database, root: Path, storage: S3Server) -> Iterator[Mirror]:
    made = mirror_of(db, root, storage)
    yield made
    made.close()


@pytest.fixture
def on_air(db: Database) -> None:
    """Two broadcasts."""
    stage = Stage(db)
    stage.node_ready()
    for broadcast_id in (MINE, THEIRS):
        creator, stream = stage.live()
        row = BroadcastRow(id=broadcast_id, room_id=stream.room_id, creator_id=creator.user_id, status="live",
                           wanted_at=utc_now(), epoch=1)  # fmt: skip
        db.run(lambda tx, row=row: tx.add(row))


@pytest.fixture
def disk(on_air: None, root: Path) -> Disk:
    return Disk(root, MINE)


def fetch(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def address_of(root: Path, name: str) -> str | None:
    return live_files.stored_at(root, MINE, name, utc_now().timestamp())


def test_what_is_served_is_there_and_nothing_else(mirror: Mirror, disk: Disk, storage: S3Server) -> None:
    disk.slot(1)
    mirror.step()
    media = [f"{rung}/{name}" for rung in RENDITIONS for name in ("init_1.mp4", "s00001_1.m4s", "index.m3u8")]
    tops = [name(tier) for tier in TIERS for name in (master_name, manifest_name)]
    wanted = {f"{MINE}/{name}" for name in (*media, *tops, "poster.jpg", "storyboard.vtt", "storyboard_1.jpg")}
    assert storage.names() == wanted
    assert storage.read(f"{MINE}/480p/s00001_1.m4s") == b"segment 1"
    # then each says what it is and how long it may be kept
    for name, kind, kept in (
        ("480p/s00001_1.m4s", "video/iso.segment", "public, max-age=3600, immutable"),
        ("480p/init_1.mp4", "video/mp4", "public, max-age=3600, immutable"),
        ("480p/index.m3u8", "application/vnd.apple.mpegurl", "public, max-age=1"),
        ("manifest.free.mpd", "application/dash+xml", "public, max-age=1"),
        ("poster.jpg", "image/jpeg", "public, max-age=1"),
    ):
        about = storage.client.stat_object(BUCKET, f"{MINE}/{name}")
        assert (about.content_type, (about.metadata or {})["Cache-Control"]) == (kind, kept), name


def test_what_is_named_comes_before_what_names_it(mirror: Mirror, disk: Disk, storage: S3Server) -> None:
    for slot in (1, 2):
        disk.slot(slot)
        storage.requests.clear()
        mirror.step()
        order = {name.removeprefix(f"{MINE}/"): index for index, name in enumerate(storage.puts())}
        for rung in RENDITIONS:
            assert order[f"{rung}/s{slot:05d}_1.m4s"] < order[f"{rung}/index.m3u8"] < order["master.free.m3u8"]
        assert order["poster.jpg"] < order["storyboard.vtt"]
    # and what is there already is not put again
    assert not [name for name in order if "init" in name or "s00001" in name or "storyboard_1" in name]
    storage.requests.clear()
    mirror.step()
    assert storage.puts() == []


def test_what_left_the_disk_leaves_the_bucket(mirror: Mirror, disk: Disk, root: Path, storage: S3Server) -> None:
    for slot in range(1, 6):
        disk.slot(slot, keep=3)
        mirror.step()
    kept = {name.rpartition("/")[2] for name in storage.names() if name.startswith(f"{MINE}/480p/s")}
    assert kept == {"s00003_1.m4s", "s00004_1.m4s", "s00005_1.m4s"}
    assert {path.name for path in (root / STORED / MINE / "480p").iterdir()} == kept | {"init_1.mp4"}


def test_a_strangers_name_in_the_bucket_is_no_path_here(
    mirror: Mirror, disk: Disk, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given names that would lead out of the directory, were they joined to it
    removed, replaced = root.parent / "removed.mp4", root.parent / "replaced.mp4"
    for path in (removed, replaced):
        path.write_bytes(b"ours")
    theirs = {f"{MINE}/../../../{removed.name}", f"{MINE}/{replaced}"}
    monkeypatch.setattr(Bucket, "names", lambda *_, below=True: theirs if below else set())
    disk.slot(1)
    mirror.step()
    assert [path.read_bytes() for path in (removed, replaced)] == [b"ours", b"ours"]


def test_an_ended_broadcast_leaves_whoever_put_it_there(
    db: Database, mirror: Mirror, disk: Disk, root: Path, storage: S3Server
) -> None:
    # given one of ours, and one of a worker that is no more
    disk.slot(1)
    mirror.step()
    other = mirror_of(db, root, storage, worker="worker_2")
    Disk(root, THEIRS, "worker_2").slot(1)
    other.step()
    other.close()
    assert {name.partition("/")[0] for name in storage.names()} == {MINE, THEIRS}
    # when one has ended some time ago, and the other a moment ago
    def end(broadcast_id: str, seconds: float) -> None:
        how = {"status": "ended", "ended_at": utc_now() - timedelta(seconds=seconds)}
        db.run(lambda tx: tx.execute(update(BroadcastRow).where(BroadcastRow.id == broadcast_id).values(**how)))

    end(THEIRS, 61)
    end(MINE, 30)
    mirror._sweep_at = 0.0
    mirror.step()
    assert {name.partition("/")[0] for name in storage.names()} == {MINE}
    # when its directory goes, too, then so does all of it, and who kept an address has nothing to play again
    kept = address_of(root, "480p/s00001_1.m4s") or ""
    assert fetch(kept) == 200
    end(MINE, 61)
    (disk.path / CHILD_FILE).unlink()
    mirror.step()
    assert storage.names() == set()
    assert fetch(kept) == 404
    assert not (root / STORED / MINE).exists()


def test_an_outage_costs_nothing_but_the_bucket(
    mirror: Mirror, disk: Disk, root: Path, storage: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    disk.slot(1)
    mirror.step()
    assert address_of(root, "480p/s00001_1.m4s")
    # when the bucket goes away for more segments than the disk keeps
    storage.down = True
    pauses = []
    for slot in range(2, 9):
        disk.slot(slot, keep=3)
        pauses.append(mirror.step())
    # then rounds become rare, nobody is sent there, and what there is to do stays as little as there is on disk
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15]
    assert address_of(root, "480p/init_1.mp4") is None
    [condition] = live_files.conditions(root)
    assert (condition.up, condition.failures, condition.worker) == (False, 7, "worker_1")
    # when it is back, then so is the present, and the past is not made up for
    storage.down = False
    storage.requests.clear()
    assert mirror.step() < 1
    media = sorted(name for name in storage.puts() if "/480p/s" in name)
    assert media == [f"{MINE}/480p/s0000{slot}_1.m4s" for slot in (6, 7, 8)]
    assert storage.names() >= set(media)
    assert not [name for name in storage.names() if "s00001" in name]
    assert storage.read(f"{MINE}/480p/index.m3u8") == (disk.path / "480p" / "index.m3u8").read_bytes()
    assert address_of(root, "480p/s00008_1.m4s")
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if text.startswith("storage_")] == [
        "storage_lost error=ServiceUnavailable",
        "storage_back failures=7",
    ]
    for secret in (SECRET, KEY_ID, "X-Amz", "Signature"):
        assert not [text for text in said if secret in text], secret


def test_a_bucket_that_refuses_us_or_is_nowhere_is_said_by_its_kind(
    db: Database, root: Path, disk: Disk, storage: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    disk.slot(1)
    free_port = storage.endpoint.rpartition(":")[0] + ":9"
    for wrong in ({"S3_SECRET_ACCESS_KEY": "another"}, {"S3_BUCKET": "nobodys"}, {"S3_ENDPOINT": free_port}):
        settings = load_settings(SECRETS | storage.environment | wrong)
        mirror = Mirror(db, Bucket(settings, 4), root=root, worker_id="worker_1", hand_out_addresses=True)
        assert mirror.step() == 0.5
        mirror.close()
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("storage_lost")]
    kinds = ("AccessDenied", "NoSuchBucket", "NewConnectionError")
    assert said == [f"storage_lost error={kind}" for kind in kinds]


def test_another_life_goes_on_with_what_is_there(
    db: Database, mirror: Mirror, disk: Disk, root: Path, storage: S3Server
) -> None:
    disk.slot(1)
    mirror.step()
    # when the worker is killed, and segments come and go before its next life
    for slot in range(2, 6):
        disk.slot(slot, keep=3)
    storage.requests.clear()
    again = mirror_of(db, root, storage)
    again.step()
    again.close()
    assert not [name for name in storage.puts() if "init" in name]
    kept = {name.rpartition("/")[2] for name in storage.names() if name.startswith(f"{MINE}/480p/s")}
    assert kept == {"s00003_1.m4s", "s00004_1.m4s", "s00005_1.m4s"}


def test_the_bucket_is_private_and_its_addresses_end(
    mirror: Mirror, disk: Disk, root: Path, storage: S3Server
) -> None:
    disk.slot(1)
    mirror.step()
    good = {name: address_of(root, f"480p/{name}") or "" for name in ("init_1.mp4", "s00001_1.m4s")}
    assert [fetch(address) for address in good.values()] == [200, 200]
    # given nothing but names, then there is nothing: not of any kind
    for name in sorted(storage.names()):
        assert fetch(f"{storage.endpoint}/{BUCKET}/{name}") == 403, name
    assert fetch(f"{storage.endpoint}/{BUCKET}?list-type=2") == 403
    # an address is for one file, and nobody but a worker makes one
    segment = good["s00001_1.m4s"]
    signature = segment.rpartition("=")[2]
    for wrong in (
        segment.replace("s00001", "s00002"),
        segment.replace("/480p/", "/720p/"),
        segment.replace(MINE, THEIRS),
        segment.replace("X-Amz-Expires=120", "X-Amz-Expires=9999"),
        segment.replace(signature, signature[::-1]),
        segment.partition("?")[0],
    ):
        assert fetch(wrong) == 403, wrong
    # playlists and pictures have none: who may see them is asked each time
    handed = {path.name for path in (root / STORED / MINE).rglob("*") if path.is_file()}
    assert handed == {"init_1.mp4", "s00001_1.m4s"}
    # and it ends by itself
    assert "X-Amz-Expires=120" in segment
    storage.later = timedelta(seconds=121)
    assert fetch(segment) == 403


def test_addresses_are_made_anew_before_they_end(
    mirror: Mirror, disk: Disk, root: Path, storage: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.slot(1)
    mirror.step()
    marker = root / STORED / MINE / "480p" / "init_1.mp4"
    os.utime(marker, (1, 1))
    # then one that is too old to be used by whoever gets it now is not handed out
    assert address_of(root, "480p/init_1.mp4") is None
    mirror._broadcasts[MINE].addressed["480p/init_1.mp4"] -= 31
    mirror.step()
    assert fetch(address_of(root, "480p/init_1.mp4") or "") == 200


def test_with_a_cdn_nobody_is_handed_an_address(db: Database, disk: Disk, root: Path, storage: S3Server) -> None:
    disk.slot(1)
    mirror = mirror_of(db, root, storage, cdn=True)
    mirror.step()
    mirror.close()
    assert f"{MINE}/480p/s00001_1.m4s" in storage.names()
    assert not (root / STORED / MINE).exists()


def test_a_worker_that_stops_sends_nobody_there_any_more(mirror: Mirror, disk: Disk, root: Path) -> None:
    disk.slot(1)
    mirror.step()
    mirror.close()
    assert address_of(root, "480p/init_1.mp4") is None
