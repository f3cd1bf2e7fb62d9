"""A room in which many come and go: its viewers stay, and negotiate only where there are more m-lines."""

from __future__ import annotations

from crowds import AT_ONCE, CAST, NO_MORE, crowd, heard_out, owners, room_of
from media_clients import until
from seats import CREATOR, FAN, Seat, Stage, plays, signed_grant

NEGOTIATIONS = 3
"""Of nine: one seat at first, then four at a time."""


def descriptions(seat: Seat) -> list[str]:
    return [offer["sdp"] for offer in seat.of("OFFER")]


@NO_MORE
@plays
async def test_who_answers_each_offer_stays_however_many_come_and_go(stage: Stage) -> None:
    # Given one who answers every offer, as anybody may, one who takes changes without them, and one who
    # answers nothing
    publishers = CAST[:9]
    room_id = stage.open(room_of(publishers))
    many = await crowd(stage, room_id)
    answering = await stage.join(room_id, FAN, publish=False)
    modern, mute = await stage.connect(), await stage.connect()
    await modern.join(room_id, "usr_modern", signed_grant(room_id, "usr_modern", publish=False), takesTracks=True)
    await mute.join(room_id, "usr_mute", signed_grant(room_id, "usr_mute", publish=False))
    mute.answering = False
    # When everybody comes, and some leave and come again
    for user_id in publishers:
        await many.comes(user_id, answering, modern)
    for user_id in publishers[:4]:
        await many.leaves(user_id, answering, modern)
    for user_id in publishers[:4]:
        await many.comes(user_id, answering, modern)
    # Then who answered more often than a client may send descriptions by itself is there, and knows everybody
    assert len(answering.of("OFFER")) > AT_ONCE
    for seat in (answering, modern):
        assert (seat.errors, seat.close_code) == ([], None)
        assert owners(seat) == set(publishers)
        assert len(set(descriptions(seat))) == NEGOTIATIONS
    # And nobody is sent a description twice who can do without
    assert len(descriptions(modern)) == len(set(descriptions(modern)))
    # And who never answered was asked once, and when it does, hears the rest as one
    assert len(mute.of("OFFER")) == 1
    mute.answering = True
    await mute._answer(mute.of("OFFER")[0])
    await until(lambda: owners(mute) == set(publishers), "it knows everybody")
    assert len(mute.of("OFFER")) == 2


@NO_MORE
@plays
async def test_answers_to_nothing_are_a_flood(stage: Stage) -> None:
    room_id = stage.open(room_of(CAST[:2]))
    many = await crowd(stage, room_id)
    watching = await stage.join(room_id, "usr_honest", publish=False)
    for name, revision in (("usr_again", 1), ("usr_ahead", 7), ("usr_before", 0)):
        # Given a client that has answered what it was offered
        hostile = await stage.join(room_id, name, publish=False)
        await many.comes(CREATOR, hostile, watching)
        assert [offer["revision"] for offer in hostile.of("OFFER")] == [1]
        # When it answers again, what was never offered, or what is long past
        for _ in range(AT_ONCE):
            await hostile.send(type="ANSWER", pc="subscribe", sdp="v=0", revision=revision)
        await heard_out(hostile)
        await hostile.send(type="ANSWER", pc="subscribe", sdp="v=0", revision=revision)
        # Then it is closed as soon as that is more than it may send by itself
        assert await hostile.closed() == 1008
        assert hostile.errors == ["RATE_LIMITED"]
        await many.leaves(CREATOR, watching)
    assert watching.close_code is None


@NO_MORE
@plays
async def test_an_answer_that_is_none_may_be_repeated_but_not_for_ever(stage: Stage) -> None:
    room_id = stage.open(room_of(CAST[:2]))
    many = await crowd(stage, room_id)
    viewer = await stage.join(room_id, FAN, publish=False)
    viewer.answering = False
    await many.comes(CREATOR)
    await viewer.hears("OFFER")
    await viewer.send(type="ANSWER", pc="subscribe", sdp="v=0", revision=1)
    await viewer.hears("ERROR")
    assert viewer.errors == ["BAD_MESSAGE"]
    viewer.answering = True
    await viewer._answer(viewer.of("OFFER")[0])
    await many.comes(CAST[1], viewer)
    assert owners(viewer) == {CREATOR, CAST[1]}
