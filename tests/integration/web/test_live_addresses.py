"""/live: what a spectator gets by a signed address, and everything that gets nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from on_air import FILES, OnAir, watch
from sqlalchemy import update
from web_people import NODE, People

from models import spectator_addresses
from models.broadcasts import BroadcastRow
from models.clock import utc_now
from models.config import Settings, SettingsError, load_settings
from models.db import Database
from models.services import broadcasts, spectating, streams
from models.spectator_addresses import BARRED
from models.streams import RoomRow
from web import live


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {"HLS_DIR": str(tmp_path / "hls")}


@pytest.fixture
def database(app: Flask) -> Database:
    found: Database = app.extensions["database"]
    return found


@pytest.fixture
def on_air(people: People, database: Database, settings: Settings) -> OnAir:
    creator = people.make("creator")
    stream = people.live(creator)
    return OnAir(creator, stream, database, settings.hls_dir)


def text_of(client: FlaskClient, path: str) -> str:
    """What is served at ``path``."""
    with client.get(path) as answer:
        assert answer.status_code == 200, path
        return answer.get_data(as_text=True)


def refusal(client: FlaskClient, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    answer = client.get(path, headers=headers or {})
    return answer.status_code, (answer.get_json(silent=True) or {}).get("code", "")


def test_the_plain_address_leads_to_ones_own_with_all_below_it(client: FlaskClient, on_air: OnAir) -> None:
    prefix = watch(client, on_air)
    assert text_of(client, f"{prefix}/master.m3u8") == "this is master.free.m3u8"
    for name in FILES:
        if name.startswith("720p"):
            continue
        with client.get(f"{prefix}/{name}") as answer:
            assert (answer.status_code, answer.get_data(as_text=True)) == (200, f"this is {name}"), name
            # then caches keep what never changes, and keep it for everybody
            kept = "immutable" if name.endswith((".m4s", ".mp4")) else "max-age=1"
            assert kept in answer.headers["Cache-Control"], name
            assert "Set-Cookie" not in answer.headers
            assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_who_pays_nothing_gets_480p_and_a_subscriber_720p(
    client: FlaskClient, on_air: OnAir, people: People, database: Database
) -> None:
    fan = people.make("fan", tokens=1_000)
    free = watch(client, on_air, fan)
    assert refusal(client, f"{free}/720p/index.m3u8") == (403, "PREMIUM_ONLY")
    # when the fan subscribes, then the next address is another
    terms = {"subscriptionPrice": 100, "subscriptionMinutes": 0, "subscriberDiscountPercent": 0}
    rest = {"perMinute": False, "instantUnlockPrice": None, "queue": False, "requestPriority": "first_come"}
    creators = on_air.creator.headers()
    assert client.put("/api/streaming/creator-options", json=terms | rest, headers=creators).status_code == 200
    wish, mine = {"creatorId": on_air.creator.user_id}, fan.headers(idempotency_key="once")
    assert client.post("/api/streaming/subscriptions", json=wish, headers=mine).status_code == 201
    premium = watch(client, on_air, fan)
    assert text_of(client, f"{premium}/720p/index.m3u8") == "this is 720p/index.m3u8"
    assert text_of(client, f"{premium}/master.m3u8") == "this is master.premium.m3u8"
    # and the old one is what it was
    assert refusal(client, f"{free}/720p/index.m3u8") == (403, "PREMIUM_ONLY")


def test_the_creator_watches_in_full(client: FlaskClient, on_air: OnAir) -> None:
    assert text_of(client, f"{watch(client, on_air, on_air.creator)}/720p/index.m3u8")


@pytest.mark.parametrize(
    "name",
    ["state.json", "epoch", "../state.json", "480p/../epoch", "480p/.s.tmp", "480p/", "", "1080p/index.m3u8"],
)
def test_nothing_else_in_the_directory_is_served(client: FlaskClient, on_air: OnAir, name: str) -> None:
    status, _ = refusal(client, f"{watch(client, on_air)}/{name}")
    assert status in (403, 404)


def test_a_changed_address_is_worth_nothing(
    client: FlaskClient, on_air: OnAir, people: People, database: Database
) -> None:
    prefix = watch(client, on_air)
    signed = prefix.rpartition("/")[2]
    # given another stream on the air
    other = OnAir(people.make("creator"), people.live(people.make("creator")), database, on_air.directory.parent)
    for path in (
        prefix.replace(".free.", ".premium."),
        f"/live/{other.stream.room_id}/{other.broadcast_id}/{signed}",
        f"/live/{on_air.stream.room_id}/{other.broadcast_id}/{signed}",
        prefix[:-1] + ("A" if prefix[-1] != "A" else "Q"),
        f"/live/{on_air.stream.room_id}/{on_air.broadcast_id}/x",
    ):
        for name in ("master.m3u8", "480p/index.m3u8", "480p/init_1.mp4", "480p/s00001_1.m4s"):
            assert refusal(client, f"{path}/{name}") == (403, "FORBIDDEN"), (path, name)


def test_it_expires(app: Flask, client: FlaskClient, on_air: OnAir, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = watch(client, on_air)
    later = utc_now() + timedelta(seconds=app.extensions["settings"].spectator_seconds)
    monkeypatch.setattr(live, "utc_now", lambda: later)
    for name in ("master.m3u8", "480p/s00001_1.m4s", "poster.jpg"):
        assert refusal(client, f"{prefix}/{name}") == (403, "ADDRESS_EXPIRED")


def test_who_is_barred_gets_nothing_more_and_no_new_address(
    client: FlaskClient, on_air: OnAir, people: People, database: Database, settings: Settings
) -> None:
    fan, other = people.make("fan"), people.make("fan")
    prefix, theirs = watch(client, on_air, fan), watch(client, on_air, other)
    viewer = prefix.rpartition("/")[2].split(".")[2]
    database.run(lambda tx: spectating.bar(tx, on_air.broadcast_id, viewer, "shared", utc_now()))
    room = on_air.stream.room_id
    assert refusal(client, f"/live/{room}/master.m3u8", fan.headers()) == (403, "BARRED")
    # and as soon as the origin knows, the old address is worth nothing either
    barred = settings.hls_dir / BARRED
    barred.mkdir()
    (barred / f"{on_air.broadcast_id}.{viewer}").touch()
    assert refusal(client, f"{prefix}/480p/s00001_1.m4s") == (403, "BARRED")
    assert text_of(client, f"{theirs}/480p/s00001_1.m4s")


def test_a_blocked_fan_is_refused(
    client: FlaskClient, on_air: OnAir, people: People, database: Database, settings: Settings
) -> None:
    fan = people.make("fan")
    viewer = watch(client, on_air, fan).rpartition("/")[2].split(".")[2]
    handle = {"handle": fan.person.handle}
    assert client.post("/api/streaming/blocks", json=handle, headers=on_air.creator.headers()).status_code == 200
    assert refusal(client, f"/live/{on_air.stream.room_id}/master.m3u8", fan.headers()) == (403, "BLOCKED")
    # and the address that they have ends, too
    with database.reading() as tx:
        barred = spectating.barred(tx, settings.key(spectator_addresses.KEY_PURPOSE))
    assert barred == {(on_air.broadcast_id, viewer)}


def test_what_is_not_broadcast_has_no_address(
    client: FlaskClient, on_air: OnAir, people: People, database: Database
) -> None:
    room = on_air.stream.room_id
    assert refusal(client, "/live/live-str_nothing/master.m3u8") == (404, "ROOM_NOT_FOUND")
    # a stream whose creator never came
    silent = people.live(people.make("creator"))
    assert refusal(client, f"/live/{silent.room_id}/master.m3u8") == (409, "STREAM_NOT_LIVE")
    # one that no worker takes
    longer = timedelta(seconds=broadcasts.UNCLAIMED_SECONDS + 1)
    past = update(BroadcastRow).values(wanted_at=utc_now() - longer)
    database.run(lambda tx: tx.execute(past))
    assert refusal(client, f"/live/{room}/master.m3u8") == (503, "UNAVAILABLE")
    # one that has ended
    database.run(lambda tx: streams.end_stream(tx, on_air.stream.stream_id, on_air.creator.person, utc_now()))
    assert refusal(client, f"/live/{room}/master.m3u8") == (409, "STREAM_NOT_LIVE")


def test_a_private_room_is_no_room_for_spectators(client: FlaskClient, on_air: OnAir, database: Database) -> None:
    private = RoomRow(
        id="private-ses_x",
        node_id=NODE,
        kind="private",
        creator_id=on_air.creator.user_id,
        status="open",
        viewers=0,
        created_at=utc_now(),
    )
    database.run(lambda tx: tx.add(private))
    assert refusal(client, "/live/private-ses_x/master.m3u8", on_air.creator.headers()) == (404, "ROOM_NOT_FOUND")


def test_a_player_asks_for_the_address_and_renews_it(client: FlaskClient, on_air: OnAir, people: People) -> None:
    fan = people.make("fan")
    wish = {"roomId": on_air.stream.room_id}
    first = client.post("/api/streaming/spectate", json=wish, headers=fan.headers()).get_json()
    assert (first["tier"], first["ready"], first["broadcastId"]) == ("free", False, on_air.broadcast_id)
    assert text_of(client, first["streamUrl"]) == "this is master.free.m3u8"
    again = client.post("/api/streaming/spectate", json=wish, headers=fan.headers()).get_json()
    assert again["expiresAt"] >= first["expiresAt"]
    # then it is the same viewer
    assert first["streamUrl"].split("/")[4].split(".")[2] == again["streamUrl"].split("/")[4].split(".")[2]


def test_a_nameless_visitor_stays_the_same_viewer_in_one_browser(app: Flask, on_air: OnAir) -> None:
    browser, other = app.test_client(), app.test_client()
    viewers = [watch(each, on_air).rpartition("/")[2].split(".")[2] for each in (browser, browser, other)]
    assert viewers[0] == viewers[1] != viewers[2]


def test_a_cdn_serves_it_where_there_is_one(environment: dict[str, str]) -> None:
    base = environment | {"CDN_BASE_URL": "https://cdn.example"}
    assert load_settings(base).spectator_seconds == 120
    assert load_settings(base | {"CDN_EDGE_CHECKS": "1", "SPECTATOR_SECONDS": "3600"}).spectator_seconds == 3_600
    with pytest.raises(SettingsError, match="CDN_EDGE_CHECKS"):
        load_settings(base | {"SPECTATOR_SECONDS": "3600"})


def test_pages_show_the_poster_of_what_is_broadcast(
    app: Flask, client: FlaskClient, on_air: OnAir, people: People, database: Database
) -> None:
    def pictures(of: FlaskClient, page: str) -> list[str]:
        text = of.get(page).get_data(as_text=True)
        return re.findall(r'<img src="(/live/[^"]+)"[^>]* width="640" height="360"', text)

    handle = on_air.creator.person.handle
    pages = ("/models", "/models?part=list", "/", f"/models/{handle}")
    # given a broadcast that has no pictures yet, then the drawn poster is all there is
    assert [pictures(client, page) for page in pages] == [[], [], [], []]
    with database.reading() as tx:
        epoch = tx.get_one(BroadcastRow, on_air.broadcast_id).epoch
    database.run(lambda tx: broadcasts.ready(tx, on_air.broadcast_id, epoch, utc_now()))
    # then each page shows one of now, in the free tier, for the same viewer that would watch
    viewer = watch(client, on_air).rpartition("/")[2].split(".")[1:3]
    for page in pages:
        [picture] = pictures(client, page)
        assert text_of(client, picture) == "this is poster.jpg"
        assert picture.split("/")[4].split(".")[1:3] == viewer
        assert viewer[0] == "free"
    # and whoever looks at it does not watch
    audience = app.extensions["greenroom"].audience
    audience.report()
    listed = client.get("/api/streaming/streams").get_json()["streams"]
    assert [stream["spectators"] for stream in listed] == [1]
    # when the stream ends, then there is none
    database.run(lambda tx: streams.end_stream(tx, on_air.stream.stream_id, on_air.creator.person, utc_now()))
    assert [pictures(client, page) for page in pages] == [[], [], [], []]
