"""nginx in front (deploy/nginx) refuses and serves what the app does: one table, both asked.

From disk, and from object storage, where both send on whom they would have served.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from live_web import LiveWeb, environment_for
from nginx_front import Answer, Nginx, ask
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from models import live_files, spectator_addresses
from models.config import Settings, load_settings
from models.ladder import RENDITIONS, TIERS, Tier, manifest_name, master_name, rungs_of
from models.live_files import STORED
from models.spectator_addresses import BARRED, Spectator, barred_name
from tests.fakes.s3_server import S3Server
from workers.transcode.objects import Bucket

ROOM, BROADCAST, OTHER, IN_STORAGE = "live-str_a", "brd_a", "brd_b", "brd_c"
VIEWER, BAD_VIEWER = "abcdefghij234567abcd", "zzzzefghij234567abcd"
FILES = ("index.m3u8", "init_1.mp4", "s00001_1.m4s", "s00002_1.p0.m4s")
PICTURES = ("poster.jpg", "storyboard.vtt", "storyboard_1.jpg")


class Front(NamedTuple):
    """The app, nginx before it, and what both serve from."""

    settings: Settings
    nginx: Nginx
    app: LiveWeb
    broadcast: str = BROADCAST

    def prefix(
        self, *, tier: Tier = "free", broadcast: str = "", viewer: str = VIEWER, left: int = 60
    ) -> str:
        """A signed address."""
        whom = Spectator(ROOM, broadcast or self.broadcast, viewer, tier, int(time.time()) + left)
        return spectator_addresses.prefix(whom, self.settings.key(spectator_addresses.KEY_PURPOSE))

    def both(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[Answer, Answer]:
        """What the app and what nginx says."""
        return (
            ask(self.app.port, path, method=method, headers=headers),
            ask(self.nginx.port, path, method=method, headers=headers),
        )


@pytest.fixture(scope="module")
def storage() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def front(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, storage: S3Server
) -> Iterator[Front]:
    root = tmp_path_factory.mktemp("front")
    environment = environment_for(f"sqlite:///{sqlite_template}") | storage.environment
    environment |= {"HLS_DIR": str(root / "hls"), "TRUSTED_PROXIES": "1"}
    for broadcast in (BROADCAST, OTHER, IN_STORAGE):
        names = [f"{rung}/{name}" for rung in RENDITIONS for name in FILES]
        names += [name(tier) for tier in TIERS for name in (master_name, manifest_name)]
        for name in (*names, *PICTURES, "state.json", "epoch", "child.json"):
            path = root / "hls" / broadcast / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"this is {name} of {broadcast}")
    (root / "hls" / BARRED).mkdir()
    for broadcast in (BROADCAST, IN_STORAGE):
        (root / "hls" / BARRED / barred_name(broadcast, BAD_VIEWER)).touch()
    with LiveWeb(environment) as app:
        settings = load_settings(environment | {"PORT": str(app.port)})
        _store(settings)
        with Nginx(root / "nginx", settings) as nginx:
            yield Front(settings, nginx, app)


def _store(settings: Settings) -> None:
    """Put one broadcast's media into the bucket, as a worker does (test_upload), and say where they are."""
    bucket = Bucket(settings, 1)
    for rung in RENDITIONS:
        for name in (f"{rung}/init_1.mp4", f"{rung}/s00001_1.m4s"):
            bucket.put(f"{IN_STORAGE}/{name}", b"stored " + name.encode(), live_files.kind(name), "public")
            marker = settings.hls_dir / STORED / IN_STORAGE / name
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(bucket.address(f"{IN_STORAGE}/{name}", live_files.ADDRESS_SECONDS))


def _served() -> Iterator[tuple[str, Tier, str]]:
    for tier in TIERS:
        rungs = {rung.name for rung in rungs_of(tier)} | {"audio"}
        yield "master.m3u8", tier, f"this is {master_name(tier)} of {BROADCAST}"
        yield "manifest.mpd", tier, f"this is {manifest_name(tier)} of {BROADCAST}"
        for name in (*PICTURES, *(f"{rung}/{name}" for rung in RENDITIONS for name in FILES if rung in rungs)):
            yield name, tier, f"this is {name} of {BROADCAST}"


@pytest.mark.parametrize(
    ("name", "tier", "text"), [pytest.param(*each, id=f"{each[1]}-{each[0]}") for each in _served()]
)
def test_what_is_served_is_the_same_down_to_the_headers(front: Front, name: str, tier: Tier, text: str) -> None:
    path = f"{front.prefix(tier=tier)}/{name}"
    app, nginx = front.both(path)
    assert (app.status, app.body.decode()) == (nginx.status, nginx.body.decode()) == (200, text)
    for header in (
        "content-type",
        "content-length",
        "cache-control",
        "access-control-allow-origin",
        "timing-allow-origin",
        "x-content-type-options",
    ):
        assert nginx.headers.get(header) == app.headers.get(header), header
    # then what a player asks for besides is the same, too
    assert [each.status for each in front.both(path, "HEAD")] == [200, 200]
    part = [(each.status, each.body) for each in front.both(path, headers={"Range": "bytes=0-3"})]
    assert part == [(206, b"this")] * 2
    assert ask(front.nginx.port, path, headers={"If-None-Match": nginx.headers["etag"]}).status == 304
    assert ask(front.nginx.port, f"{path}?_HLS_msn=7").status == 200


Path_ = Callable[[Front], str]
ADDRESSES: dict[str, tuple[Path_, int, str]] = {
    "expired": (lambda front: front.prefix(left=-1), 403, "ADDRESS_EXPIRED"),
    "expires now": (lambda front: front.prefix(left=0), 403, "ADDRESS_EXPIRED"),
    "forged": (lambda front: _end(front.prefix()), 403, "FORBIDDEN"),
    "cut off": (lambda front: front.prefix()[:-1], 403, "FORBIDDEN"),
    "longer": (lambda front: front.prefix() + "A", 403, "FORBIDDEN"),
    "endless": (lambda front: front.prefix() + "A" * 1000, 403, "FORBIDDEN"),
    "no signature": (lambda front: f"/live/{ROOM}/{BROADCAST}/x", 403, "FORBIDDEN"),
    "nothing but points": (lambda front: f"/live/{ROOM}/{BROADCAST}/....", 403, "FORBIDDEN"),
    "not our letters": (lambda front: front.prefix() + "%C3%A9", 403, "FORBIDDEN"),
    "better tier": (lambda front: front.prefix().replace(".free.", ".premium."), 403, "FORBIDDEN"),
    "unknown tier": (lambda front: front.prefix(tier="gold"), 403, "FORBIDDEN"),  # type: ignore[arg-type]
    "later": (lambda front: front.prefix().replace("/brd_", "/9brd_"), 403, "FORBIDDEN"),
    "other room": (lambda front: front.prefix().replace(ROOM, "live-str_b"), 403, "FORBIDDEN"),
    "other broadcast": (lambda front: front.prefix().replace(front.broadcast, OTHER), 403, "FORBIDDEN"),
    "barred": (lambda front: front.prefix(viewer=BAD_VIEWER), 403, "BARRED"),
    "removed after its end": (lambda front: front.prefix(broadcast="brd_gone"), 404, "NOT_FOUND"),
}
KINDS = ("master.m3u8", "manifest.mpd", "480p/index.m3u8", "480p/init_1.mp4", "480p/s00001_1.m4s", "poster.jpg")


def _end(text: str) -> str:
    return text[:-2] + ("AA" if text[-2:] != "AA" else "QQ")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("broadcast", [BROADCAST, IN_STORAGE], ids=["disk", "storage"])
def test_an_address_that_is_not_good_gets_nothing_of_any_kind(
    front: Front, broadcast: str, address: str, name: str
) -> None:
    make, status, code = ADDRESSES[address]
    front = front._replace(broadcast=broadcast)
    answers = front.both(f"{make(front)}/{name}")
    assert [(each.status, each.code) for each in answers] == [(status, code)] * 2
    assert [each.headers["cache-control"] for each in answers] == ["no-store"] * 2


@pytest.mark.parametrize("name", ["480p/init_1.mp4", "480p/s00001_1.m4s", "audio/s00001_1.m4s"])
def test_who_may_have_a_file_is_sent_on_to_the_storage(front: Front, storage: S3Server, name: str) -> None:
    answers = front.both(f"{front.prefix(broadcast=IN_STORAGE)}/{name}")
    for answer in answers:
        assert (answer.status, answer.headers["cache-control"]) == (302, "no-store")
        assert answer.headers["access-control-allow-origin"] == "*"
        # then the page's policy allows that place, and it has the file, for this long
        assert answer.headers["location"].startswith(f"{storage.endpoint}/")
        with urllib.request.urlopen(answer.headers["location"]) as stored:
            assert stored.read() == b"stored " + name.encode()
    assert answers[0].headers["location"] == answers[1].headers["location"]
    # and no log has what lets anybody in
    assert "X-Amz" not in front.nginx.access_log.read_text() + front.nginx.error_log.read_text()


def test_what_changes_or_is_not_in_the_storage_is_served_here(front: Front) -> None:
    for name in ("master.m3u8", "manifest.mpd", "480p/index.m3u8", "480p/s00002_1.p0.m4s", "poster.jpg"):
        answers = front.both(f"{front.prefix(broadcast=IN_STORAGE)}/{name}")
        assert [each.status for each in answers] == [200, 200], name
    assert [each.status for each in front.both(f"{front.prefix()}/480p/s00001_1.m4s")] == [200, 200]


def test_the_storage_is_for_the_tier_as_the_disk_is(front: Front) -> None:
    for tier, statuses in (("free", [403, 403]), ("premium", [302, 302])):
        prefix = front.prefix(broadcast=IN_STORAGE, tier=tier)  # type: ignore[arg-type]
        assert [each.status for each in front.both(f"{prefix}/720p/s00001_1.m4s")] == statuses


def test_an_address_of_the_storage_that_nobody_renews_is_handed_out_no_more(front: Front) -> None:
    name = "240p/s00001_1.m4s"
    path = f"{front.prefix(broadcast=IN_STORAGE)}/{name}"
    assert [each.status for each in front.both(path)] == [302, 302]
    # when the worker has been gone for a minute
    before = time.time() - live_files.USABLE_SECONDS - 1
    os.utime(front.settings.hls_dir / STORED / IN_STORAGE / name, (before, before))
    # then the disk serves
    assert [each.body for each in front.both(path)] == [f"this is {name} of {IN_STORAGE}".encode()] * 2


NAMES = {
    "720p/index.m3u8": 403,
    "720p/init_1.mp4": 403,
    "720p/s00001_1.m4s": 403,
    "1080p/index.m3u8": 403,
    "master.premium.m3u8": 404,
    "master.free.m3u8": 404,
    "state.json": 404,
    "epoch": 404,
    "child.json": 404,
    "": 404,
    "480p": 404,
    "480p/": 404,
    "480p/.s.tmp": 404,
    "480p/s00009_1.m4s": 404,
    "480p/index.m3u8%00": 400,
    "480p/index.m3u8%0A": 404,
    "480p%2Findex.m3u8": 200,
    "..%2f..%2fbrd_b%2fstate.json": 404,
    "../../../../../../etc/passwd": 404,
    "480p/../state.json": 404,
    "480p/%2e%2e/720p/index.m3u8": 404,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_for_free_viewers(front: Front, name: str) -> None:
    app, nginx = front.both(f"{front.prefix()}/{name}")
    assert app.status == NAMES[name]
    if ".." in name or "%2e" in name:
        # nginx resolves these before anybody looks: what is refused then is the path that comes of it
        assert nginx.status in (400, 403, 404)
    else:
        assert nginx.status == NAMES[name]
    assert nginx.status == 200 or b"this is" not in nginx.body


def test_no_other_method_is_taken(front: Front) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert [each.status for each in front.both(f"{front.prefix()}/master.m3u8", method)] == [405, 405]


def test_the_files_are_not_reached_beside_the_check(front: Front) -> None:
    for path in (f"/_broadcasts/{BROADCAST}/480p/index.m3u8", f"/_broadcasts/{BARRED}/", "/live/../_broadcasts/"):
        assert ask(front.nginx.port, path).status in (400, 404)


def test_the_plain_address_is_the_apps(front: Front) -> None:
    for name in ("master.m3u8", "manifest.mpd"):
        answers = front.both(f"/live/{ROOM}/{name}")
        assert [(each.status, each.code) for each in answers] == [(404, "ROOM_NOT_FOUND")] * 2
    assert [each.status for each in front.both("/healthz")] == [200, 200]


def test_the_logs_name_no_viewer(front: Front) -> None:
    prefix = front.prefix()
    agent = {"User-Agent": "a-very-special-player"}
    good = ask(front.nginx.port, f"{prefix}/480p/index.m3u8?secret=query", headers=agent)
    missing = ask(front.nginx.port, f"{prefix}/480p/s00009_1.m4s", headers=agent)
    forged = ask(front.nginx.port, f"{_end(prefix)}/480p/index.m3u8", headers=agent)
    assert (good.status, missing.status, forged.status) == (200, 404, 403)
    logged = front.nginx.access_log.read_text()
    assert f"GET /_broadcasts/{BROADCAST}/480p/index.m3u8 200 " in logged
    assert f"GET /live/{ROOM}/{BROADCAST}/- 403 " in logged
    for secret in (VIEWER, prefix.rpartition(".")[2], "127.0.0.1", "query", "special"):
        assert secret not in logged + front.nginx.error_log.read_text(), secret


def test_the_key_is_for_root_alone_and_is_not_the_secret(front: Front) -> None:
    key_file = front.nginx.access_log.parent / "spectators-key.conf"
    assert key_file.stat().st_mode & 0o777 == 0o600
    written = "".join(path.read_text() for path in key_file.parent.glob("*.conf"))
    assert front.settings.secret_key not in written


def test_sockets_pass_and_the_app_learns_who_calls(tmp_path: Path, front: Front) -> None:
    # given an app that says what it was sent
    def echo(connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        said = {"path": request.path, "for": request.headers.get_all("X-Forwarded-For")}
        connection.send(msgspec.json.encode(said))
        connection.send(connection.recv())

    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = msgspec.structs.replace(front.settings, port=server.socket.getsockname()[1])
        with Nginx(tmp_path / "nginx", settings) as nginx:
            lie = {"X-Forwarded-For": "203.0.113.9"}
            address = f"ws://127.0.0.1:{nginx.port}/signaling?grant=x"
            with connect(address, additional_headers=lie, proxy=None) as client:
                # then it has the path as it was, and the address of who is really there
                assert msgspec.json.decode(client.recv()) == {"path": "/signaling?grant=x", "for": ["127.0.0.1"]}
                client.send("both ways")
                assert client.recv() == "both ways"
        server.shutdown()
        thread.join(30)


def test_with_a_certificate_it_speaks_http_2(tmp_path: Path, front: Front) -> None:
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-subj", "/CN=localhost", "-days", "1", "-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True, timeout=30)
    with Nginx(tmp_path / "nginx", front.settings, certificate=(certificate, key)) as nginx:
        context = ssl.create_default_context(cafile=certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", nginx.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.selected_alpn_protocol() == "h2"
        address = f"https://localhost:{nginx.port}{front.prefix()}/master.m3u8"
        with urllib.request.urlopen(address, context=ssl.create_default_context(cafile=certificate)) as answer:
            assert answer.read() == b"this is master.free.m3u8 of brd_a"
