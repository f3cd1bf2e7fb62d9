"""Low-latency playlists: who waits is answered when what was asked for is there, by the app and by nginx alike."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from live_web import LiveWeb, environment_for
from nginx_front import Answer, Nginx, ask

from models import spectator_addresses
from models.config import load_settings
from models.spectator_addresses import Spectator
from web import blocking

ROOM, BROADCAST, VIEWER = "live-str_a", "brd_a", "abcdefghij234567abcd"
OTHER_VIEWER = "bbbbefghij234567abcd"
PLACES = 24
"""Of one viewer, at nginx."""
PLAYLIST = "480p/index.m3u8"
DOORS = ("app", "nginx")


class Doors(NamedTuple):
    """Both, and what they serve from."""

    directory: Path
    prefix: str
    """Of the viewer whom most are."""
    renewed: str
    """The same viewer's, signed later."""
    another: str
    """Another viewer's."""
    ports: dict[str, int]

    def write(self, segments: int, parts: int, *, ended: bool = False) -> None:
        """A playlist with so many segments, and so many parts of the next one."""
        lines = ["#EXTM3U", "#EXT-X-MEDIA-SEQUENCE:10"]
        for each in range(segments):
            lines += ["#EXT-X-PART:a", "#EXTINF:2.0,", f"s{each:05d}_1.m4s"]
        lines += ["#EXT-X-PART:b"] * parts + ["#EXT-X-ENDLIST"] * ended
        self.put(PLAYLIST, "\n".join(lines))

    def put(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, path)

    def get(self, door: str, query: str = "", name: str = PLAYLIST, prefix: str = "") -> Answer:
        return ask(self.ports[door], f"{prefix or self.prefix}/{name}{query}")


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(blocking.MOST_WAITING + 2) as made:
        yield made


@pytest.fixture(scope="module")
def doors(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    root = tmp_path_factory.mktemp("low")
    environment = environment_for(f"sqlite:///{sqlite_template}")
    environment |= {"HLS_DIR": str(root / "hls"), "TRUSTED_PROXIES": "1", "LOW_LATENCY_HLS": "1"}
    with LiveWeb(environment, threads=blocking.MOST_WAITING + 16) as app:
        settings = load_settings(environment | {"PORT": str(app.port)})
        key, until = settings.key(spectator_addresses.KEY_PURPOSE), int(time.time()) + 3_000
        prefix, renewed, another = (
            spectator_addresses.prefix(Spectator(ROOM, BROADCAST, viewer, "free", expires), key)
            for viewer, expires in ((VIEWER, until), (VIEWER, until + 55), (OTHER_VIEWER, until))
        )
        with Nginx(root / "nginx", settings) as nginx:
            ports = {"app": app.port, "nginx": nginx.port}
            yield Doors(root / "hls" / BROADCAST, prefix, renewed, another, ports)


def waits(future: Future[Answer]) -> bool:
    """Whether it has not been answered in the time that five looks take."""
    threading.Event().wait(0.25)
    return not future.done()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("query", "before", "after"),
    [
        ("?_HLS_msn=12&_HLS_part=1", (2, 1), (2, 2)),
        ("?_HLS_msn=12&_HLS_part=3", (2, 3), (3, 0)),
        ("?_HLS_msn=12", (2, 3), (3, 0)),
        ("?_HLS_msn=13&_HLS_part=0", (2, 3), (3, 1)),
    ],
    ids=["a part", "the last part", "a segment", "a part of the next"],
)
def test_who_waits_is_answered_when_it_is_there(
    doors: Doors, pool: ThreadPoolExecutor, door: str, query: str, before: tuple[int, int], after: tuple[int, int]
) -> None:
    doors.write(*before)
    asked = pool.submit(doors.get, door, query)
    assert waits(asked)
    doors.write(*after)
    answer = asked.result(5)
    assert answer.status == 200
    assert answer.body == (doors.directory / PLAYLIST).read_bytes()


@pytest.mark.parametrize("door", DOORS)
def test_what_is_there_is_answered_at_once(doors: Doors, door: str) -> None:
    doors.write(2, 2)
    for query in ("", "?_HLS_msn=11", "?_HLS_msn=12&_HLS_part=1", "?_HLS_msn=3&_HLS_part=9", "?_HLS_skip=YES"):
        assert doors.get(door, query).status == 200, query
    # and an end is an end, whatever is waited for
    doors.write(2, 0, ended=True)
    assert doors.get(door, "?_HLS_msn=13").status == 200


@pytest.mark.parametrize("door", DOORS)
def test_an_end_is_told_to_who_waits(doors: Doors, pool: ThreadPoolExecutor, door: str) -> None:
    doors.write(2, 1)
    asked = pool.submit(doors.get, door, "?_HLS_msn=12&_HLS_part=1")
    assert waits(asked)
    doors.write(2, 0, ended=True)
    assert b"ENDLIST" in asked.result(5).body


@pytest.mark.parametrize("door", DOORS)
def test_nobody_waits_for_what_is_far_away_or_nothing(doors: Doors, door: str) -> None:
    doors.write(2, 2)
    for query in ("?_HLS_msn=14", "?_HLS_part=1", "?_HLS_msn=x", "?_HLS_msn=-1", "?_HLS_msn=12&_HLS_part=1x",
                  "?_HLS_msn=99999999999", "?_HLS_msn="):  # fmt: skip
        answer = doors.get(door, query)
        assert (answer.status, answer.code) == (400, "BAD_REQUEST"), query
    missing = doors.get(door, "?_HLS_msn=12", name="240p/index.m3u8")
    assert (missing.status, missing.code) == (404, "NOT_FOUND")


def test_a_playlist_that_does_not_grow_is_no_reason_to_wait_for_ever(
    doors: Doors, pool: ThreadPoolExecutor
) -> None:
    doors.write(2, 2)
    answers = list(pool.map(lambda door: doors.get(door, "?_HLS_msn=13"), DOORS))
    assert [(each.status, each.code) for each in answers] == [(503, "UNAVAILABLE")] * 2


@pytest.mark.parametrize("door", DOORS)
def test_a_part_that_was_promised_is_waited_for(doors: Doors, pool: ThreadPoolExecutor, door: str) -> None:
    name = f"480p/s00012_1.p{DOORS.index(door)}.m4s"
    asked = pool.submit(doors.get, door, "", name)
    assert waits(asked)
    doors.put(name, "a part")
    answer = asked.result(5)
    assert (answer.status, answer.body) == (200, b"a part")
    assert doors.get(door, name="480p/s00012_1.p9.m4s").status == 404


def test_the_app_lets_few_wait_and_answers_the_others_at_once(doors: Doors, pool: ThreadPoolExecutor) -> None:
    doors.write(2, 1)
    asked = [pool.submit(doors.get, "app", "?_HLS_msn=12&_HLS_part=1") for _ in range(blocking.MOST_WAITING)]
    assert all(waits(each) for each in asked[:2])
    # when one more comes, then it has what there is, and the app is there for everybody else
    late = doors.get("app", "?_HLS_msn=12&_HLS_part=1")
    assert (late.status, late.body.count(b"#EXT-X-PART:b")) == (200, 1)
    assert ask(doors.ports["app"], "/healthz").status == 200
    doors.write(2, 2)
    assert {each.result(10).status for each in asked} == {200}


def test_one_viewer_has_few_places_at_nginx_and_leaves_others_theirs(
    doors: Doors, pool: ThreadPoolExecutor
) -> None:
    # given a viewer who goes on asking for what does not come, by two addresses, each for less than all places
    doors.write(2, 1)
    query = "?_HLS_msn=12&_HLS_part=1"
    found, stop = threading.Event(), threading.Event()

    def crowd(prefix: str) -> None:
        while not stop.is_set():
            answer = doors.get("nginx", query, prefix=prefix)
            # Who waits is answered with the part, or refused in the end: this one has not waited.
            if answer.status == 200 and answer.body.count(b"#EXT-X-PART:b") == 1:
                found.set()

    asking = [pool.submit(crowd, prefix) for prefix in (doors.prefix, doors.renewed) for _ in range(PLACES - 4)]
    try:
        # then one too many is answered at once, with what there is
        assert found.wait(120)
        # and another viewer waits, and gets the part
        late = pool.submit(doors.get, "nginx", query, PLAYLIST, doors.another)
        assert waits(late)
        doors.write(2, 2)
        assert late.result(60).body.count(b"#EXT-X-PART:b") == 2
    finally:
        stop.set()
        doors.write(2, 2)
    for each in asking:
        each.result(60)
