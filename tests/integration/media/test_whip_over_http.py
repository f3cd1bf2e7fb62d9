"""WHIP and WHEP from end to end: the real web app, a real media node, stock WebRTC clients. Only the broker is
missing between the two: what it would carry is carried here."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ffmpeg_encoder
import msgspec
import pytest
from aiortc import RTCCertificate
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from http_seats import HttpSeat, as_obs_sends_it
from media_clients import until
from seats import SECRET, Stage, running_stage
from sqlalchemy import select
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from models import ids
from models.clock import utc_now
from models.config import load_settings
from models.db import Database
from models.plumbing import OutboxRow
from models.services import accounts, sessions, stream_keys, streams, termination
from models.services.accounts import Caller, Person
from models.streams import MediaNodeRow
from web import create_app

WHIP, WHEP = "/api/rtc/whip", "/api/rtc/whep"
SDP = "application/sdp"
PATIENCE_SECONDS = 120
FRAGMENT = "application/trickle-ice-sdpfrag"


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Whoever asks is in the same test."""


@contextmanager
def listening(app: Flask) -> Iterator[str]:
    """The web app behind a socket, for programs: its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def a_certificate() -> Iterator[tuple[str, str]]:
    """Files with a certificate and its private key."""
    made = RTCCertificate.generateCertificate()
    with TemporaryDirectory() as directory:
        certificate, key = Path(directory, "certificate"), Path(directory, "key")
        certificate.write_bytes(made._cert.public_bytes(Encoding.PEM))
        key.write_bytes(made._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        yield str(certificate), str(key)


@pytest.fixture
def app(sqlite_url: str) -> Iterator[Flask]:
    made = create_app(
        load_settings(
            {
                "SECRET_KEY": SECRET,
                "TESTING": "1",
                "DATABASE_URL": sqlite_url,
                "AMQP_URL": "amqp://guest:guest@127.0.0.1:9/",
                "PUBLIC_URL": "http://localhost:8080",
                "CORS_ORIGINS": "https://player.example",
                "TURN_URLS": "turn:turn.example:3478",
                "TURN_SECRET": "t" * 32,
                "ICE_SERVERS": '[{"urls": ["stun:stun.example:3478"]}]',
            }
        )
    )
    yield made
    made.extensions["greenroom"].audience.close()
    made.extensions["greenroom"].rpc.close()
    made.extensions["database"].close()


class House:
    """The web app and a node; requests are made in threads, as the node lives in this one."""

    def __init__(self, app: Flask, stage: Stage) -> None:
        self.app, self.stage = app, stage
        self.database: Database = app.extensions["database"]
        self.seats: list[HttpSeat] = []
        self._heard = 0
        self._carried: set[str] = set()
        url = f"ws://127.0.0.1:{stage.port}/signaling"
        boot = {"id": stage.node.node_id, "boot_id": stage.node.boot_id}
        node = MediaNodeRow(**boot, signaling_url=url, seen_at=utc_now())
        self.database.run(lambda tx: tx.add(node))
        self.creator, self.token = self.person("creator")
        self.fan, self.fan_token = self.person("fan")
        self.key = self.made_key()

    def person(self, role: str) -> tuple[Person, str]:
        name = f"{role}_{ids.new_id('x')[-6:]}"

        def work(tx: Any) -> tuple[Person, str]:
            person = accounts.create_person(
                tx, email=f"{name}@people.test", handle=name, display_name=name, password_hash="x", roles=(role,),
                now=utc_now(),
            )  # fmt: skip
            return person, accounts.open_sign_in(tx, person.user_id, kind="token", now=utc_now()).token

        return self.database.run(work)

    def made_key(self) -> stream_keys.NewStreamKey:
        return self.database.run(lambda tx: stream_keys.make(tx, self.creator, "OBS", utc_now()))

    async def call(
        self, method: str, path: str, bearer: str = "", body: Any = None, **headers: str
    ) -> TestResponse:
        sent = {name.replace("_", "-").title(): value for name, value in headers.items()}
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        given = {"json": body} if isinstance(body, dict) else {"data": body}
        client = self.app.test_client()
        return await asyncio.to_thread(functools.partial(client.open, path, method=method, headers=sent, **given))

    async def offer(self, path: str, bearer: str, sdp: str, **headers: str) -> TestResponse:
        """On a slow machine a room may not open in time: an encoder is told so, and tries again."""
        self.stage.server._desk._connect_seconds = PATIENCE_SECONDS
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self.call("POST", path, bearer, sdp, **({"content_type": SDP} | headers))
                if answer.status_code != 503:
                    return answer
                await asyncio.sleep(1)  # as its Retry-After says

    def seat(self) -> HttpSeat:
        self.seats.append(HttpSeat())
        return self.seats[-1]

    async def on_air(self, key: str = "") -> tuple[HttpSeat, TestResponse]:
        """An encoder that publishes as OBS does."""
        encoder = self.seat()
        answer = await self.offer(WHIP, key or self.key.key, as_obs_sends_it(await encoder.publish("H264")))
        assert answer.status_code == 201, answer.text
        await encoder.answered(answer.text)
        await encoder.connected()
        return encoder, answer

    async def playing(self, room_id: str, bearer: str = "") -> tuple[HttpSeat, TestResponse]:
        player = self.seat()
        answer = await self.offer(f"{WHEP}/{room_id}", bearer or self.fan_token, await player.play())
        assert answer.status_code == 201, answer.text
        await player.answered(answer.text)
        await player.connected()
        return player, answer

    def live(self) -> streams.StreamView | None:
        with self.database.reading() as tx:
            return streams.stream_of(tx, self.creator.user_id)

    def on_the_air(self) -> streams.StreamView:
        stream = self.live()
        assert stream is not None
        return stream

    async def watching(self, room_id: str) -> HttpSeat:
        """The fan's player, which shows the stream."""
        player, _ = await self.playing(room_id)
        await player.decodes()
        return player

    def seated(self, room_id: str) -> set[str]:
        room = self.stage.node.rooms.get(room_id)
        return set(room.participants) if room is not None else set()

    async def carry(self) -> None:
        """What the broker does: commands to the node, facts to the services."""
        while True:
            with self.database.reading() as tx:
                rows = tx.execute(
                    select(OutboxRow.message_id, OutboxRow.body)
                    .where(OutboxRow.kind == "command")
                    .order_by(OutboxRow.seq)
                ).all()
            for message_id, body in rows:
                if message_id not in self._carried:
                    self._carried.add(message_id)
                    self.stage.desk.handle(body.encode(), utc_now().timestamp())
            for event in self.stage.said[self._heard :]:
                self._heard += 1
                self.database.run(lambda tx, event=event: sessions.on_event(tx, event, utc_now()))
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(app: Flask) -> AsyncIterator[House]:
    async with running_stage() as stage:
        house = House(app, stage)
        broker = asyncio.create_task(house.carry())
        try:
            yield house
        finally:
            broker.cancel()
            with suppress(asyncio.CancelledError):
                await broker
            await asyncio.gather(*(seat.close() for seat in house.seats))


def plays(scene: Callable[[House], Any]) -> Callable[[Flask], None]:
    """Make a test of an async scene."""

    async def play(app: Flask) -> None:
        async with asyncio.timeout(240), running(app) as house:
            await scene(house)

    def test(app: Flask) -> None:
        asyncio.run(play(app))

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


def refusal(answer: TestResponse) -> tuple[int, str]:
    assert answer.content_type == "application/problem+json", answer.text
    return answer.status_code, msgspec.json.decode(answer.data)["code"]


@plays
async def test_an_encoder_goes_live_is_watched_and_stops(house: House) -> None:
    # Given nobody on the air, when OBS begins
    assert house.live() is None
    encoder, answer = await house.on_air()
    # Then its creator is live, and the answer says where to go on
    stream = house.on_the_air()
    assert answer.content_type == SDP
    assert answer.headers["Location"].startswith(f"{WHIP}/{stream.room_id}/")
    assert answer.headers["ETag"].startswith('"')
    stun, turn = answer.headers.getlist("Link")
    assert stun == '<stun:stun.example:3478>; rel="ice-server"'
    assert turn.startswith('<turn:turn.example:3478>; rel="ice-server"; username="')
    assert f':{house.creator.user_id}"; credential="' in turn
    assert house.key.key not in str(answer.headers)
    # And a player of a fan's sees it
    player, played = await house.playing(stream.room_id)
    await player.decodes()

    def known_as_an_encoder() -> bool:
        with house.database.reading() as tx:
            return stream_keys.encoder_of(tx, house.creator.user_id) == "on_air"

    await until(known_as_an_encoder, "the studio knows")
    # When the player stops, its seat is free, and it cannot stop twice
    where = played.headers["Location"]
    assert (await house.call("DELETE", where, house.fan_token)).status_code == 200
    assert house.seated(stream.room_id) == {house.creator.user_id}
    assert refusal(await house.call("DELETE", where, house.fan_token)) == (404, "NOT_FOUND")
    await player.ended()
    # When the encoder stops, the same; the stream waits for it
    where = answer.headers["Location"]
    assert (await house.call("DELETE", where, house.key.key)).status_code == 200
    assert house.seated(stream.room_id) == set()
    assert refusal(await house.call("DELETE", where, house.key.key)) == (404, "NOT_FOUND")
    await encoder.ended()
    await until(lambda: house.live() == msgspec.structs.replace(stream, viewers=0), "nobody is counted any more")
    # And the next one comes to the same stream
    _, again = await house.on_air()
    assert again.headers["Location"].startswith(f"{WHIP}/{stream.room_id}/")
    assert again.headers["Location"] != where


@plays
async def test_revoking_the_key_puts_its_encoder_off_the_air_and_nobody_else(house: House) -> None:
    encoder, answer = await house.on_air()
    stream = house.on_the_air()
    player = await house.watching(stream.room_id)
    other = await house.call("POST", "/api/streaming/stream-keys", house.token, {"name": "Spare"})
    assert other.status_code == 201
    path = f"/api/streaming/stream-keys/{house.key.key_id}"
    assert (await house.call("DELETE", path, house.token)).status_code == 200
    await until(lambda: house.seated(stream.room_id) == {house.fan.user_id}, "the encoder is off the air")
    await encoder.ended()
    sdp = await house.seat().publish()
    assert refusal(await house.offer(WHIP, house.key.key, sdp)) == (401, "UNAUTHENTICATED")
    assert refusal(await house.call("DELETE", answer.headers["Location"], house.key.key))[0] == 401
    # With the other key the creator is back, and the player sees it without another word
    await house.on_air(msgspec.json.decode(other.data)["key"])
    await player.decodes(more=10)


@plays
async def test_the_cuts_of_a_room_cut_encoders_and_players(house: House) -> None:
    encoder, _ = await house.on_air()
    stream = house.on_the_air()
    player = await house.watching(stream.room_id)
    admin = Caller(person=house.person("admin")[0], integrator_id=None, scopes=frozenset(), sign_in_id="x")
    # When the fan is cut out, then the player ends, and no token of theirs opens the room again
    cut = {"room_id": stream.room_id, "user_id": house.fan.user_id, "reason": "MODERATION", "label_by": admin}
    house.database.run(lambda tx: termination.terminate(tx, at_fault=None, now=utc_now(), **cut))
    await until(lambda: house.seated(stream.room_id) == {house.creator.user_id}, "the fan is out")
    await player.ended()
    wish = await house.seat().play()
    assert refusal(await house.offer(f"{WHEP}/{stream.room_id}", house.fan_token, wish)) == (403, "BARRED")
    # When the stream ends, then the encoder does; when it begins again by itself, it is another stream
    path = f"/api/streaming/streams/{stream.stream_id}"
    assert (await house.call("DELETE", path, house.token)).status_code == 200
    await encoder.ended()
    assert refusal(await house.offer(f"{WHEP}/{stream.room_id}", house.fan_token, wish))[0] in (403, 404)


@plays
async def test_an_encoder_that_is_not_made_of_what_the_node_is_made_of(house: House) -> None:
    house.stage.server._desk._connect_seconds = PATIENCE_SECONDS
    with listening(house.app) as origin, a_certificate() as files:
        # When FFmpeg goes on the air, as DTLS server, with H.264's Main profile and no ear for key-frame requests
        command = (sys.executable, "-W", "ignore", ffmpeg_encoder.__file__, origin + WHIP, house.key.key, *files)
        encoder = await asyncio.create_subprocess_exec(*command, stdin=PIPE)
        assert encoder.stdin is not None
        try:
            await until(lambda: house.live() is not None, "the creator is live")
            room_id = house.on_the_air().room_id
            # Then a player decodes it, and one that comes later too
            await house.watching(room_id)
            await house.watching(room_id)
            creator = house.stage.node.rooms[room_id].participants[house.creator.user_id]
            assert {track.codec for track in creator.peer.published.values()} == {"H264", "opus"}
            # And when it stops, it says so: the seat is free, and it may come back
            encoder.stdin.close()
            assert await encoder.wait() == 0
            assert house.seated(room_id) == {house.fan.user_id}
        finally:
            if encoder.returncode is None:
                encoder.kill()
                await encoder.wait()


@plays
async def test_what_is_wrong_with_an_offer_is_said_and_puts_nobody_on_the_air(house: House) -> None:
    sdp, key = await house.seat().publish(), house.key.key
    wrong: list[tuple[tuple[int, str], TestResponse]] = [
        ((401, "UNAUTHENTICATED"), await house.offer(WHIP, "", sdp)),
        ((401, "UNAUTHENTICATED"), await house.offer(WHIP, "gsk_" + "a" * 43, sdp)),
        ((401, "UNAUTHENTICATED"), await house.offer(WHIP, house.token, sdp)),
        ((401, "UNAUTHENTICATED"), await house.offer(f"{WHIP}?key={key}", "", sdp)),
        ((400, "BAD_REQUEST"), await house.offer(f"{WHIP}?key={key}", key, sdp)),
        ((415, "UNSUPPORTED_MEDIA_TYPE"), await house.offer(WHIP, key, sdp, content_type="application/json")),
        ((406, "NOT_ACCEPTABLE"), await house.offer(WHIP, key, sdp, accept="application/json")),
        ((413, "BODY_TOO_LARGE"), await house.offer(WHIP, key, sdp + "a=x\r\n" * 10_000)),
        ((422, "SDP_UNUSABLE"), await house.offer(WHIP, key, "")),
        ((422, "SDP_UNUSABLE"), await house.offer(WHIP, key, "{}")),
    ]
    assert [refusal(answer) for _, answer in wrong] == [expected for expected, _ in wrong]
    assert house.live() is None
    # Nor does what only the node can tell
    assert refusal(await house.offer(WHIP, key, sdp.replace("a=fingerprint", "a=x"))) == (422, "SDP_UNUSABLE")
    assert refusal(await house.offer(WHIP, key, sdp.replace("opus", "AAC"))) == (422, "SDP_UNUSABLE")
    assert refusal(await house.offer(WHIP, key, "v=0\r\nm=" + "\x01" * 30_000)) == (422, "SDP_UNUSABLE")
    assert house.live() is None
    for method in ("GET", "PUT"):
        assert (await house.call(method, WHIP, key)).status_code == 405
    asked = await house.call("OPTIONS", WHIP)
    assert asked.headers["Accept-Post"] == SDP


@plays
async def test_a_resource_is_its_makers_alone(house: House) -> None:
    _, answer = await house.on_air()
    stream = house.on_the_air()
    _, played = await house.playing(stream.room_id)
    stranger, strangers_token = house.person("creator")
    theirs = house.database.run(lambda tx: stream_keys.make(tx, stranger, "OBS", utc_now())).key
    whip, whep = answer.headers["Location"], played.headers["Location"]
    refused = [
        await house.call("DELETE", whip, theirs),
        await house.call("DELETE", whip, house.fan_token),
        await house.call("DELETE", whip),
        await house.call("DELETE", whep, strangers_token),
        await house.call("DELETE", whep, "a.b"),
        await house.call("DELETE", whep + "x", house.fan_token),
        await house.call("DELETE", whip.replace(stream.room_id, "live-x"), house.key.key),
    ]
    assert [answer.status_code for answer in refused] == [404, 401, 401, 404, 401, 404, 404]
    assert house.seated(stream.room_id) == {house.creator.user_id, house.fan.user_id}
    # Nor does a creator watch in their own seat, which would put them off the air
    wish = await house.seat().play()
    assert refusal(await house.offer(f"{WHEP}/{stream.room_id}", house.token, wish)) == (403, "OWN_STREAM")


@plays
async def test_candidates_and_an_ice_restart_over_patch(house: House) -> None:
    encoder, answer = await house.on_air()
    where, tag = answer.headers["Location"], answer.headers["ETag"]
    names = [line for line in encoder.pc.localDescription.sdp.splitlines() if line.startswith("a=ice-")]
    known = "\r\n".join([*dict.fromkeys(names), "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", "a=candidate:x"])

    async def patch(body: str, **headers: str) -> TestResponse:
        return await house.call("PATCH", where, house.key.key, body, **({"content_type": FRAGMENT} | headers))

    assert (await patch(known, if_match=tag)).status_code == 204
    assert refusal(await patch(known)) == (428, "PRECONDITION_REQUIRED")
    assert refusal(await patch(known, if_match='"other"')) == (412, "PRECONDITION_FAILED")
    assert refusal(await patch("a=candidate:x", if_match=tag)) == (422, "SDP_UNUSABLE")
    assert refusal(await patch(known, if_match=tag, content_type=SDP)) == (415, "UNSUPPORTED_MEDIA_TYPE")
    fresh = "a=ice-ufrag:Fresh123\r\na=ice-pwd:" + "p" * 24 + "\r\n"
    restarted = await patch(fresh, if_match="*")
    assert restarted.status_code == 200
    assert restarted.content_type == FRAGMENT
    assert "a=ice-ufrag:" in restarted.text
    assert restarted.headers["ETag"] != tag
    assert refusal(await patch(known, if_match=tag)) == (412, "PRECONDITION_FAILED")


@plays
async def test_a_grant_opens_a_player_once(house: House) -> None:
    _, _ = await house.on_air()
    stream = house.on_the_air()
    wish = {"roomId": stream.room_id, "role": "participant"}
    given = await house.call("POST", "/api/rtc/grants", house.fan_token, wish)
    grant = msgspec.json.decode(given.data)["grant"]
    player, played = await house.playing(stream.room_id, grant)
    await player.decodes()
    again = await house.offer(f"{WHEP}/{stream.room_id}", grant, await house.seat().play())
    assert refusal(again) == (403, "FORBIDDEN")
    other = await house.offer(f"{WHEP}/live-x", grant, await house.seat().play())
    assert refusal(other)[0] == 403
    assert (await house.call("DELETE", played.headers["Location"], grant)).status_code == 200


@plays
async def test_parallel_offers_of_one_key_leave_one_encoder(house: House) -> None:
    offers = [await house.seat().publish("VP8") for _ in range(4)]
    answers = await asyncio.gather(*(house.offer(WHIP, house.key.key, sdp) for sdp in offers))
    stream = house.on_the_air()
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert house.seated(stream.room_id) == {house.creator.user_id}
    creator = house.stage.node.rooms[stream.room_id].participants[house.creator.user_id]
    assert f"{WHIP}/{stream.room_id}/{creator.resource}" in [answer.headers.get("Location") for answer in answers]


@plays
async def test_a_node_that_is_gone_is_said_to_come_back(house: House) -> None:
    sdp = await house.seat().publish()
    await house.stage.server.stop()
    answer = await house.call("POST", WHIP, house.key.key, sdp, content_type=SDP)
    assert refusal(answer) == (503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0
