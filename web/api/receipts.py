"""Receipts to take away and to act on: the signed export, the public keys, complaints, refunds, evidence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import msgspec
from flask import Blueprint, Response
from sqlalchemy.orm import Session

from models.db import Database
from models.errors import NotFound
from models.receipt_keys import SigningKey, signing_key
from models.services import after_receipt, complaints, evidence, receipt_chain, refunds
from models.services.after_receipt import AfterReceipt
from models.services.complaints import ComplaintView
from models.services.refunds import RefundQuote, RefundView
from web import limits
from web.api.schema import CREATOR, SIGNED_IN, Access, Api, Call, Nothing, Query, written_out
from web.context import greenroom

api = Api("receipts")
blueprint = Blueprint("receipt_keys", __name__)
ADMIN = Access("admin", roles=frozenset({"admin"}))
KEYS_PATH = "/.well-known/greenroom-receipt-keys.json"
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=refunds.LONGEST_REASON)]


class ComplaintBody(msgspec.Struct, frozen=True):
    """What was wrong, in the complainer's words."""

    reason: Reason


class RefundBody(msgspec.Struct, frozen=True):
    """How many tokens go back, commission included; all that is left when left out."""

    reason: Reason
    tokens: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] | None = None


@api.own("GET", "/api/receipts/export", access=CREATOR, answer=Nothing, media="application/jsonl",
         limits=(limits.DOWNLOAD,))  # fmt: skip
def export_receipts(call: Call[Nothing]) -> Response:
    """The creator's whole chain, one signed document a line, the signed head of the chain last."""
    house = call.house
    lines = _lines(house.database, call.person.user_id, signing_key(house.settings), call.now)
    response = Response(written_out(lines), content_type="application/jsonl")
    response.headers["Content-Disposition"] = 'attachment; filename="greenroom-receipts.jsonl"'
    return response


@api.read("/api/receipts/<session_id>/later", access=SIGNED_IN, answer=AfterReceipt, errors=("NOT_FOUND",))
def after_a_receipt(tx: Session, call: Call[Nothing]) -> AfterReceipt:
    """What came after the receipt: refunds, complaints and what was decided, and what the caller may still do."""
    return after_receipt.after_receipt(tx, call.path["session_id"], call.person.user_id, call.now)


@api.write("POST", "/api/receipts/<session_id>/complaint", access=SIGNED_IN, body=ComplaintBody,
           answer=ComplaintView, status=201, limits=(limits.COMPLAINT,),
           errors=("NOT_FOUND", "COMPLAINT_MADE", "COMPLAINT_LATE"))  # fmt: skip
def complain(tx: Session, call: Call[ComplaintBody]) -> ComplaintView:
    """Contest a session, within 48 hours of its receipt, once. Its earnings stay pending until it is decided."""
    return complaints.complain(
        tx, call.path["session_id"], by_id=call.person.user_id, reason=call.body.reason, now=call.now
    )


@api.read("/api/receipts/<session_id>/refund", access=CREATOR, answer=RefundQuote,
          query=(Query("tokens", "How many; all that is left when left out.", 1, 2**53 - 1),),
          errors=("NOT_FOUND", "NOT_REVERSIBLE"))  # fmt: skip
def quote_refund(tx: Session, call: Call[Nothing]) -> RefundQuote:
    """What a refund would take from the creator and from the commission."""
    session_id = call.path["session_id"]
    if not after_receipt.is_paid_by(tx, session_id, call.person.user_id):
        raise NotFound("There is no such receipt.")
    return refunds.quote(tx, session_id, call.query.get("tokens"))


@api.write("POST", "/api/receipts/<session_id>/refund", access=CREATOR, body=RefundBody, answer=RefundView,
           status=201, idempotency="required", limits=(limits.REFUND,),
           errors=("NOT_FOUND", "NOT_REVERSIBLE"))  # fmt: skip
def give_refund(tx: Session, call: Call[RefundBody]) -> RefundView:
    """Give back all or part of what a session paid, from the creator's earnings and the commission."""
    session_id, key = call.path["session_id"], call.key
    assert key is not None
    if not after_receipt.is_paid_by(tx, session_id, call.person.user_id):
        raise NotFound("There is no such receipt.")
    return refunds.give(
        tx,
        session_id,
        by_id=call.person.user_id,
        side="creator",
        tokens=call.body.tokens,
        reason=call.body.reason,
        key=key,
        cause_id=call.cause_id,
        now=call.now,
    )


@api.own("GET", "/api/receipts/evidence/<purchase_id>", access=ADMIN, answer=Nothing, media="application/zip",
         limits=(limits.DOWNLOAD,), errors=("NOT_FOUND",))  # fmt: skip
def dispute_evidence(call: Call[Nothing]) -> Response:
    """What a purchase (or the purchase behind a dispute) was used for, as files named by Stripe's fields."""
    purchase_id = call.path["purchase_id"]
    with call.house.database.reading() as tx:
        packed = evidence.bundle(tx, purchase_id)
    response = Response(packed, content_type="application/zip")
    response.headers["Content-Disposition"] = 'attachment; filename="evidence.zip"'
    return response


@blueprint.get(KEYS_PATH)
def receipt_keys() -> Response:
    """The public keys, present and past, as a JWK Set (RFC 7517): for anybody, from anywhere."""
    house = greenroom()
    with house.database.reading() as tx:
        keys = receipt_chain.published_keys(tx, signing_key(house.settings))
    response = Response(msgspec.json.encode(keys), content_type="application/jwk-set+json")
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


def _lines(database: Database, creator_id: str, key: SigningKey, now: datetime) -> Iterator[str]:
    with database.reading() as tx:
        yield from receipt_chain.export(tx, creator_id, key, now)


