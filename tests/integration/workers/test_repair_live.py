"""Real processes: a media node that missed commands on a whole connection is brought to what is wished."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import outbox
from models.clock import utc_now
from models.db import Database
from models.messages.commands import OpenRoom, RoomSpec
from models.services import accounts
from models.streams import MediaNodeRow, RoomRow, StreamRow
from tests.conftest import MakeHouse


def test_differences_are_repaired_without_a_restart(
    make_house: MakeHouse, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    house = make_house(names=("media", "worker", "clock"))
    database = Database(f"sqlite:///{house.var / 'greenroom.db'}")
    eventually(lambda: _node(database) is not None)
    node = _node(database)
    assert node is not None
    boot_id = node.boot_id

    # given a room that the node has and nobody wants, and one that is wanted and that it never heard of
    def differ(tx: Session) -> None:
        now = utc_now()
        ghost = RoomSpec(room_id="live-ghost", creator_id="usr_nobody")
        outbox.command(
            tx,
            "media-1",
            OpenRoom(message_id="msg_ghost", cause_id="test", deadline_at=now.timestamp() + 60, room=ghost),
        )
        creator = accounts.create_person(
            tx,
            email="c@people.test",
            handle="creator_z",
            display_name="C",
            password_hash="x",
            roles=("creator",),
            now=now,
        )
        long_ago = now - timedelta(minutes=1)
        tx.add(
            StreamRow(
                id="str_1",
                creator_id=creator.user_id,
                room_id="live-str_1",
                title="",
                status="live",
                started_at=long_ago,
                creator_heard_at=now,
            )
        )
        tx.add(
            RoomRow(
                id="live-str_1",
                node_id="media-1",
                kind="live",
                creator_id=creator.user_id,
                status="opening",
                created_at=long_ago,
            )
        )

    database.run(differ)
    log = house.children["media"].log
    eventually(lambda: "room_opened room_id=live-ghost" in log.read_text())
    # then the next report closes the one and opens the other, in the same life of the node
    eventually(lambda: "room_closed room_id=live-ghost" in log.read_text())
    eventually(lambda: _status(database) == "open")
    node = _node(database)
    assert node is not None
    assert node.boot_id == boot_id
    database.close()
    house.stop()


def _node(database: Database) -> MediaNodeRow | None:
    with database.reading() as tx:
        return tx.scalar(select(MediaNodeRow))


def _status(database: Database) -> str | None:
    with database.reading() as tx:
        return tx.scalar(select(RoomRow.status).where(RoomRow.id == "live-str_1"))
