"""A stream that is broadcast, with files for /live to serve; and the way to a viewer's own address."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from flask.testing import FlaskClient
from sqlalchemy import update
from web_people import Someone

from models.broadcasts import BroadcastRow
from models.clock import utc_now
from models.db import Database
from models.services import broadcasts
from models.services.streams import StreamView

FILES = (
    "720p/index.m3u8",
    "480p/index.m3u8",
    "480p/init_1.mp4",
    "480p/s00001_1.m4s",
    "480p/s00002_1.p0.m4s",
    "audio/index.m3u8",
    "poster.jpg",
    "storyboard.vtt",
    "storyboard_1.jpg",
)


def pictures_are_made(database: Database) -> None:
    """As if a transcode worker were at all that is broadcast, for the rest of the day."""
    made = {"status": "live", "lease_until": utc_now() + timedelta(days=1)}
    database.run(lambda tx: tx.execute(update(BroadcastRow).values(made)))


class OnAir:
    """A creator whose stream is broadcast, with files on disk."""

    def __init__(self, creator: Someone, stream: StreamView, database: Database, root: Path) -> None:
        self.creator, self.stream = creator, stream
        database.run(lambda tx: broadcasts.want(tx, stream.room_id, utc_now()))
        with database.reading() as tx:
            row = tx.scalars(broadcasts.open_of(stream.room_id)).one()
            self.broadcast_id = row.id
        self.directory = root / self.broadcast_id
        for name in (*FILES, "master.free.m3u8", "master.premium.m3u8", "manifest.free.mpd", "state.json"):
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"this is {name}")


def watch(client: FlaskClient, on_air: OnAir, viewer: Someone | None = None) -> str:
    """The signed prefix that the plain address leads to."""
    headers = viewer.headers() if viewer else {}
    answer = client.get(f"/live/{on_air.stream.room_id}/master.m3u8", headers=headers)
    assert answer.status_code == 302, answer.get_data(as_text=True)
    assert answer.headers["Cache-Control"] == "no-store"
    prefix, name = answer.headers["Location"].rsplit("/", 1)
    assert name == "master.m3u8"
    return prefix
