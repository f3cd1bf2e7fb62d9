"""Egress: what a media node hands to a transcode worker, over a WebSocket on the node's private address.

Text frames say which sources there are; binary frames are encoded pictures and sounds, each whole, each
behind a fixed header. No container format: whoever reads feeds them to decoders one by one.
Knows nothing of RTP (the node took it off) and nothing of what is made of the frames.

``GET /egress/<roomId>`` with ``Authorization: Bearer <ticket>`` (models/egress_tickets.py) opens it. Instead
of the upgrade: 401 without a good ticket, 403 for a room that is private and whose parties have not both
agreed to be recorded, 404 for none, 503 when taken.
"""

from __future__ import annotations

from struct import Struct
from typing import Literal, NamedTuple

import msgspec

from models.messages.commands import Reason
from models.messages.signaling import Kind

PATH = "/egress/"
"""Followed by the room id."""

FORMAT = 1
"""First byte of every binary frame."""
KEY_FRAME = 1
"""Flag: decoding can begin here. Always set for sound."""
AFTER_LOSS = 2
"""Flag: frames of this source were dropped right before this one, by the network or by a slow reader."""
HEADER = Struct(">BBHQ")
"""Format, flags, source id, capture time in microseconds of Unix time by the node's clock."""

Codec = Literal["VP8", "H264", "OPUS"]
"""Payloads: a VP8 frame (RFC 6386); an H.264 access unit in Annex B, a key frame with its SPS and PPS; one
Opus packet (RFC 6716)."""
SourceState = Literal["on", "off", "stalled"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """Base of all text messages; unknown fields are ignored."""


# --- node to reader ---------------------------------------------------------------------------------


class Source(Message, frozen=True, kw_only=True, tag="SOURCE"):
    """A track whose frames follow. It is ``on`` until a ``SOURCE_STATE`` says otherwise.

    Source ids are 16 bit, of this connection only, and not used again before 65,535 others were.
    """

    source_id: int
    user_id: str
    display_name: str
    kind: Kind
    codec: Codec


class SourceStateChanged(Message, frozen=True, kw_only=True, tag="SOURCE_STATE"):
    """``off``: its owner switched it off; ``stalled``: nothing came for a while. Frames may be under way."""

    source_id: int
    state: SourceState


class SourceEnded(Message, frozen=True, kw_only=True, tag="SOURCE_ENDED"):
    """No frame of this source follows."""

    source_id: int


class RoomClosed(Message, frozen=True, kw_only=True, tag="ROOM_CLOSED"):
    """The last message: no frame follows, the connection is closed with 1000. A connection that ends
    without it was cut: connect again."""

    reason: Reason | Literal["RECORDING_STOPPED"]
    """``RECORDING_STOPPED``: the room goes on, its media may not be read any more."""


ServerMessage = Source | SourceStateChanged | SourceEnded | RoomClosed


# --- reader to node ---------------------------------------------------------------------------------


class KeyFrameWanted(Message, frozen=True, kw_only=True, tag="KEY_FRAME_WANTED"):
    """Ask the publisher for a key frame; requests within about 300 ms become one. A new connection's first
    key frames are asked for by the node itself, as is the one after a loss that the node has seen."""

    source_id: int


ClientMessage = KeyFrameWanted

encode = msgspec.json.encode
_server: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
decode_server = _server.decode
"""Raises msgspec.DecodeError for what is no message of a node."""
_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
decode_client = _client.decode
"""Raises msgspec.DecodeError for what is no message of a reader."""


# --- binary frames ----------------------------------------------------------------------------------


class EncodedFrame(NamedTuple):
    """One whole encoded picture, or one packet of sound."""

    source_id: int
    capture_us: int
    """Microseconds of Unix time by the node's clock; strictly increasing within a source. Sound and picture
    of one participant share a clock."""
    key_frame: bool
    after_loss: bool
    payload: bytes


def pack(frame: EncodedFrame) -> bytes:
    """The binary frame on the wire."""
    flags = KEY_FRAME * frame.key_frame | AFTER_LOSS * frame.after_loss
    return HEADER.pack(FORMAT, flags, frame.source_id, frame.capture_us) + frame.payload


def unpack(data: bytes) -> EncodedFrame:
    """What ``pack`` packed. Raises ValueError for another format or an empty payload."""
    if len(data) <= HEADER.size or data[0] != FORMAT:
        raise ValueError("not an egress frame of format 1")
    _, flags, source_id, capture_us = HEADER.unpack_from(data)
    return EncodedFrame(
        source_id, capture_us, bool(flags & KEY_FRAME), bool(flags & AFTER_LOSS), data[HEADER.size :]
    )
