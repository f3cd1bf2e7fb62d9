"""People for the web app's tests: in the database, signed in, with tokens, on the air."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from models import ids, ledger
from models.clock import utc_now
from models.db import Database
from models.services import accounts, presence, streams
from models.services.accounts import Person
from models.services.streams import StreamView
from models.streams import MediaNodeRow

PASSWORD = "correct horse battery"
NODE = "media-1"
_numbers = itertools.count()


class Someone(msgspec.Struct):
    """A person with a bearer token."""

    person: Person
    token: str

    @property
    def user_id(self) -> str:
        return self.person.user_id

    @property
    def email(self) -> str:
        return f"{self.person.handle}@people.test"

    def headers(self, **more: str) -> dict[str, str]:
        """What this person's program sends."""
        return {"Authorization": f"Bearer {self.token}"} | {
            name.replace("_", "-").title(): value for name, value in more.items()
        }


def code_of(response: Any) -> tuple[int, str]:
    """Status and code of a refusal, which is a whole problem document (RFC 9457)."""
    assert response.content_type == "application/problem+json", response.get_data(as_text=True)
    assert response.json["status"] == response.status_code
    assert response.json["traceId"] == response.headers["X-Request-Id"]
    return response.status_code, response.json["code"]


class People:
    """Makes them."""

    def __init__(self, database: Database, password_hash: str) -> None:
        self.database = database
        self._hash = password_hash

    def make(self, *roles: str, tokens: int = 0) -> Someone:
        """A person with ``roles``, signed in with a bearer token."""
        name = f"{roles[0]}_{next(_numbers)}"

        def work(tx: Any) -> Someone:
            person = accounts.create_person(
                tx,
                email=f"{name}@people.test",
                handle=name,
                display_name=name.title(),
                password_hash=self._hash,
                roles=roles,
                now=utc_now(),
            )
            if tokens:
                ledger.top_up(
                    tx,
                    purchase_id=f"pur_{name}",
                    user_id=person.user_id,
                    tokens=tokens,
                    gateway="sandbox",
                    cause_id="test",
                    now=utc_now(),
                )
            opened = accounts.open_sign_in(tx, person.user_id, kind="token", now=utc_now())
            return Someone(person, opened.token)

        return self.database.run(work)

    def fan(self, tokens: int = 5_000) -> Someone:
        return self.make("fan", tokens=tokens)

    def creator(self) -> Someone:
        return self.make("creator")

    def signed_in(self, user_id: str) -> Someone:
        """Somebody who is there already, with a bearer token."""

        def work(tx: Any) -> Someone:
            person = accounts.find_person(tx, user_id)
            assert person is not None
            return Someone(person, accounts.open_sign_in(tx, user_id, kind="token", now=utc_now()).token)

        return self.database.run(work)

    def integrator(self, *scopes: str) -> dict[str, str]:
        """The headers of an integrator's program."""
        _, token = self.database.run(
            lambda tx: accounts.create_integrator_token(tx, "partner", scopes, utc_now())
        )
        return {"Authorization": f"Bearer {token}"}

    def node(self, url: str = "ws://127.0.0.1:9/signaling") -> None:
        """A media node has reported."""
        self.database.run(
            lambda tx: tx.merge(
                MediaNodeRow(id=NODE, boot_id=ids.new_id(ids.BOOT), signaling_url=url, seen_at=utc_now())
            )
        )

    def live(self, creator: Someone) -> StreamView:
        """That creator goes live."""
        self.node()
        return self.database.run(lambda tx: streams.go_live(tx, creator.person, title="On air", now=utc_now()))

    def present(self, someone: Someone) -> None:
        """That person's event feed is open."""
        self.database.run(lambda tx: presence.feed_opened(tx, someone.user_id, "boot_test", utc_now()))
