"""Messages survive the wire, and what cannot be read is refused loudly."""

from __future__ import annotations

import dramatiq
import msgspec
import pytest

from models.messages import codec, commands, events, routing, signaling
from models.timing import timers_for

OPEN = commands.OpenRoom(
    message_id="msg_1",
    cause_id="ses_1",
    deadline_at=2.5,
    room=commands.RoomSpec(
        room_id="private-ses_1",
        creator_id="usr_1",
        parties=("usr_1", "usr_2"),
        budget=commands.Budget(session_id="ses_1", paid_ms=60_000, rate_per_minute=100, timers=timers_for(60_000)),
    ),
)
OPENED = events.RoomOpened(
    message_id="msg_2",
    cause_id="ses_1",
    node_id="media-1",
    boot_id="boot_1",
    at="2026-01-01T00:00:00.000Z",
    room_id="live-1",
)


def test_commands_and_events_survive_the_wire() -> None:
    assert codec.decode_command(codec.encode(OPEN)) == OPEN
    assert codec.decode_event(codec.encode(OPENED)) == OPENED


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'{"type": "Surprise"}', codec.encode(msgspec.structs.replace(OPEN, version=2))]
)
def test_an_unknown_command_is_refused(body: bytes) -> None:
    with pytest.raises(codec.UnknownMessage):
        codec.decode_command(body)


def test_an_event_of_a_later_version_is_refused() -> None:
    with pytest.raises(codec.UnknownMessage):
        codec.decode_event(codec.encode(msgspec.structs.replace(OPENED, version=2)))


def test_the_envelope_is_what_dramatiq_reads() -> None:
    body = routing.dramatiq_envelope("media-events", "on_media_event", "msg_2", "text")
    message: dramatiq.Message[None] = dramatiq.Message.decode(body)
    assert (message.queue_name, message.actor_name, message.args) == ("media-events", "on_media_event", ("text",))
    assert message.message_id == "msg_2"


def test_signaling_speaks_the_contract() -> None:
    joined = signaling.decode_client(
        b'{"type":"JOIN_ROOM","roomId":"live-1","userId":"usr_1","isSpectator":false,"grant":"g","newer":1}'
    )
    assert joined == signaling.JoinRoom(room_id="live-1", user_id="usr_1", is_spectator=False, grant="g")
    ended = msgspec.json.decode(signaling.encode(signaling.TerminateCall(reason="PAYMENT_FAILED")))
    assert ended == {"type": "TERMINATE_CALL", "reason": "PAYMENT_FAILED", "redirectUrl": "/models"}
    offer = msgspec.json.decode(
        signaling.encode(
            signaling.SubscribeOffer(
                sdp="v=0", revision=1, tracks={"0": signaling.SlotInfo(track_id="t", user_id="u", kind="video")}
            )
        )
    )
    assert offer["pc"] == "subscribe"
    assert offer["tracks"]["0"] == {"trackId": "t", "userId": "u", "kind": "video"}


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff",
        b"null",
        b'{"type":"HELLO"}',
        b'{"type":"JOIN_ROOM"}',
        b'{"type":"OFFER","pc":"subscribe","sdp":""}',
        b'{"type":"SELECT_LAYER","trackId":"t","layer":"best"}',
    ],
)
def test_what_is_no_client_message_is_refused(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        signaling.decode_client(frame)
