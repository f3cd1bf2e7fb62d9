"""The demo accounts, made once: ``python -m demo.people``. Their tokens are gifts and never pay out.

The one module of the demo that calls the services: an outside client cannot give itself tokens.
"""

from __future__ import annotations

import sys
from datetime import datetime

import msgspec
from sqlalchemy.orm import Session

from demo import PASSWORD
from models import ledger, log
from models.clock import utc_now
from models.config import SettingsError, load_settings
from models.db import Database
from models.services import accounts

CAUSE = "demo"


class DemoPerson(msgspec.Struct, frozen=True):
    """Who is made."""

    handle: str
    display_name: str
    roles: tuple[str, ...]
    gift: int = 0
    is_mock: bool = False

    @property
    def email(self) -> str:
        """What they sign in with."""
        return f"{self.handle}@demo.test"


PEOPLE = (
    DemoPerson("creator_a", "Creator A", ("creator",)),
    DemoPerson("creator_b", "Creator B", ("creator",)),
    DemoPerson("fan_a", "Fan A", ("fan",), gift=5_000),
    DemoPerson("fan_b", "Fan B", ("fan",)),
    DemoPerson("mock_fan", "Mock fan", ("fan",), gift=100_000_000, is_mock=True),
    DemoPerson("admin", "Admin", ("admin",)),
)
SUBSCRIPTIONS = (("fan_a", "creator_b"),)


def make_people(db: Database, now: datetime) -> int:
    """Make those who are not there yet, with gifts and subscriptions; how many were made."""
    with db.reading() as tx:
        missing = {person.handle for person in PEOPLE if accounts.find_by_handle(tx, person.handle) is None}
    # Hashing is slow on purpose and has no place in a transaction.
    password_hash = accounts.hash_password(PASSWORD) if missing else ""
    return db.run(lambda tx: _make(tx, missing, password_hash, now))


def _make(tx: Session, missing: set[str], password_hash: str, now: datetime) -> int:
    ids: dict[str, str] = {}
    for person in PEOPLE:
        found = accounts.find_by_handle(tx, person.handle)
        if found is None:
            found = accounts.create_person(
                tx,
                email=person.email,
                handle=person.handle,
                display_name=person.display_name,
                password_hash=password_hash,
                roles=person.roles,
                now=now,
                is_mock=person.is_mock,
            )
        ids[person.handle] = found.user_id
        if person.gift:
            key = f"gift:{found.user_id}"
            ledger.gift(tx, found.user_id, person.gift, key=key, cause_id=CAUSE, now=now)
    for fan, creator in SUBSCRIPTIONS:
        accounts.set_subscription(tx, ids[fan], ids[creator], True, now)
    return len(missing)


def main() -> int:
    """0 when they are there, 2 when the settings do not fit or are not the demo's."""
    try:
        settings = load_settings()
        if not settings.demo:
            raise SettingsError("Demo people are for demo mode: set DEMO=1")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    log.configure("people", settings.log_level)
    db = Database(settings.database_url)
    log.event("demo_people", made=make_people(db, utc_now()))
    db.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
