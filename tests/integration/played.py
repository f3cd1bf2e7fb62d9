"""One call of a minute between two outside clients of a house, in the middle of which something is lost.

The clients come back to the room by themselves, as browsers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from demo import PASSWORD
from demo.peer import Peer
from demo.side import PATIENCE_SECONDS, Side
from ops.house import House

RATE = 100
# A frame that was on its way when something was lost, decoded late, and the clip's own jitter.
STRAY_FRAMES = 15


class Played(NamedTuple):
    """What came of it. ``frames``: that the fan decoded. ``spent``: by how much the fan's balance fell."""

    receipt: dict[str, Any]
    frames: int
    spent: int
    reasons: set[str]
    """Why it was over for either."""


async def played(house: House, clip: Path, lose: Callable[[str], Any]) -> Played:
    """Play it; once the fan's time runs, ``lose`` is called in a thread with the session's id."""
    url = house.environment["PUBLIC_URL"]
    async with Peer(url) as creator, Peer(url) as fan:
        await creator.sign_in("creator_a@demo.test", PASSWORD)
        await fan.sign_in("fan_a@demo.test", PASSWORD)
        terms = {"enabled": True, "ratePerMinute": RATE, "minMinutes": 1, "autoAccept": "manual"}
        await creator.call("PUT", "/api/streaming/private-settings", terms)
        before = (await fan.call("GET", "/api/wallet"))["available"]
        stream = await creator.call("POST", "/api/streaming/streams", {})
        wish = {"creatorId": creator.user_id, "streamId": stream["streamId"], "minutes": 1}
        request = await fan.call("POST", "/api/streaming/private-request", wish)
        accepted = await creator.call("POST", "/api/streaming/private-accept", {"requestId": request["requestId"]})
        session_id = accepted["sessionId"]
        sides = (Side(creator, accepted["roomId"], clip), Side(fan, accepted["roomId"], None))
        staying = [asyncio.create_task(side.stay()) for side in sides]
        try:
            await asyncio.wait_for(sides[1].running.wait(), PATIENCE_SECONDS)
            await asyncio.to_thread(lose, session_id)
            reasons = await asyncio.wait_for(asyncio.gather(*staying), 2 * PATIENCE_SECONDS)
            receipt = await signed_receipt(fan, session_id)
            assert receipt == await signed_receipt(creator, session_id)
            after = (await fan.call("GET", "/api/wallet"))["available"]
        finally:
            # Whatever became of this call, the next one begins with a creator who is off the air.
            await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
    return Played(receipt, sides[1].frames, before - after, set(reasons))


async def signed_receipt(person: Peer, session_id: str) -> dict[str, Any]:
    """The clock, which may be what was lost, signs it some time after the end."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while "signature" not in (receipt := await person.receipt(session_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return receipt
