"""What the web app asks a media node on behalf of WHIP and WHEP clients, over a WebSocket on the node's private
address: one request, one reply, closed.

The client's HTTP resource lives at the node, as a seat in a room; the web app keeps nothing of it. ``resource`` is
its unguessable name. Each request carries a grant of the user for the room: what else the user has to show is the
web app's affair.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PATH = "/resources"
MOST_SDP_BYTES = 32 * 1024
"""Encoders send some 4 KiB; a frame takes 64 (models.messages.signaling)."""

RefusalCode = Literal[
    "FORBIDDEN",
    "ROOM_FULL",
    "ROOM_NOT_FOUND",
    "UNAVAILABLE",
    "BAD_MESSAGE",
    "SDP_UNUSABLE",
    "REPLACED",
    "NO_RESOURCE",
    "WRONG_ETAG",
]


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """What every request carries."""

    grant: str
    room_id: str
    user_id: str


class Probe(Request, frozen=True, kw_only=True, tag="PROBE"):
    """Whether an offer of own tracks could be answered, in no room and without a seat. ``Done``: it could."""

    sdp: str


class Publish(Request, frozen=True, kw_only=True, tag="PUBLISH"):
    """Take the seat and answer an offer of own tracks (WHIP). Answered by ``Answered``."""

    sdp: str


class Play(Request, frozen=True, kw_only=True, tag="PLAY"):
    """Take a seat and answer an offer to receive (WHEP). Answered by ``Answered``."""

    sdp: str


class Patch(Request, frozen=True, kw_only=True, tag="PATCH"):
    """ICE news of the client (RFC 8840 section 4.4): candidates if ``fragment`` is the known one, else a restart.

    ``etag``: what ``If-Match`` said. Answered by ``Done`` or ``Restarted``.
    """

    resource: str
    etag: str
    fragment: str
    password: str


class Leave(Request, frozen=True, kw_only=True, tag="LEAVE"):
    """Give the seat up. Forwarding has stopped when ``Done`` is said."""

    resource: str


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """Base of all replies."""


class Answered(Reply, frozen=True, kw_only=True, tag="ANSWERED"):
    """The seat is taken. ``etag`` names the ICE session that the answer began."""

    sdp: str
    resource: str
    etag: str


class Restarted(Reply, frozen=True, kw_only=True, tag="RESTARTED"):
    """ICE begins again: an SDP fragment with our new names, and our candidates, which are the same as ever."""

    sdp: str
    etag: str


class Done(Reply, frozen=True, kw_only=True, tag="DONE"):
    """It is so."""


class Refusal(Reply, frozen=True, kw_only=True, tag="REFUSAL"):
    """It is not, and nothing has changed."""

    code: RefusalCode
    message: str


AnyRequest = Probe | Publish | Play | Patch | Leave
AnyReply = Answered | Restarted | Done | Refusal

encode = msgspec.json.encode
_requests: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
decode_request = _requests.decode
"""Raises msgspec.DecodeError for what is no request."""
_replies: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)
decode_reply = _replies.decode
"""Raises msgspec.DecodeError for what is no reply."""
