"""Real clients in a room: who speaks is said to all, whose picture goes to whom follows it, and how everybody is
connected is told to them, and to nobody whom it does not concern."""

from __future__ import annotations

import asyncio

import av
from media_clients import Tone, until
from seats import CREATOR, FAN, JSON, Seat, Stage, live_spec, plays, plays_with, private_spec

from models.messages.commands import RoomSpec

ANN, BOB = "usr_ann", "usr_bob"


class Voice(Tone):
    """A tone that can be hushed: digital silence, which a client's header extension calls -127 dBov."""

    speaking = False

    async def recv(self) -> av.AudioFrame:
        frame = await super().recv()
        if not self.speaking:
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        return frame


async def publishes(stage: Stage, room_id: str, user_id: str) -> tuple[Seat, Voice]:
    seat, voice = await stage.join(room_id, user_id), Voice()
    await seat.publish(sound=lambda: voice)  # type: ignore[arg-type]
    await until(lambda: bool(stage.node.rooms[room_id].participants[user_id].up), "it publishes")
    return seat, voice


def speaker(seat: Seat) -> str | None:
    said = seat.of("ACTIVE_SPEAKER")
    return said[-1]["userId"] if said else None


def pictures(seat: Seat) -> set[str]:
    """Whose pictures the last offer maps."""
    slots = [offer["tracks"].values() for offer in seat.of("OFFER")][-1:]
    return {slot["userId"] for each in slots for slot in each if slot["kind"] == "video"}


def state(seat: Seat, user_id: str) -> JSON | None:
    said = [m for m in seat.of("TRACK_STATE") if (m["userId"], m["kind"]) == (user_id, "video")]
    return said[-1] if said else None


def quality(seat: Seat, user_id: str) -> str | None:
    said = [message["quality"] for message in seat.of("CONNECTION_QUALITY") if message["userId"] == user_id]
    return said[-1] if said else None


@plays
async def test_who_speaks_is_said_to_everybody_and_to_who_comes_later(stage: Stage) -> None:
    # Given two who can be heard, both silent
    room = stage.open(RoomSpec(room_id="private-many", creator_id=CREATOR, parties=(CREATOR, ANN, BOB)))
    (creator, creators), (ann, anns) = [await publishes(stage, room, each) for each in (CREATOR, ANN)]
    await creator.decodes()
    assert speaker(creator) is None
    # When one speaks
    anns.speaking = True
    # Then both are told
    await until(lambda: speaker(creator) == ANN and speaker(ann) == ANN, "Ann is the speaker")
    # And who comes now, too
    bob = await stage.join(room, BOB)
    await until(lambda: speaker(bob) == ANN, "Bob is told at once")
    # When the other answers, and the first is silent
    anns.speaking, creators.speaking = False, True
    await until(lambda: speaker(creator) == speaker(ann) == speaker(bob) == CREATOR, "the creator is the speaker")
    # Then nothing of a level is passed on: the offer to subscribers names no header extension
    assert all("audio-level" not in offer["sdp"] for offer in bob.of("OFFER"))


@plays_with(MEDIA_LAST_N="1")
async def test_beyond_the_last_speaker_only_the_creators_picture_is_sent(stage: Stage) -> None:
    # Given a node that sends one picture beside the creator's, and three who publish
    room = stage.open(RoomSpec(room_id="private-many", creator_id=CREATOR, parties=(CREATOR, ANN, BOB)))
    creator, _ = await publishes(stage, room, CREATOR)
    ann, anns = await publishes(stage, room, ANN)
    await until(lambda: pictures(creator) == {ANN}, "the first who came is seen")
    bob, bobs = await publishes(stage, room, BOB)
    # Then the third is heard, not seen, and the creator is told why
    await until(lambda: state(creator, BOB) is not None, "the creator is told")
    assert state(creator, BOB) == {
        "type": "TRACK_STATE", "userId": BOB, "kind": "video", "state": "off", "cause": "last_n",
    }  # fmt: skip
    await until(lambda: {s["userId"] for s in creator.of("OFFER")[-1]["tracks"].values()} == {ANN, BOB}, "heard")
    assert pictures(creator) == {ANN}
    # And the two others see the creator and each other: each is the only other one
    await until(lambda: pictures(ann) == {CREATOR, BOB} and pictures(bob) == {CREATOR, ANN}, "all are seen")
    lines = creator.of("OFFER")[-1]["sdp"].count("m=")
    # When the third speaks
    bobs.speaking = True
    # Then it is seen instead, in m-lines that were there before
    await until(lambda: pictures(creator) == {BOB}, "the speaker is seen")
    # It is on again, or stands still for a moment where the machine is slow: not left out any more
    assert "cause" not in (state(creator, BOB) or {})
    assert state(creator, ANN)["cause"] == "last_n"  # type: ignore[index]
    assert creator.of("OFFER")[-1]["sdp"].count("m=") == lines
    seen = creator.frames["video"]
    await until(lambda: creator.frames["video"] > seen + 5, "the picture moves")
    # And when it leaves, the other is back
    await bob.send(type="LEAVE_ROOM")
    await until(lambda: pictures(creator) == {ANN}, "who is left is seen")
    assert anns.speaking is False


@plays
async def test_both_sides_of_a_call_are_told_how_each_of_them_is_connected(stage: Stage) -> None:
    # Given a call with media both ways
    room = stage.open(private_spec("one"))
    (creator, _), (fan, _) = [await publishes(stage, room, each) for each in (CREATOR, FAN)]
    # Then each is told of itself and of the other, whatever a slow machine makes of it
    for seat in (creator, fan):
        await until(lambda seat=seat: None not in (quality(seat, CREATOR), quality(seat, FAN)), "graded")  # type: ignore[misc]
    # When nothing comes from the fan any more
    assert fan.publishing is not None
    await asyncio.gather(*(pc.close() for pc in (fan.publishing, fan.subscribing) if pc is not None))
    # Then the creator is told that the fan's connection is lost, or gone with its seat
    await until(lambda: quality(creator, FAN) == "lost" or bool(creator.of("PARTICIPANT_LEFT")), "lost")


@plays
async def test_a_viewers_connection_is_its_own_business(stage: Stage) -> None:
    # Given a public stream with two viewers
    room = stage.open(live_spec())
    creator, _ = await publishes(stage, room, CREATOR)
    viewers = [await stage.join(room, each, publish=False) for each in (ANN, BOB)]
    for viewer, own in zip(viewers, (ANN, BOB), strict=True):
        await until(lambda viewer=viewer, own=own: quality(viewer, own) is not None, "of itself")  # type: ignore[misc]
        await until(lambda viewer=viewer: quality(viewer, CREATOR) is not None, "of the creator")  # type: ignore[misc]
    # Then neither the creator nor another viewer was told of it
    await until(lambda: quality(creator, CREATOR) is not None, "of itself")
    assert {quality(creator, each) for each in (ANN, BOB)} == {None}
    assert (quality(viewers[0], BOB), quality(viewers[1], ANN)) == (None, None)
