"""Draining a media node from a shell, from the API and on the page of rooms."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from web_people import NODE, People, Someone

from models.clock import utc_now
from models.config import MEDIA_CAPACITY
from models.errors import Unavailable
from models.operations import AdminActRow
from models.services import placement
from models.streams import MediaNodeRow, RoomRow

WHY = {"reason": "A new kernel"}


def run(app: Flask, *words: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["nodes", *words])
    return result.exit_code, result.output


def post(client: FlaskClient, admin: Someone, what: str, node_id: str = NODE) -> tuple[int, str]:
    path = f"/api/admin/nodes/{node_id}/{what}"
    answer = client.post(path, headers=admin.headers(), json=WHY)
    return answer.status_code, (answer.json or {}).get("code", "")


def takes_rooms(people: People) -> bool:
    with people.database.reading() as tx:
        try:
            placement.pick_node(tx, "live", utc_now())
        except Unavailable:
            return False
        return True


def test_an_operator_drains_a_node_and_undoes_it(app: Flask, people: People) -> None:
    assert "No media node" in run(app, "list")[1]
    people.live(people.creator())
    assert run(app, "list") == (0, f"{NODE} ready 1 rooms 2/{MEDIA_CAPACITY}\n")
    assert run(app, "drain", NODE)[0] == 0
    assert run(app, "list") == (0, f"{NODE} draining 1 rooms 2/{MEDIA_CAPACITY}\n")
    assert not takes_rooms(people)
    assert run(app, "undrain", NODE)[0] == 0
    assert takes_rooms(people)
    assert run(app, "drain", "nobody") == (1, "Error: There is no such media node.\n")


def test_what_is_done_at_the_shell_is_recorded_by_who_is_there(
    app: Flask, client: FlaskClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.node()
    monkeypatch.setenv("SUDO_USER", "ada")
    assert run(app, "drain", NODE, "--reason", "A new kernel")[0] == 0
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "grace")
    assert run(app, "undrain", NODE)[0] == 0
    # but nothing that was refused, and nothing without a reason
    assert run(app, "drain", "nobody")[0] == 1
    assert run(app, "drain", NODE, "--reason", " ") == (1, "Error: A reason has 3 to 500 characters.\n")
    assert takes_rooms(people)
    admin = people.make("admin")
    answer = client.get("/api/admin/acts", headers=admin.headers()).json
    assert answer is not None
    said = ("adminId", "handle", "act", "subject", "reason")
    assert sorted(tuple(act[name] for name in said) for act in answer["acts"]) == [
        (None, "ada at the shell", "node_drained", NODE, "A new kernel"),
        (None, "grace at the shell", "node_undrained", NODE, "At the shell"),
    ]
    # and admins read it on their page
    assert "by ada at the shell" in client.get("/admin/acts", headers=admin.headers()).get_data(as_text=True)


def test_an_operator_forgets_a_node_that_is_gone_and_no_other(app: Flask, people: People) -> None:
    people.live(people.creator())
    assert run(app, "forget", "nobody") == (1, "Error: There is no such media node.\n")
    assert run(app, "forget", NODE) == (
        1, "Error: It has rooms; they end, or are moved to another node, first.\n"
    )  # fmt: skip
    people.database.run(lambda tx: tx.execute(update(RoomRow).values(status="closed")))
    assert run(app, "forget", NODE) == (1, "Error: It lives; stop it first.\n")
    people.database.run(lambda tx: tx.execute(update(MediaNodeRow).values(lost_at=utc_now())))
    assert run(app, "forget", NODE) == (0, f"{NODE} is forgotten.\n")
    assert "No media node" in run(app, "list")[1]


def test_an_admin_does_the_same_and_it_is_recorded(client: FlaskClient, people: People) -> None:
    admin = people.make("admin")
    people.node()
    assert post(client, admin, "drain", "nobody") == (404, "NOT_FOUND")
    assert post(client, admin, "drain")[0] < 300
    assert not takes_rooms(people)
    answer = client.get("/api/admin/nodes", headers=admin.headers()).json
    assert answer is not None
    [node] = answer["nodes"]
    assert (node["state"], node["draining"]) == ("draining", True)
    assert (node["load"], node["capacity"]) == (0, MEDIA_CAPACITY)
    assert post(client, admin, "undrain")[0] < 300
    assert takes_rooms(people)
    with people.database.reading() as tx:
        recorded = tx.execute(select(AdminActRow.act, AdminActRow.subject).order_by(AdminActRow.at)).all()
    assert [tuple(row) for row in recorded] == [("node_drained", NODE), ("node_undrained", NODE)]


def test_the_page_of_rooms_says_how_full_each_node_is(client: FlaskClient, people: People) -> None:
    admin = people.make("admin")
    people.live(people.creator())
    page = client.get("/admin/rooms", headers=admin.headers()).get_data(as_text=True)
    assert f"2 of {MEDIA_CAPACITY}" in page
    assert f"Drain: {NODE}" in page

    # and of one that does not answer, that
    def lose(tx: Session) -> None:
        node = tx.get_one(MediaNodeRow, NODE)
        node.lost_at, node.draining_at = node.seen_at, node.seen_at

    people.database.run(lose)
    page = client.get("/admin/rooms?part=1", headers=admin.headers()).get_data(as_text=True)
    assert "Does not answer" in page
    assert f"Undrain: {NODE}" in page
