"""The ways in which a private stream ends, each played once by outside clients and held against the end table.

Knows the public contract and the printed terms; whatever is not as promised is collected, not raised, so
that one run shows everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from demo.peer import Peer
from demo.seat import Ended, Seat

JSON = dict[str, Any]
RATE = 100
MINIMUM = 1
COMMISSION_PERCENT = 20
# What may still be on its way through a socket's buffer when the last message has been read.
STRAY_SECONDS = 0.25


class Stage(msgspec.Struct):
    """Who plays, and what was found wrong."""

    creator: Peer
    fan: Peer
    buyer: Peer
    """A fan whose tokens are bought, not given."""
    integrator: Peer
    clip: Path
    minute_ms: int
    stream: JSON = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    case: str = ""
    put_out: asyncio.Task[None] | None = None
    """Watches the public viewer being put out."""

    def check(self, promised: bool, what: str) -> None:
        """Note what is not as promised."""
        if not promised:
            self.problems.append(f"{self.case}: {what}")
            print(f"    NOT AS PROMISED: {what}", flush=True)

    def minutes(self, count: float) -> float:
        """Seconds of so many of the demo's short minutes."""
        return count * self.minute_ms / 1000


class Call(msgspec.Struct):
    """One private stream as both sides' clients saw it; ``time.monotonic`` seconds."""

    fan: Peer
    session_id: str
    room_id: str
    minutes: int
    balance_before: int
    asked_at: float
    accepted_at: float
    fan_seat: Seat
    creator_seat: Seat


async def ask(stage: Stage, fan: Peer, minutes: int) -> JSON:
    """A request, heard of by the creator."""
    answer = await fan.call(
        "POST",
        "/api/streaming/private-request",
        {
            "creatorId": stage.creator.user_id,
            "streamId": stage.stream["streamId"],
            "minutes": minutes,
            "maxTotalCost": RATE * max(minutes, MINIMUM),
        },
    )
    await stage.creator.told("PRIVATE_REQUESTED", requestId=answer["requestId"])
    return answer


async def start(stage: Stage, fan: Peer, minutes: int) -> Call:
    """From the wish to the fan's first decoded picture."""
    balance = (await fan.call("GET", "/api/wallet"))["available"]
    asked_at = time.monotonic()
    answer = await ask(stage, fan, minutes)
    stage.check(answer["balance"] == balance - answer["totalCost"], "the price is not held at once")
    accepted = await stage.creator.call(
        "POST", "/api/streaming/private-accept", {"requestId": answer["requestId"]}
    )
    told = await fan.told("PRIVATE_ACCEPTED", sessionId=accepted["sessionId"])
    creator_seat, fan_seat = await asyncio.gather(
        stage.creator.join(accepted["roomId"], publish=stage.clip), fan.join(accepted["roomId"])
    )
    await asyncio.wait_for(fan_seat.first_frame.wait(), 15)
    return Call(
        fan=fan,
        session_id=accepted["sessionId"],
        room_id=accepted["roomId"],
        minutes=minutes,
        balance_before=balance,
        asked_at=asked_at,
        accepted_at=told.at,
        fan_seat=fan_seat,
        creator_seat=creator_seat,
    )


async def finish(
    stage: Stage, call: Call, reason: str, billed: Callable[[JSON], int], *, paid: bool = True
) -> None:
    """Wait for the end on both sides, print and check the receipt, go back to public."""
    ended = await asyncio.wait_for(call.fan_seat.ended, 30)
    await asyncio.wait_for(call.creator_seat.ended, 30)
    receipt = await call.fan.receipt(call.session_id, seconds=30, signed=True)
    _print_timeline(call, ended)
    _print_receipt(receipt)
    check_media(stage, call, ended)
    check_receipt(stage, call, receipt, reason, billed(receipt), paid)
    stage.check(receipt == await stage.creator.receipt(call.session_id, signed=True), "the two receipts differ")
    if paid:
        wallet = await call.fan.call("GET", "/api/wallet")
        expected = call.balance_before - receipt["earnings"] - receipt["commission"]
        stage.check(wallet["available"] == expected, f"the fan has {wallet['available']}, not {expected}")
        stage.check(wallet["held"] == 0, "something is still held")
    for peer, seat in ((call.fan, call.fan_seat), (stage.creator, call.creator_seat)):
        await peer.forget(seat)
    await stage.creator.call("POST", f"/api/streaming/streams/{stage.stream['streamId']}/resume")


def check_media(stage: Stage, call: Call, ended: Ended) -> None:
    """The fan decoded real pictures and sound, and nothing came after the last word."""
    seen = call.fan_seat.seen
    stage.check(seen.frames > 10, f"only {seen.frames} frames were decoded")
    stage.check((seen.width, seen.height) == (1280, 720), f"the picture is {seen.width}×{seen.height}")
    stage.check(seen.samples > 0, "no sound was decoded")
    late = (seen.last_packet_at or 0.0) - ended.at
    stage.check(late < STRAY_SECONDS, f"media came {late * 1000:.0f} ms after the end")


def check_receipt(stage: Stage, call: Call, receipt: JSON, reason: str, billed: int, paid: bool) -> None:
    """The receipt's arithmetic, its reason, and its transfers."""
    charged = billed * RATE if paid else 0
    commission = charged * COMMISSION_PERCENT // 100
    held = RATE * max(call.minutes, MINIMUM)
    for name, promised in (
        ("endReason", reason),
        ("billedMinutes", billed if paid else receipt["billedMinutes"]),
        ("minuteMs", stage.minute_ms),
        ("paidMs", max(call.minutes, MINIMUM) * stage.minute_ms),
        ("totalHeld", held),
        ("earnings", charged - commission),
        ("commission", commission),
        ("refunded", held - charged),
    ):
        stage.check(receipt[name] == promised, f"{name} is {receipt[name]}, not {promised}")
    stage.check(0 < receipt["deliveredMs"] <= receipt["paidMs"], f"deliveredMs is {receipt['deliveredMs']}")
    sums = [sum(entry["amount"] for entry in one["entries"]) for one in receipt["transfers"]]
    stage.check(bool(sums) and not any(sums), "a transfer does not sum to zero")


async def time_expired(stage: Stage) -> None:
    """Nobody does anything: the media node cuts at the paid second."""
    call = await start(stage, stage.fan, 2)
    started = await call.fan_seat.wait_for_clock("running")
    stage.check(started["paidMs"] == 2 * stage.minute_ms, "the clock shows another paid time")
    ended = await asyncio.wait_for(call.fan_seat.ended, stage.minutes(2) + 15)
    stage.check((ended.reason, ended.code) == ("TIME_EXPIRED", 4001), f"the fan was told {ended}")
    await finish(stage, call, "TIME_EXPIRED", lambda receipt: 2)


async def fan_leaves(stage: Stage) -> None:
    """The fan ends the call in its second minute."""
    call = await start(stage, stage.fan, 3)
    await asyncio.sleep(stage.minutes(1.3))
    await call.fan.call("POST", "/api/streaming/private-end", {"sessionId": call.session_id})
    await finish(
        stage, call, "ENDED_BY_FAN", lambda receipt: max(MINIMUM, -(-receipt["deliveredMs"] // stage.minute_ms))
    )


async def creator_leaves(stage: Stage) -> None:
    """The creator leaves the room in the second minute: the first alone is paid."""
    call = await start(stage, stage.fan, 3)
    await asyncio.sleep(stage.minutes(1.3))
    await call.creator_seat.leave()
    await finish(stage, call, "ENDED_BY_CREATOR", lambda receipt: receipt["deliveredMs"] // stage.minute_ms)


async def declined(stage: Stage) -> None:
    """The creator declines: the tokens are free again in the same instant."""
    before = (await stage.fan.call("GET", "/api/wallet"))["available"]
    answer = await ask(stage, stage.fan, 2)
    await stage.creator.call("POST", "/api/streaming/private-decline", {"requestId": answer["requestId"]})
    await stage.fan.told("PRIVATE_DECLINED", requestId=answer["requestId"])
    wallet = await stage.fan.call("GET", "/api/wallet")
    stage.check((wallet["available"], wallet["held"]) == (before, 0), f"the wallet is {wallet}")
    print(f"    {answer['totalCost']} tokens were held and came back")


async def terminated(stage: Stage) -> None:
    """An integrator cuts the fan. Its label says PAYMENT_FAILED; the payments are good, so nobody is at fault."""
    call = await start(stage, stage.fan, 3)
    await asyncio.sleep(stage.minutes(1.3))
    asked_at = time.monotonic()
    answer = await stage.integrator.call(
        "POST",
        "/api/rtc/terminate-stream",
        {"roomId": call.room_id, "userId": stage.fan.user_id, "reason": "PAYMENT_FAILED"},
    )
    confirmed_at = time.monotonic()
    stage.check(answer == {"success": True}, f"the answer is {answer}")
    ended = await asyncio.wait_for(call.fan_seat.ended, 5)
    stage.check(ended.reason == "PAYMENT_FAILED", f"the fan was told {ended.reason}")
    last = call.fan_seat.seen.last_packet_at or 0.0
    print(f"    cut confirmed after {(confirmed_at - asked_at) * 1000:.0f} ms,", end="")
    print(f" last packet {(last - asked_at) * 1000:.0f} ms after the call")
    stage.check(last < confirmed_at + STRAY_SECONDS, "media came after the confirmation")
    await finish(stage, call, "MEDIA_FAILURE", lambda receipt: receipt["deliveredMs"] // stage.minute_ms)


async def payment_fails(stage: Stage) -> None:
    """The fan's card fails 40 (shortened) seconds after it was charged; the poll finds out."""
    await stage.buyer.call("POST", "/api/wallet/top-up", {"packageId": "tokens-1000", "card": "fails-later"})
    call = await start(stage, stage.buyer, 3)
    ended = await asyncio.wait_for(call.fan_seat.ended, stage.minutes(3) + 15)
    stage.check(ended.reason == "PAYMENT_FAILED", f"the fan was told {ended.reason}")
    await finish(stage, call, "PAYMENT_FAILED", lambda receipt: 0, paid=False)
    wallet = await stage.buyer.call("GET", "/api/wallet")
    stage.check(wallet["available"] == 0 and wallet["held"] == 0, f"the bad tokens are still there: {wallet}")


CASES: tuple[tuple[str, Callable[[Stage], Awaitable[None]]], ...] = (
    ("time expired", time_expired),
    ("the fan leaves early", fan_leaves),
    ("the creator leaves early", creator_leaves),
    ("declined", declined),
    ("an integrator terminates", terminated),
    ("the payment fails", payment_fails),
)


def _print_timeline(call: Call, ended: Ended) -> None:
    seen = call.fan_seat.seen

    def since(moment: float | None) -> str:
        return "never" if moment is None else f"{(moment - call.asked_at) * 1000:,.0f} ms"

    print("    timeline   request 0 ms", end="")
    print(f" → accepted {since(call.accepted_at)} → first frame {since(seen.first_frame_at)}", end="")
    print(f" → last packet {since(seen.last_packet_at)} → cut {since(ended.at)} ({ended.reason})")
    print(f"    received   {seen.frames} frames decoded at {seen.width}×{seen.height}, {seen.packets} packets")


def _print_receipt(receipt: JSON) -> None:
    print(f"    receipt    {receipt['endReason']}: paid {receipt['paidMs']} ms, delivered", end="")
    print(f" {receipt['deliveredMs']} ms, minute {receipt['minuteMs']} ms, billed {receipt['billedMinutes']} min")
    print(f"               held {receipt['totalHeld']} = creator {receipt['earnings']}", end="")
    print(f" + fee {receipt['commission']} + back {receipt['refunded']} tokens")
    for transfer in receipt["transfers"]:
        moves = ", ".join(f"{entry['account']} {entry['amount']:+d}" for entry in transfer["entries"])
        print(f"               {transfer['kind']}: {moves}", flush=True)
