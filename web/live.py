"""``/live``: playlists, manifests, segments and pictures of broadcasts, by signed address.

What nginx serves in production (deploy/nginx) and this app where there is none in front: the same paths, the
same checks, the same headers. Reads files and no database, but for the redirect from the plain address
and to bar who shares theirs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, request, send_from_directory, session
from sqlalchemy.orm import Session
from werkzeug.exceptions import NotFound as NoSuchFile

from models import ids, live_edge, live_files, sharing, spectator_addresses
from models.clock import utc_now
from models.errors import Forbidden, NotFound
from models.ladder import AUDIO, Tier, manifest_name, master_name, rungs_of
from models.services import broadcasts, spectating
from models.services.accounts import Person
from models.services.spectating import Seat
from models.spectator_addresses import BARRED, Spectator, barred_name
from web import limits
from web.api.errors import Refusal
from web.auth import current_person
from web.context import greenroom

blueprint = Blueprint("live", __name__, url_prefix="/live")

# What a player asks for again and again.
_PLAYLISTS = (".m3u8", ".mpd")
MASTER, MANIFEST = "master.m3u8", "manifest.mpd"
POSTER = "poster.jpg"
VISITOR = "visitor"
_RUNGS_PLAYLIST = re.compile(r"[0-9a-z]{1,8}/index\.m3u8")
_PICTURE = re.compile(r"poster\.jpg|storyboard\.vtt|storyboard_[0-9_]{1,20}\.jpg")
_MEDIA = re.compile(
    r"(?P<rung>[0-9a-z]{1,8})/"
    r"(?:index\.m3u8|init_[0-9]{1,9}\.mp4|s[0-9]{5,12}_[0-9]{1,9}(?:\.p[0-9]{1,3})?\.m4s)"
)


def subject(person: Person | None) -> str:
    """Who watches: a person, or a visitor whose browser is given a name for this."""
    if person is not None:
        return person.user_id
    if VISITOR not in session:
        session[VISITOR] = ids.new_id(VISITOR)
    return str(session[VISITOR])


def seat_for(room_id: str, person: Person | None, now: datetime) -> Seat:
    """What whoever asks may watch of this room; raises what ``spectating.seat`` does."""
    house = greenroom()
    key = house.settings.key(spectator_addresses.KEY_PURPOSE)
    with house.database.reading() as tx:
        return spectating.seat(tx, room_id, person=person, subject=subject(person), key=key, now=now)


class Address(NamedTuple):
    """A signed prefix, absolute where a CDN serves it, and until when it is good."""

    prefix: str
    expires_at: datetime


def address_of(seat: Seat, now: datetime) -> Address:
    """The address of this seat from now on."""
    settings = greenroom().settings
    expires_at = now + timedelta(seconds=settings.spectator_seconds)
    whom = Spectator(seat.room_id, seat.broadcast_id, seat.viewer_id, seat.tier, int(expires_at.timestamp()))
    path = spectator_addresses.prefix(whom, settings.key(spectator_addresses.KEY_PURPOSE))
    return Address(settings.cdn_base_url + path, expires_at)


def posters(tx: Session, room_ids: Collection[str], person: Person | None, now: datetime) -> dict[str, str]:
    """Addresses of the posters of those of these rooms that have one, by room, for whoever asks for the page.

    In the free tier; looking at a poster does not count as watching. Who is barred gets an address and no picture.
    """
    key = greenroom().settings.key(spectator_addresses.KEY_PURPOSE)
    found = {}
    for room_id, broadcast_id in broadcasts.with_pictures(tx, room_ids).items():
        viewer = spectator_addresses.viewer_id(broadcast_id, subject(person), key)
        seat = Seat(room_id=room_id, broadcast_id=broadcast_id, viewer_id=viewer, tier="free", ready=True)
        found[room_id] = f"{address_of(seat, now).prefix}/{POSTER}"
    return found


@blueprint.get(f"/<room_id>/{MASTER}", defaults={"name": MASTER})
@blueprint.get(f"/<room_id>/{MANIFEST}", defaults={"name": MANIFEST})
def plain(room_id: str, name: str) -> Response:
    """The plain address: on to the viewer's own signed one."""
    limits.enforce((limits.SPECTATE, limits.client_address()))
    now = utc_now()
    seat = seat_for(room_id, current_person(), now)
    greenroom().audience.heard(seat.broadcast_id, seat.viewer_id)
    answer = Response(status=302, headers={"Location": f"{address_of(seat, now).prefix}/{name}"})
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.get("/<room_id>/<broadcast_id>/<signed>/<path:name>")
def signed(room_id: str, broadcast_id: str, signed: str, name: str) -> Response:
    """A file of a broadcast. Raises Forbidden for an address that is not good, NotFound for no such file."""
    settings = greenroom().settings
    key = settings.key(spectator_addresses.KEY_PURPOSE)
    whom = spectator_addresses.verify(room_id, broadcast_id, signed, key, utc_now().timestamp())
    if (settings.hls_dir / BARRED / barred_name(broadcast_id, whom.viewer_id)).exists():
        raise Forbidden("You may not watch this stream any more.", code="BARRED")
    permitted = _permitted(name, whom.tier)
    if name.endswith(_PLAYLISTS):
        _require_own_device(whom, key)
    if settings.low_latency_hls:
        _wait(settings.hls_dir / broadcast_id, permitted)
    answer = _elsewhere(broadcast_id, permitted) or _file(settings.hls_dir / broadcast_id, permitted)
    if name.endswith(_PLAYLISTS):
        greenroom().audience.heard(broadcast_id, whom.viewer_id)
    return answer


def _wait(directory: Path, name: str) -> None:
    """Until what a low-latency player waits for is there. Raises Refusal, Unavailable."""
    waiting = greenroom().waiting
    if live_files.is_part(name):
        waiting.for_part(directory / name)
    if not _RUNGS_PLAYLIST.fullmatch(name):
        return
    try:
        wish = live_edge.wish_of(request.args.get("_HLS_msn"), request.args.get("_HLS_part"))
        if wish is not None:
            waiting.for_playlist(directory / name, wish)
    except ValueError:
        raise Refusal(400, "No player may wait for that.", code="BAD_REQUEST") from None
    except FileNotFoundError:
        raise NotFound("There is no such file.") from None


def _require_own_device(whom: Spectator, key: bytes) -> None:
    """Bar a viewer whose address plays on more devices at once than a person has. Raises Forbidden BARRED."""
    house = greenroom()
    if house.settings.cdn_base_url:
        # Who asks then is the CDN, from as many places as it has.
        return
    player = sharing.device(request.remote_addr or "unknown", request.headers.get("User-Agent", ""), key)
    if not house.players.too_many(whom.broadcast_id, whom.viewer_id, player, time.monotonic()):
        return
    house.database.run(
        lambda tx: spectating.bar(tx, whom.broadcast_id, whom.viewer_id, sharing.REASON, utc_now())
    )
    raise Forbidden("This address is shared with others.", code="BARRED")


def _permitted(name: str, tier: Tier) -> str:
    """The file behind ``name`` for ``tier``."""
    if name == MASTER:
        return master_name(tier)
    if name == MANIFEST:
        return manifest_name(tier)
    if _PICTURE.fullmatch(name):
        return name
    media = _MEDIA.fullmatch(name)
    if media is None:
        raise NotFound("There is no such file.")
    if media["rung"] != AUDIO and media["rung"] not in {rung.name for rung in rungs_of(tier)}:
        raise Forbidden("This quality is for subscribers and for who has a pass.", code="PREMIUM_ONLY")
    return name


def _elsewhere(broadcast_id: str, name: str) -> Response | None:
    """On to the object storage, for what it has and never changes; playlists and pictures are always ours."""
    settings = greenroom().settings
    if not settings.s3_bucket or not live_files.never_changes(name):
        return None
    address = live_files.stored_at(settings.hls_dir, broadcast_id, name, time.time())
    if address is None:
        return None
    answer = Response(status=302, headers={"Location": address, "Access-Control-Allow-Origin": "*"})
    # Good for a while only, and only for who was just let in.
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _file(directory: Path, name: str) -> Response:
    kind = live_files.kind(name)
    try:
        answer = send_from_directory(directory, name, mimetype=kind, conditional=True, max_age=None)
    except NoSuchFile:
        raise NotFound("There is no such file.") from None
    answer.headers["Cache-Control"] = live_files.cache_control(name)
    answer.headers["Access-Control-Allow-Origin"] = "*"
    answer.headers["Timing-Allow-Origin"] = "*"
    return answer
