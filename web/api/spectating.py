"""Spectating: the signed addresses of a room's broadcast, and their renewal. docs/contract.md §3, ``/live``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from models.clock import rfc3339
from models.ladder import Tier
from web import limits, live
from web.api.schema import ANYONE, Api, Call

api = Api("spectating")

RoomId = Annotated[str, msgspec.Meta(min_length=1, max_length=96)]


class SpectateBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which public room."""

    room_id: RoomId


class SpectateAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """Where to watch. ``ready``: the first segments are there. ``tier``: ``free`` up to 480p, ``premium`` 720p.

    The same call again before ``expiresAt`` renews the address; what plays goes on under either. Whoever asks
    again within 90 seconds is counted as watching.
    """

    stream_url: str
    dash_url: str
    poster_url: str
    storyboard_url: str
    broadcast_id: str
    tier: Tier
    ready: bool
    low_latency: bool
    expires_at: str


@api.own("POST", "/api/streaming/spectate", access=ANYONE, body=SpectateBody, answer=SpectateAnswer,
         limits=(limits.SPECTATE,),
         errors=("BLOCKED", "BARRED", "ROOM_NOT_FOUND", "STREAM_NOT_LIVE", "UNAVAILABLE"))  # fmt: skip
def spectate(call: Call[SpectateBody]) -> SpectateAnswer:
    """Ask for the address of a room's broadcast, or renew it."""
    person = call.caller.person if call.caller is not None else None
    seat = live.seat_for(call.body.room_id, person, call.now)
    call.house.audience.heard(seat.broadcast_id, seat.viewer_id)
    address = live.address_of(seat, call.now)
    return SpectateAnswer(
        stream_url=f"{address.prefix}/{live.MASTER}",
        dash_url=f"{address.prefix}/{live.MANIFEST}",
        poster_url=f"{address.prefix}/{live.POSTER}",
        storyboard_url=f"{address.prefix}/storyboard.vtt",
        broadcast_id=seat.broadcast_id,
        tier=seat.tier,
        ready=seat.ready,
        low_latency=call.house.settings.low_latency_hls,
        expires_at=rfc3339(address.expires_at),
    )
