"""What tests of recordings do again and again, on a stage."""

from __future__ import annotations

from sqlalchemy import select
from stage import Call, Stage

from models.consents import Terms
from models.receipt_keys import signing_key
from models.recordings import RecordingRow
from models.services import recording_work, recordings
from models.services.accounts import Person
from models.services.leases import Lease
from models.services.recording_ends import Told
from models.services.recordings import Offer, RecordingView

DAYS = 30
TERMS = Terms(price=200, shared=True, keep_days=DAYS)


def offer(stage: Stage, creator: Person, *, price: int = 200, shared: bool = True, offered: bool = True) -> None:
    wanted = Offer(offered=offered, price=price, shared=shared)
    stage.run(lambda tx: recordings.put_offer(tx, creator.user_id, wanted))


def agree(stage: Stage, call: Call, person: Person, terms: Terms = TERMS) -> None:
    stage.run(
        lambda tx: recordings.consent(
            tx,
            call.session_id,
            person_id=person.user_id,
            seen=terms,
            keep_days=DAYS,
            key=signing_key(stage.settings),
            now=stage.now,
        )
    )


def withdraw(stage: Stage, call: Call, person: Person) -> Told | None:
    return stage.run(
        lambda tx: recordings.withdraw(
            tx, call.session_id, person_id=person.user_id, key=signing_key(stage.settings), now=stage.now
        )
    )


def seen(stage: Stage, call: Call, person: Person) -> RecordingView:
    with stage.database.reading() as tx:
        return recordings.view(tx, call.session_id, person.user_id, DAYS)


def row(stage: Stage, call: Call) -> RecordingRow:
    with stage.database.reading() as tx:
        found = tx.scalars(select(RecordingRow).where(RecordingRow.session_id == call.session_id)).one()
        tx.expunge_all()
        return found


def both_agree(stage: Stage, *, price: int = 200, shared: bool = True, tokens: int = 2_000) -> Call:
    """A running call whose both sides have agreed."""
    call = stage.running(tokens=tokens)
    offer(stage, call.creator, price=price, shared=shared)
    terms = Terms(price=price, shared=shared, keep_days=DAYS)
    agree(stage, call, call.fan, terms)
    agree(stage, call, call.creator, terms)
    return call


def lease(stage: Stage, call: Call, worker: str = "worker_1") -> Lease | None:
    return stage.run(lambda tx: recording_work.take_lease(tx, row(stage, call).id, worker, stage.now))


def ready(stage: Stage, call: Call) -> Lease:
    """A worker has begun, and something is on disk."""
    held = lease(stage, call)
    assert held is not None
    stage.run(lambda tx: recording_work.ready(tx, held.work_id, held.epoch, stage.now))
    return held


def finish(stage: Stage, held: Lease, *, size: int = 1_000, reason: str = "ENDED") -> None:
    stage.run(
        lambda tx: recording_work.finished(
            tx, held.work_id, held.epoch, stage.now, duration_ms=5_000, size=size, reason=reason
        )
    )


def kept(stage: Stage, *, price: int = 200, shared: bool = True, tokens: int = 2_000) -> Call:
    """A call that is over and settled, and its recording complete."""
    call = both_agree(stage, price=price, shared=shared, tokens=tokens)
    held = ready(stage, call)
    stage.end(call.session_id, call.fan)
    stage.call_ended(call.session_id, "closed", 60_000)
    finish(stage, held)
    return call
