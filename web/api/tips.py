"""Tips to creators who are there now, and the latest ones of a stream or a private session."""

from __future__ import annotations

from typing import Annotated

import msgspec
from sqlalchemy.orm import Session

from models.services import tips
from models.services.tips import TipGiven, TipList
from web import limits
from web.api.schema import FAN, SIGNED_IN, Api, Call, Nothing
from web.api.streaming import Id

api = Api("tips")


class TipBody(msgspec.Struct, frozen=True, rename="camel"):
    """Who gets how many tokens; ``sessionId`` for a private stream of the two."""

    creator_id: Id
    amount: Annotated[int, msgspec.Meta(ge=tips.LOWEST, le=tips.HIGHEST)]
    message: Annotated[str, msgspec.Meta(max_length=tips.LONGEST_MESSAGE)] = ""
    session_id: Id | None = None


@api.write("POST", "/api/streaming/tips", access=FAN, body=TipBody, answer=TipGiven, status=201,
           idempotency="required", limits=(limits.TIP,),
           errors=("INSUFFICIENT_TOKENS", "SPENDING_CAP", "SPENDING_FROZEN", "NOT_A_FAN", "OWN_STREAM", "BLOCKED",
                   "NOT_FOUND", "STREAM_NOT_LIVE", "SESSION_NOT_LIVE"))  # fmt: skip
def give_tip(tx: Session, call: Call[TipBody]) -> TipGiven:
    """Tip a creator who is live, or in a private stream with the caller. It is paid at once and final.

    Everybody who is signed in is told, with the caller's handle; of one in a private stream its two sides alone.
    """
    body = call.body
    assert call.key is not None  # required
    return tips.tip(
        tx,
        fan=call.person,
        creator_id=body.creator_id,
        amount=body.amount,
        message=body.message,
        session_id=body.session_id,
        key=call.key,
        now=call.now,
        settings=call.house.settings,
        cause_id=call.cause_id,
    )


@api.read("/api/streaming/streams/<stream_id>/tips", access=SIGNED_IN, answer=TipList)
def stream_tips(tx: Session, call: Call[Nothing]) -> TipList:
    """The latest public tips of a stream, newest first, and the sum of all of them."""
    return tips.of_stream(tx, call.path["stream_id"])


@api.read("/api/streaming/private-sessions/<session_id>/tips", access=SIGNED_IN, answer=TipList,
          errors=("NOT_FOUND",))  # fmt: skip
def session_tips(tx: Session, call: Call[Nothing]) -> TipList:
    """The latest tips of a private session, for its two sides."""
    return tips.of_session(tx, call.path["session_id"], call.person.user_id)
