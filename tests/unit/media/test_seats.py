"""Seats: what an answer says of a line, and what a later one may still change."""

from __future__ import annotations

from media.aiortc_seam import Line
from media.seats import Seats
from media.tracks import PublishedTrack, Slot

VP8 = {"VP8": 97}
RTX = {"VP8": 98}
NOTHING = Line("1", {}, {})


def watched(*answers: Line) -> Slot:
    """The picture of the first seat after these answers, with a camera in it."""
    seats = Seats(lambda kind, seat: (7 + (kind == "video"), 9))
    track = PublishedTrack(track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=90_000)
    slot = seats.slot_for(track)
    assert slot is not None
    for answer in answers:
        seats.negotiate([NOTHING, answer])
    track.add(slot, 0)
    return slot


def test_what_was_sent_with_a_number_is_never_repeated_as_it_was() -> None:
    # Given a picture that was numbered, as repeats go out by themselves
    first = Line("1", VP8, RTX, 3)
    assert watched(first).extension() == 3
    # When a later answer takes no repeats, no numbers, or calls them otherwise
    for later in (Line("1", VP8, {}, 3), Line("1", VP8, RTX, 0), Line("1", {"VP8": 100}, {"VP8": 101}, 5)):
        slot = watched(first, later)
        # Then whatever was sent is repeated as before
        assert (slot.payload_type(), slot.repair_type(), slot.extension()) == (97, 98, 3)
    # Nor is what was sent without one
    for plain in (Line("1", VP8, {}, 3), Line("1", VP8, RTX, 0)):
        before, after = watched(plain), watched(plain, first)
        assert before.extension() == after.extension() == 0
        assert before.repair_type() == after.repair_type()


def test_who_takes_a_codec_no_more_is_not_sent_it_and_gets_it_back_as_it_was() -> None:
    first = Line("1", VP8, RTX, 3)
    assert watched(first, NOTHING).payload_type() is None
    assert watched(first, Line("1", {"H264": 102}, {}, 3)).payload_type() is None
    slot = watched(first, NOTHING, Line("1", {"VP8": 97}, {}, 0))
    assert (slot.payload_type(), slot.repair_type(), slot.extension()) == (97, 98, 3)
    # A line that was refused at first is negotiated when it is taken
    slot = watched(NOTHING, first)
    assert (slot.payload_type(), slot.repair_type(), slot.extension()) == (97, 98, 3)
