"""The signaling protocol between a browser and the media node, exactly as other people's clients speak it.

JSON text frames of at most 64 KiB, one message each. camelCase on the wire.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from models.config import IceServer
from models.messages.commands import Reason

MAX_FRAME_BYTES = 64 * 1024
TERMINATED_CLOSE_CODE = 4001
JOIN_TIMEOUT_SECONDS = 10

PeerConnection = Literal["publish", "subscribe"]
Kind = Literal["audio", "video"]
Layer = Literal["high", "medium", "low", "off"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """Base of all messages; unknown fields are ignored, as clients may be newer than we are."""


# --- client to server -------------------------------------------------------------------------------


class JoinRoom(Message, frozen=True, kw_only=True, tag="JOIN_ROOM"):
    """The first message. The grant may come as ``Authorization: Bearer`` on the socket instead."""

    room_id: str
    user_id: str
    is_spectator: bool = False
    grant: str | None = None
    takes_tracks: bool = False
    """The client knows TRACKS."""


class PublishOffer(Message, frozen=True, kw_only=True, tag="OFFER"):
    """The client's own tracks; sent again to change them."""

    pc: Literal["publish"]
    sdp: str


class SubscribeAnswer(Message, frozen=True, kw_only=True, tag="ANSWER"):
    """The answer to the subscribe offer of that ``revision``."""

    pc: Literal["subscribe"]
    sdp: str
    revision: int


class IceCandidate(Message, frozen=True, kw_only=True, tag="ICE_CANDIDATE"):
    """A browser's ``RTCIceCandidate.toJSON()``, or null at the end. Both directions."""

    pc: PeerConnection
    candidate: dict[str, str | int | None] | None


class RestartIce(Message, frozen=True, kw_only=True, tag="RESTART_ICE"):
    """The client's network changed: offer the subscribe connection again, with new ICE credentials (RFC 8445
    section 9). For its publish connection it sends such an offer itself."""

    pc: Literal["subscribe"]


class SelectLayer(Message, frozen=True, kw_only=True, tag="SELECT_LAYER"):
    """Which simulcast layer to receive; ``off`` stops the picture and never the clock."""

    track_id: str
    layer: Layer


class MuteTrack(Message, frozen=True, kw_only=True, tag="MUTE_TRACK"):
    """The client declares its own microphone or camera off or on."""

    kind: Kind
    muted: bool


class LeaveRoom(Message, frozen=True, kw_only=True, tag="LEAVE_ROOM"):
    """The user leaves for good; a lost socket is not this."""


class StopRecording(Message, frozen=True, kw_only=True, tag="STOP_RECORDING"):
    """A party of a private room wants its recording stopped: done before anything else is handed out."""


class Ping(Message, frozen=True, kw_only=True, tag="PING"):
    """Answered with PONG, also before a join."""


ClientMessage = (
    JoinRoom
    | PublishOffer
    | SubscribeAnswer
    | IceCandidate
    | RestartIce
    | SelectLayer
    | MuteTrack
    | LeaveRoom
    | StopRecording
    | Ping
)


# --- server to client -------------------------------------------------------------------------------


class TrackInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A published track."""

    track_id: str
    kind: Kind


class ParticipantInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who is in the room."""

    user_id: str
    display_name: str
    tracks: tuple[TrackInfo, ...]


class SlotInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whose track an m-line of the subscribe offer carries."""

    track_id: str
    user_id: str
    kind: Kind


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The private session behind a room; durations in milliseconds."""

    session_id: str
    paid_ms: int
    delivered_ms: int
    rate_per_minute: int
    minute_ms: int


class Joined(Message, frozen=True, kw_only=True, tag="JOINED", omit_defaults=True):
    """The seat is taken; publish and subscribe may begin."""

    room_id: str
    user_id: str
    ice_servers: tuple[IceServer, ...] = msgspec.field()
    participants: tuple[ParticipantInfo, ...] = msgspec.field()
    session: SessionInfo | None = None


class PublishAnswer(Message, frozen=True, kw_only=True, tag="ANSWER"):
    """The answer to a publish offer."""

    sdp: str
    pc: Literal["publish"] = "publish"


class SubscribeOffer(Message, frozen=True, kw_only=True, tag="OFFER"):
    """What the client may receive; ``tracks`` maps each used mid."""

    sdp: str
    revision: int
    tracks: dict[str, SlotInfo]
    pc: Literal["subscribe"] = "subscribe"


class Tracks(Message, frozen=True, kw_only=True, tag="TRACKS"):
    """Whose track each m-line of the last OFFER carries now: for who takes it, in place of an OFFER that repeats a
    description that was answered. It is not answered itself."""

    tracks: dict[str, SlotInfo]
    pc: Literal["subscribe"] = "subscribe"


class ParticipantJoined(Message, frozen=True, kw_only=True, tag="PARTICIPANT_JOINED"):
    """Somebody else took a seat."""

    user_id: str
    display_name: str


class ParticipantLeft(Message, frozen=True, kw_only=True, tag="PARTICIPANT_LEFT"):
    """Somebody else's seat is free."""

    user_id: str
    display_name: str


class ActiveSpeaker(Message, frozen=True, kw_only=True, tag="ACTIVE_SPEAKER"):
    """Who speaks loudest now."""

    user_id: str


class SessionClock(Message, frozen=True, kw_only=True, tag="SESSION_CLOCK", omit_defaults=True):
    """The one true clock of a session, at each change and at least every 5 s."""

    state: Literal["waiting", "running", "paused"]
    delivered_ms: int
    paid_ms: int
    rate_per_minute: int
    cause: str | None = None


class TrackState(Message, frozen=True, kw_only=True, tag="TRACK_STATE", omit_defaults=True):
    """Whether somebody's picture or sound arrives. ``cause``: ``last_n`` when it is on, but not sent to this
    participant for now because others have spoken since."""

    user_id: str
    kind: Kind
    state: Literal["on", "off", "stalled"]
    cause: Literal["last_n"] | None = None


class ConnectionQuality(Message, frozen=True, kw_only=True, tag="CONNECTION_QUALITY"):
    """How a participant's way to the node and back is, graded by the node (``media.quality``). Everybody is told
    of itself and of those who publish, in a private room of the other party in any case."""

    user_id: str
    quality: Literal["good", "fair", "poor", "lost"]


class Recording(Message, frozen=True, kw_only=True, tag="RECORDING"):
    """Whether the private room's media may be recorded. ``on`` is said before the first frame is handed out,
    ``off`` after the last one."""

    state: Literal["on", "off"]
    elapsed_ms: int = 0


class SpectatorUrl(Message, frozen=True, kw_only=True, tag="SPECTATOR_URL"):
    """Where a spectator finds the stream."""

    stream_url: str


class TerminateCall(Message, frozen=True, kw_only=True, tag="TERMINATE_CALL"):
    """Always the last message; the server has stopped forwarding already and closes with 4001."""

    reason: Reason
    redirect_url: str = "/models"


ErrorCode = Literal[
    "BAD_MESSAGE",
    "FORBIDDEN",
    "ROOM_FULL",
    "ROOM_NOT_FOUND",
    "RATE_LIMITED",
    "ALREADY_JOINED",
    "UNAVAILABLE",
]


class Error(Message, frozen=True, kw_only=True, tag="ERROR"):
    """A refusal; ``message`` is for people."""

    code: ErrorCode
    message: str


class Pong(Message, frozen=True, kw_only=True, tag="PONG"):
    """The answer to PING."""


ServerMessage = (
    Joined
    | PublishAnswer
    | SubscribeOffer
    | Tracks
    | IceCandidate
    | ParticipantJoined
    | ParticipantLeft
    | ActiveSpeaker
    | SessionClock
    | TrackState
    | ConnectionQuality
    | Recording
    | SpectatorUrl
    | TerminateCall
    | Error
    | Pong
)

_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
decode_client = _client.decode
"""Raises msgspec.DecodeError (its subclass ValidationError included) for anything that is no client message."""

encode = msgspec.json.encode
