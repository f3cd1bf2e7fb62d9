"""Recordings of private streams: the two keys, what a creator offers, and the file for the two and nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
from flask import Response, request, send_file
from sqlalchemy.orm import Session

from models import log
from models.consents import Terms
from models.errors import Conflict, Forbidden, NotFound, PaymentRequired, Unavailable, Unconfirmed
from models.receipt_keys import signing_key
from models.recordings import HIGHEST_PRICE, RecordingRow
from models.services import recording_sales, recordings
from models.services.recordings import Offer, RecordingView
from web import limits
from web.api.schema import CREATOR, FAN, SIGNED_IN, Api, Call, Nothing
from web.api.streaming import Id
from web.context import Greenroom
from web.crowd import Outgoing

api = Api("recordings")
CONFIRM_SECONDS = 2.0
FILE = "recording.mp4"
"""In the recording's directory, as the transcode worker completes it."""
Price = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_PRICE)]


class OfferBody(msgspec.Struct, frozen=True, rename="camel"):
    """``price`` in tokens for the fan to watch, 0: free of charge; without ``shared`` the fan cannot."""

    offered: bool
    price: Price
    shared: bool


class ConsentBody(msgspec.Struct, frozen=True, rename="camel"):
    """The terms as the caller has seen them; they are what is signed."""

    session_id: Id
    price: Price
    shared: bool
    keep_days: int
    text_version: int


class WithdrawBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which call's recording."""

    session_id: Id


class WithdrawAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """``stopped``: the media process has confirmed that it hands out nothing more; else it is on its way."""

    stopped: bool
    recording: RecordingView


class BuyBody(msgspec.Struct, frozen=True):
    """What the fan saw that it costs, in tokens."""

    price: Price


@api.read("/api/streaming/recording-offer", access=CREATOR, answer=Offer)
def recording_offer(tx: Session, call: Call[Nothing]) -> Offer:
    """What the creator offers."""
    return recordings.get_offer(tx, call.person.user_id)


@api.write("PUT", "/api/streaming/recording-offer", access=CREATOR, body=OfferBody, answer=Offer)
def put_recording_offer(tx: Session, call: Call[OfferBody]) -> Offer:
    """Offer recordings of private streams, or no more. What was asked for in a call keeps its terms."""
    body = call.body
    offer = Offer(offered=body.offered, price=body.price, shared=body.shared)
    return recordings.put_offer(tx, call.person.user_id, offer)


@api.read("/api/streaming/private-sessions/<session_id>/recording", access=SIGNED_IN, answer=RecordingView,
          errors=("NOT_FOUND",))  # fmt: skip
def recording(tx: Session, call: Call[Nothing]) -> RecordingView:
    """The recording of a session, for its two sides: whose consent stands, and what became of it."""
    return _view(tx, call, call.path["session_id"])


@api.own("POST", "/api/streaming/recording-consent", access=SIGNED_IN, body=ConsentBody, answer=RecordingView,
         limits=(limits.RECORDING,),
         errors=("NOT_FOUND", "SESSION_NOT_LIVE", "RECORDING_NOT_OFFERED", "RECORDING_OVER",
                 "RECORDING_TERMS_CHANGED", "NO_RECORDING_SPACE"))  # fmt: skip
def consent_to_recording(call: Call[ConsentBody]) -> RecordingView:
    """Agree, in the call, that it is recorded. It begins once the other side has agreed as well."""
    body, house = call.body, call.house
    seen = Terms(price=body.price, shared=body.shared, keep_days=body.keep_days, text_version=body.text_version)
    _require_space(house)
    house.database.run(
        lambda tx: recordings.consent(
            tx,
            body.session_id,
            person_id=call.person.user_id,
            seen=seen,
            keep_days=house.settings.recording_days,
            key=signing_key(house.settings),
            now=call.now,
        )
    )
    with house.database.reading() as tx:
        return _view(tx, call, body.session_id)


@api.own("POST", "/api/streaming/recording-withdraw", access=SIGNED_IN, body=WithdrawBody, answer=WithdrawAnswer,
         limits=(limits.RECORDING,), errors=("NOT_FOUND",))  # fmt: skip
def withdraw_from_recording(call: Call[WithdrawBody]) -> WithdrawAnswer:
    """Take the consent back. A recording that runs stops at once, and is not begun again in that call."""
    body, house = call.body, call.house
    told = house.database.run(
        lambda tx: recordings.withdraw(
            tx,
            body.session_id,
            person_id=call.person.user_id,
            key=signing_key(house.settings),
            now=call.now,
        )
    )
    stopped = True
    if told is not None:
        try:
            house.rpc.call(told.node_id, told.command, CONFIRM_SECONDS)
        except Unconfirmed:
            # It is in the outbox, and the worker stops by itself.
            log.event("recording_stop_unconfirmed", session_id=body.session_id)
            stopped = False
    with house.database.reading() as tx:
        return WithdrawAnswer(stopped=stopped, recording=_view(tx, call, body.session_id))


@api.write("POST", "/api/streaming/recordings/<recording_id>/buy", access=FAN, body=BuyBody, answer=RecordingView,
           idempotency="required", limits=(limits.RECORDING,),
           errors=("NOT_FOUND", "RECORDING_NOT_SHARED", "RECORDING_NOT_READY", "RECORDING_GONE", "RECORDING_FREE",
                   "RECORDING_UNAVAILABLE", "PRICE_CHANGED", "INSUFFICIENT_TOKENS", "SPENDING_CAP",
                   "SPENDING_FROZEN"))  # fmt: skip
def buy_recording(tx: Session, call: Call[BuyBody]) -> RecordingView:
    """Pay for a recording of one's own call, once. All of it comes back if it is gone before it expires."""
    recording_id = call.path["recording_id"]
    recording_sales.buy(
        tx,
        recording_id,
        fan_id=call.person.user_id,
        price=call.body.price,
        cause_id=call.cause_id,
        now=call.now,
    )
    row = tx.get_one(RecordingRow, recording_id)
    # Nobody pays for what cannot be given: nothing has been written if this is refused.
    _file_of(call.house, row)
    return _view(tx, call, row.session_id)


@api.write("DELETE", "/api/streaming/recordings/<recording_id>", access=SIGNED_IN, answer=RecordingView,
           errors=("NOT_FOUND", "RECORDING_NOT_READY"))  # fmt: skip
def delete_recording(tx: Session, call: Call[Nothing]) -> RecordingView:
    """Delete a recording for both sides. If its creator does, a fan who paid is given back all of it."""
    recording_id = call.path["recording_id"]
    recording_sales.delete(tx, recording_id, person_id=call.person.user_id, now=call.now)
    return _view(tx, call, tx.get_one(RecordingRow, recording_id).session_id)


@api.own("GET", "/api/streaming/recordings/<recording_id>/file", access=SIGNED_IN, answer=Nothing,
         media="video/mp4", limits=(limits.RECORDING_FILE,),
         errors=("NOT_FOUND", "RECORDING_NOT_SHARED", "RECORDING_UNPAID", "RECORDING_NOT_READY", "RECORDING_GONE",
                 "RECORDING_UNAVAILABLE", "UNAVAILABLE"))  # fmt: skip
def recording_file(call: Call[Nothing]) -> Response:
    """The recording itself, whole or in ranges (RFC 9110, section 14); with ``?download`` as an attachment."""
    with call.house.database.reading() as tx:
        row = tx.get(RecordingRow, call.path["recording_id"])
    if row is None or call.person.user_id not in (row.fan_id, row.creator_id):
        raise NotFound("There is no such recording.")
    if row.status == "gone":
        raise Conflict("This recording is gone.", code="RECORDING_GONE")
    if row.status != "kept":
        raise Conflict("The recording is not complete yet.", code="RECORDING_NOT_READY")
    if not recordings.may_watch(row, call.person.user_id):
        if not row.shared:
            raise Forbidden("The creator keeps this recording.", code="RECORDING_NOT_SHARED")
        raise PaymentRequired("This recording is to be paid for first.", code="RECORDING_UNPAID")
    answer = _film(call, _file_of(call.house, row), f"{_day(row.started_at)}-private-stream.mp4")
    answer.headers["Cache-Control"] = "private, no-store"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # nginx keeps what a slow reader has not taken in files of its own; not of this.
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


@api.own("GET", "/api/streaming/private-sessions/<session_id>/recording-consents", access=SIGNED_IN,
         answer=Nothing, media="application/jsonl", limits=(limits.DOWNLOAD,),
         errors=("NOT_FOUND",))  # fmt: skip
def recording_consents(call: Call[Nothing]) -> Response:
    """What both sides have signed, one record a line, to be checked with the published keys of receipts."""
    session_id = call.path["session_id"]
    with call.house.database.reading() as tx:
        _view(tx, call, session_id)
        lines = recordings.consent_records(tx, session_id)
    response = Response("".join(f"{line}\n" for line in lines), content_type="application/jsonl")
    response.headers["Content-Disposition"] = 'attachment; filename="recording-consents.jsonl"'
    return response


def _film(call: Call[Nothing], path: Path, name: str) -> Response:
    """The file as it was asked for; it has one of few places until it is sent. Raises RateLimited, Unavailable."""
    films, person_id = call.house.films, call.person.user_id
    films.enter(person_id)
    try:
        answer = send_file(
            path,
            mimetype="video/mp4",
            as_attachment="download" in request.args,
            download_name=name,
            conditional=True,
            max_age=None,
        )
    except BaseException:
        films.leave(person_id)
        raise
    answer.response = Outgoing(cast(Iterable[bytes], answer.response), lambda: films.leave(person_id))
    return answer


def _view(tx: Session, call: Call[Any], session_id: str) -> RecordingView:
    return recordings.view(tx, session_id, call.person.user_id, call.house.settings.recording_days)


def _require_space(house: Greenroom) -> None:
    """Before anybody agrees to what could not be written. Raises Unavailable NO_RECORDING_SPACE."""
    place = house.settings.recordings_dir
    while not place.exists():
        place = place.parent
    if shutil.disk_usage(place).free < house.settings.recordings_free_mb * 1_000_000:
        raise Unavailable("There is no room for recordings now.", code="NO_RECORDING_SPACE")


def _file_of(house: Greenroom, row: RecordingRow) -> Path:
    """Where it is. Raises Unavailable RECORDING_UNAVAILABLE; whether it is lost, its worker finds out."""
    path = house.settings.recordings_dir / row.id / FILE
    if not path.is_file():
        raise Unavailable("The recording cannot be given now.", code="RECORDING_UNAVAILABLE")
    return path


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at is not None else "undated"
