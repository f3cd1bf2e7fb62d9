"""No list asks the database more for more rows: every page and every API list, with few rows and with many."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flask.testing import FlaskClient
from many_rows import ManyRows, one_of_each, statements
from web_people import People, Someone

from models.clock import utc_now

FEW, MANY = 3, 30
ANYBODY = ("/", "/models", "/models/{star}", "/models/{star}/times", "/api/streaming/streams")
BOTH_SIDES = (
    "/wallet",
    "/wallet?part=figures",
    "/history",
    "/bookings",
    "/account",
    "/api/wallet/statement",
    "/api/wallet/purchases",
    "/api/streaming/bookings",
    "/api/streaming/subscriptions",
    "/api/streaming/slots/{star_id}",
    "/api/streaming/streams/{stream}/tips",
)
OF_THE_STAR = (
    "/studio",
    "/studio?part=state",
    "/studio?part=requests",
    "/studio?part=earnings",
    "/history/{session}",
    "/api/streaming/private-requests",
    "/api/streaming/blocks",
    "/api/streaming/subscribers",
    "/api/earnings",
    "/api/earnings/analytics",
    "/api/earnings/statement",
    "/api/receipts/export",
)
OF_ADMINS = (
    "/admin",
    "/admin/dead-letters",
    "/admin/rooms",
    "/admin/sessions",
    "/admin/ledger",
    "/admin/ledger?q={patron}",
    "/admin/payments",
    "/admin/payments/{purchase}",
    "/admin/complaints",
    "/admin/people",
    "/admin/people/{patron}",
    "/admin/integrators",
    "/admin/acts",
    "/admin/trace?q={session}",
    "/api/admin/queues",
    "/api/admin/dead-letters",
    "/api/admin/acts",
    "/api/admin/trace/{session}",
)


@pytest.fixture
def world(people: People) -> ManyRows:
    return ManyRows(people, utc_now())


def asked(client: FlaskClient, world: ManyRows, who: Someone, paths: Iterable[str]) -> dict[str, int]:
    """Path → how many statements its answer takes."""
    names, counts = one_of_each(world), {}
    for path in paths:
        with statements(world.people.database) as sent:
            answer = client.get(path.format(**names), headers=who.headers())
            body = answer.get_data(as_text=True)
        assert answer.status_code == 200, (path, body)
        counts[path] = len(sent)
    return counts


def test_more_rows_are_no_more_questions(client: FlaskClient, people: People, world: ManyRows) -> None:
    looks = [
        (people.signed_in(world.patron.user_id), (*ANYBODY, *BOTH_SIDES)),
        (people.signed_in(world.star.user_id), (*BOTH_SIDES, *OF_THE_STAR)),
        (people.signed_in(world.admin.user_id), OF_ADMINS),
    ]
    # given few rows of everything
    world.fill(0, FEW)
    few = [asked(client, world, who, paths) for who, paths in looks]
    # when there are ten times as many
    world.fill(FEW, MANY)
    many = [asked(client, world, who, paths) for who, paths in looks]
    # then each page and each list asks the database as often as before
    assert many == few
