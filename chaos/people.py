"""Who takes part: creators, and fans with gift tokens. Made by the services, as ``demo.people`` is."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from demo import PASSWORD
from models import ledger
from models.db import Database
from models.services import accounts

GIFT = 1_000_000
CAUSE = "chaos"


def creator_email(couple: int) -> str:
    """What the creator of a couple signs in with."""
    return f"creator{couple}@chaos.test"


def fan_email(couple: int, number: int) -> str:
    """What a fan of a couple signs in with."""
    return f"fan{couple}x{number}@chaos.test"


def make(db: Database, couples: int, fans: int, now: datetime) -> None:
    """``couples`` creators with ``fans`` fans each."""
    password_hash = accounts.hash_password(PASSWORD)
    wanted = [(creator_email(couple), "creator") for couple in range(couples)]
    wanted += [(fan_email(couple, number), "fan") for couple in range(couples) for number in range(fans)]

    def all_of_them(tx: Session) -> None:
        for email, role in wanted:
            handle = email.partition("@")[0]
            person = accounts.create_person(
                tx,
                email=email,
                handle=handle,
                display_name=handle,
                password_hash=password_hash,
                roles=(role,),
                now=now,
            )
            if role == "fan":
                key = f"gift:{person.user_id}"
                ledger.gift(tx, person.user_id, GIFT, key=key, cause_id=CAUSE, now=now)

    db.run(all_of_them)
