"""Where payment providers tell us that something happened. Stands on the signature over its body alone."""

from __future__ import annotations

import msgspec
from flask import request

from models.errors import NotFound
from models.services import webhooks
from web.api.schema import ANYONE, Api, Call, Nothing
from web.security import read_body

api = Api("payments")


class Received(msgspec.Struct, frozen=True):
    """``received``: stored, now or when it came before. What it means is found out afterwards."""

    received: bool


# No limit: a forged call costs one HMAC, which is less than counting it would.
@api.own("POST", "/api/payments/webhooks/<gateway>", access=ANYONE, answer=Received, csrf=False,
         errors=("BAD_SIGNATURE", "BAD_EVENT", "NOT_FOUND", "BODY_TOO_LARGE"))  # fmt: skip
def webhook(call: Call[Nothing]) -> Received:
    """A provider's event, signed over its raw body; stored once, answered at once, acted on afterwards."""
    gateway = call.house.gateway
    if call.path["gateway"] != gateway.name:
        raise NotFound("There is no such payment provider here.")
    event = gateway.verify_webhook(read_body(), dict(request.headers))
    call.house.database.run(lambda tx: webhooks.receive(tx, gateway.name, event, call.now))
    return Received(received=True)
