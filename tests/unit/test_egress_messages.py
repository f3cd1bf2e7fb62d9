"""What leaves a media node for a transcode worker is read as it was written, by those alone who may."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import egress_tickets
from models.errors import Forbidden
from models.messages import egress
from models.messages.egress import EncodedFrame

KEY, ROOM = b"k" * 32, "live-str_one"
NOW = 1_800_000_000.5


@given(
    source_id=st.integers(0, 0xFFFF),
    capture_us=st.integers(0, 2**64 - 1),
    key_frame=st.booleans(),
    after_loss=st.booleans(),
    payload=st.binary(min_size=1, max_size=50),
)
def test_a_frame_is_unpacked_as_it_was_packed(**fields: object) -> None:
    frame = EncodedFrame(**fields)  # type: ignore[arg-type]
    assert egress.unpack(egress.pack(frame)) == frame


def test_the_header_is_twelve_bytes_in_network_order() -> None:
    data = egress.pack(EncodedFrame(0x0102, 0x1122334455667788, True, True, b"x"))
    assert data == bytes.fromhex("01 03 0102 1122334455667788") + b"x"


@pytest.mark.parametrize("data", [b"", b"\x01", bytes((1, 0)) + bytes(10), b"\x02" + bytes(30)])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="format 1"):
        egress.unpack(data)


@pytest.mark.parametrize(
    "message",
    [
        egress.Source(source_id=1, user_id="usr_a", display_name="Ada Ä", kind="video", codec="VP8"),
        egress.SourceStateChanged(source_id=1, state="stalled"),
        egress.SourceEnded(source_id=1),
        egress.RoomClosed(reason="STREAM_PRIVATE"),
    ],
)
def test_a_message_of_the_node_is_read_back(message: egress.ServerMessage) -> None:
    assert egress.decode_server(egress.encode(message)) == message


def test_names_on_the_wire_are_camel_case() -> None:
    assert egress.encode(egress.KeyFrameWanted(source_id=7)) == b'{"type":"KEY_FRAME_WANTED","sourceId":7}'
    assert egress.decode_client(b'{"type":"KEY_FRAME_WANTED","sourceId":7,"new":1}').source_id == 7
    with pytest.raises(msgspec.DecodeError):
        egress.decode_client(b'{"type":"SOURCE_ENDED","sourceId":7}')


def test_a_ticket_opens_its_room_for_a_minute() -> None:
    ticket = egress_tickets.sign(ROOM, KEY, NOW)
    egress_tickets.verify(ticket, ROOM, KEY, NOW + 59)
    with pytest.raises(Forbidden):
        egress_tickets.verify(ticket, ROOM, KEY, NOW + 60)


def test_a_ticket_is_for_one_room_and_of_one_key() -> None:
    ticket = egress_tickets.sign(ROOM, KEY, NOW)
    for room, key in [("live-str_two", KEY), (ROOM, b"x" * 32)]:
        with pytest.raises(Forbidden):
            egress_tickets.verify(ticket, room, key, NOW)


def test_the_key_of_one_room_signs_for_no_other() -> None:
    mine, other = (egress_tickets.room_key(KEY, room) for room in (ROOM, "live-str_two"))
    # HMAC-SHA-256 of "live-str_one", as openssl says it
    assert mine.hex() == "77ab16804645a167ee36ffa570136815a33d33fabec4c449d56df69236f6d839"
    egress_tickets.verify(egress_tickets.sign(ROOM, mine, NOW), ROOM, mine, NOW)
    for forged in (egress_tickets.sign("live-str_two", mine, NOW), egress_tickets.sign("live-str_two", KEY, NOW)):
        with pytest.raises(Forbidden):
            egress_tickets.verify(forged, "live-str_two", other, NOW)


@given(st.text(max_size=100) | st.from_regex(r"[0-9]{1,80}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_whatever_was_not_signed_is_refused(text: str) -> None:
    with pytest.raises(Forbidden):
        egress_tickets.verify(text, ROOM, KEY, NOW)


def test_a_later_expiry_is_not_believed() -> None:
    expires, _, mac = egress_tickets.sign(ROOM, KEY, NOW).partition(".")
    with pytest.raises(Forbidden):
        egress_tickets.verify(f"{int(expires) + 1}.{mac}", ROOM, KEY, NOW)
