"""Each command is carried out once, in time, or not at all; and the desk never fails."""

from __future__ import annotations

from media.control import CommandDesk
from models.messages import codec
from models.messages.commands import AnyCommand, CloseRoom, Reply


class Hand:
    def __init__(self) -> None:
        self.done: list[str] = []

    def carry_out(self, command: AnyCommand) -> Reply:
        if command.message_id == "broken":
            raise RuntimeError("broken")
        self.done.append(command.message_id)
        return Reply(ok=len(self.done) == 1, code="" if len(self.done) == 1 else "NOT_CONNECTED")


def close(message_id: str = "m1", *, deadline_at: float = 100.0, version: int = 1) -> bytes:
    return codec.encode(
        CloseRoom(
            message_id=message_id, cause_id="c", deadline_at=deadline_at, version=version, room_id="r",
            reason="MODERATION",
        )
    )  # fmt: skip


def test_a_repeat_gets_the_first_answer() -> None:
    hand = Hand()
    desk = CommandDesk(hand.carry_out)
    assert [desk.handle(close(), 50.0).ok for _ in range(3)] == [True] * 3
    assert desk.handle(close(), 500.0).ok, "also after its deadline"
    assert hand.done == ["m1"]


def test_a_late_command_is_not_carried_out() -> None:
    hand = Hand()
    assert CommandDesk(hand.carry_out).handle(close(), 100.1).code == "TOO_LATE"
    assert hand.done == []


def test_what_cannot_be_read_is_refused_loudly() -> None:
    desk = CommandDesk(Hand().carry_out)
    for body in (b"", b"{}", b"\xff", close(version=2), b'{"type":"Nope"}'):
        assert desk.handle(body, 0.0).code == "UNKNOWN_COMMAND"


def test_a_failure_is_answered_and_may_be_tried_again() -> None:
    desk = CommandDesk(Hand().carry_out)
    assert desk.handle(close("broken"), 0.0).code == "FAILED"
    assert desk.handle(close("m1"), 0.0).ok


def test_memory_is_bounded() -> None:
    hand = Hand()
    desk = CommandDesk(hand.carry_out, remembered=2)
    for name in ("a", "b", "c", "a"):
        desk.handle(close(name), 0.0)
    assert hand.done == ["a", "b", "c", "a"]
