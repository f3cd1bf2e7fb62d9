"""What WHIP and WHEP have in common at the edge: SDP over HTTP in and out, and one question to the room's node.

Stateless: the resource's address says the room, and the node that has the room knows the rest. Knows neither
who may do it nor what an SDP says.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable

import msgspec
from flask import Response, request
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException
from websockets.sync.client import connect

from models import grants, log
from models.clock import utc_now
from models.config import IceServer
from models.errors import Conflict, DomainError, Forbidden, NotFound, Unavailable
from models.grants import Grant
from models.ids import new_id
from models.messages import resources
from models.messages.resources import AnyReply, AnyRequest, Refusal
from models.messages.signaling import MAX_FRAME_BYTES
from models.services import rooms
from web import sockets
from web.api.errors import Refusal as Refused
from web.context import Greenroom
from web.security import read_body

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
OPENING_SECONDS = 5.0
OPENING_LOOK_SECONDS = 0.05
NODE_OPEN_SECONDS = 3.0
NODE_ANSWER_SECONDS = 10.0
NODE_CLOSE_SECONDS = 1.0
RETRY_SECONDS = 2
FULL_RETRY_SECONDS = 10
PROBED = "probe"
"""Of no room: what an offer is checked under before there is one."""
_OFFERS = re.compile(r"/api/rtc/(whip|whep/[^/]+)")
_NAMES = re.compile(r"^a=ice-(ufrag|pwd):(\S{1,256})[ \t]*\r?$", re.M)
_TAG = re.compile(r'(?:W/)?"([A-Za-z0-9_-]{1,64})"|(\*)')


# --- HTTP -------------------------------------------------------------------------------------------


def body_of(kind: str) -> str:
    """The body of this media type, as text. Raises Refused 400, 406, 413, 415, 422; 400 also for anything in the
    query: what opens a stream must not end up in a log of addresses."""
    if request.args:
        raise Refused(400, "Nothing is taken from the address: send a bearer header.", code="BAD_REQUEST")
    if request.mimetype != kind:
        raise Refused(415, f"Send the body as {kind}.", code="UNSUPPORTED_MEDIA_TYPE")
    if request.accept_mimetypes and not request.accept_mimetypes[kind]:
        raise Refused(406, f"The answer is {kind}.", code="NOT_ACCEPTABLE")
    if (request.content_length or 0) > resources.MOST_SDP_BYTES:
        raise too_large()
    raw = read_body()
    if len(raw) > resources.MOST_SDP_BYTES:
        raise too_large()
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refused(422, "The body is not text in UTF-8.", code="SDP_UNUSABLE") from error


def offer() -> str:
    """The SDP offer in the body. What is none at all puts nobody on the air; the node reads the rest."""
    sdp = body_of(SDP)
    if not sdp.startswith("v=0") or "\nm=" not in sdp:
        raise Refused(422, "This is no session description.", code="SDP_UNUSABLE")
    return sdp


def too_large() -> Refused:
    """An SDP of that size is none of an encoder's or a player's."""
    return Refused(413, f"At most {resources.MOST_SDP_BYTES // 1024} KiB.", code="BODY_TOO_LARGE")


def created(answer: resources.Answered, location: str, servers: Iterable[IceServer]) -> Response:
    """201 with the answer, where the resource is, and what ICE may use (RFC 9725 section 4.2 and 4.6)."""
    response = Response(answer.sdp, 201, content_type=SDP)
    response.headers["Location"] = f"{location}/{answer.resource}"
    response.headers["ETag"] = f'"{answer.etag}"'
    response.headers["Accept-Patch"] = FRAGMENT
    for server in servers:
        for url in server.urls:
            response.headers.add("Link", _link(url, server))
    return response


def _link(url: str, server: IceServer) -> str:
    link = f'<{url}>; rel="ice-server"'
    if server.username is not None and server.credential is not None:
        link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
    return link


def patched(reply: AnyReply) -> Response:
    """204 for candidates; 200 with the node's new names for an ICE restart."""
    if not isinstance(reply, resources.Restarted):
        return Response(status=204)
    response = Response(reply.sdp, 200, content_type=FRAGMENT)
    response.headers["ETag"] = f'"{reply.etag}"'
    return response


def tag_of(header: str | None) -> str:
    """What ``If-Match`` names: a tag, or ``*``. Raises Refused 428 without one, 412 for what no tag of ours is."""
    if header is None:
        raise Refused(428, "Send If-Match with the ETag of the session, or *.", code="PRECONDITION_REQUIRED")
    found = _TAG.fullmatch(header.strip())
    if found is None:
        raise Refused(412, "If-Match names another ICE session.", code="PRECONDITION_FAILED")
    return found[1] or found[2]


def names_of(fragment: str) -> tuple[str, str]:
    """User fragment and password in an SDP fragment (RFC 8840 section 4.4). Raises Refused 422."""
    found = dict(_NAMES.findall(fragment))
    if set(found) != {"ufrag", "pwd"}:
        raise Refused(422, "The fragment needs one ice-ufrag and one ice-pwd.", code="SDP_UNUSABLE")
    return found["ufrag"], found["pwd"]


def accept_post(response: Response) -> Response:
    """Say in answer to OPTIONS what may be posted (RFC 9725 section 4.2)."""
    if request.method == "OPTIONS" and _OFFERS.fullmatch(request.path) is not None:
        response.headers["Accept-Post"] = SDP
    return response


# --- the node ---------------------------------------------------------------------------------------


def errand(house: Greenroom, room_id: str, user_id: str) -> str:
    """A grant for what is not a join: the web app's word that it asks for this user."""
    now = utc_now().timestamp()
    return grants.sign(
        Grant(
            jti=new_id("grt"), room_id=room_id, user_id=user_id, display_name="", role="participant",
            publish=False, issued_at=now, expires_at=now + grants.LIFETIME_SECONDS,
        ),
        house.settings.key("grants"),
    )  # fmt: skip


def ask(house: Greenroom, wish: AnyRequest, *, opening: bool = False) -> AnyReply:
    """What the room's node replies. ``opening``: the room may have been wanted a moment ago only.

    Raises NotFound, Forbidden, Conflict, Refused, and Unavailable with ``retry_after_seconds``.
    """
    frame = _frame(wish)
    patient_until = time.monotonic() + OPENING_SECONDS
    while True:
        reply = _ask_once(_address(house, wish.room_id, patient_until), frame)
        if not isinstance(reply, Refusal):
            return reply
        if not opening or reply.code != "ROOM_NOT_FOUND":
            raise _refusal(reply)
        if time.monotonic() > patient_until:
            raise unavailable("The room is not open yet.", "ROOM_OPENING")
        time.sleep(OPENING_LOOK_SECONDS)


def check_offer(house: Greenroom, signaling_url: str, user_id: str, sdp: str) -> None:
    """Raise Refused SDP_UNUSABLE for an offer that the node at this address could not answer, and Unavailable."""
    grant = errand(house, PROBED, user_id)
    wish = resources.Probe(grant=grant, room_id=PROBED, user_id=user_id, sdp=sdp)
    reply = _ask_once(_resources_at(signaling_url), _frame(wish))
    if isinstance(reply, Refusal):
        raise _refusal(reply)


def _frame(wish: AnyRequest) -> str:
    frame = resources.encode(wish).decode()
    if len(frame) > MAX_FRAME_BYTES:
        raise Refused(422, "The description cannot be used.", code="SDP_UNUSABLE")
    return frame


def _resources_at(signaling_url: str) -> str:
    return signaling_url.removesuffix("/signaling") + resources.PATH


def unavailable(detail: str, code: str = "UNAVAILABLE") -> Unavailable:
    """Try again soon: an encoder does so by itself."""
    return Unavailable(detail, code=code, retry_after_seconds=RETRY_SECONDS)


def _address(house: Greenroom, room_id: str, patient_until: float) -> str:
    while True:
        try:
            with house.database.reading() as tx:
                url = rooms.signaling_url(tx, room_id)
            return _resources_at(url)
        except Unavailable as error:
            if error.code != "ROOM_OPENING" or time.monotonic() > patient_until:
                raise unavailable(error.detail, error.code) from error
        time.sleep(OPENING_LOOK_SECONDS)


def _ask_once(url: str, frame: str) -> AnyReply:
    try:
        with connect(
            url,
            open_timeout=NODE_OPEN_SECONDS,
            close_timeout=NODE_CLOSE_SECONDS,
            max_size=MAX_FRAME_BYTES * 2,
            compression=None,
            proxy=None,
        ) as node:
            sockets.limit_sending(node.socket)
            node.send(frame)
            return resources.decode_reply(node.recv(timeout=NODE_ANSWER_SECONDS))
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, WebSocketException, msgspec.DecodeError) as error:
        log.event("media_node_unreachable", level=logging.WARNING, error=type(error).__name__)
        raise unavailable("The media service does not answer.") from error


def _refusal(reply: Refusal) -> DomainError:
    match reply.code:
        case "FORBIDDEN":
            return Forbidden(reply.message)
        case "ROOM_FULL":
            return Unavailable(reply.message, code="ROOM_FULL", retry_after_seconds=FULL_RETRY_SECONDS)
        case "ROOM_NOT_FOUND" | "NO_RESOURCE":
            return NotFound(reply.message)
        case "SDP_UNUSABLE" | "BAD_MESSAGE":
            return Refused(422, f"The description cannot be used: {reply.message}", code="SDP_UNUSABLE")
        case "WRONG_ETAG":
            return Refused(412, reply.message, code="PRECONDITION_FAILED")
        case "REPLACED":
            return Conflict(reply.message, code="SEAT_TAKEN")
        case "UNAVAILABLE":
            return unavailable(reply.message)
