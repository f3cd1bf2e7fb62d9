"""What every test may ask for: a database of either kind, a broker, a running house.

Servers are started once a run, in temporary directories, on ports of their own; each test has a database as
migrated as empty, so that no test sees another's rows.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

import models.db
from models.db import Database
from ops.house import House, HouseError
from ops.ports import free_port
from ops.postgres import PostgresServer
from ops.rabbitmq import PORT_OFFSETS, RabbitNode
from tests import compiled, databases, effort

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("unit", "integration", "e2e")
# Modules that mostly wait for real time: they start processes, or play media as fast as it is meant to be seen.
IN_REAL_TIME = ("e2e", "media", "transcode")
HOUSES = {"make_house", "live_app"}
ALSO = ("test_chaos", "test_supervise")
# Those that take longest, first.
LONGEST = (
    "test_ways_to_pay", "test_kills", "test_node_death", "test_spectating", "test_queue_and_bookings",
    "test_private_call", "test_spectators_under_kills", "test_private_frames", "test_egress", "test_troubles",
    "test_blank_media", "test_hostile_clients", "test_recording_private", "test_recording", "test_chaos",
    "test_money_from_outside", "test_patrons", "test_pages", "test_admin", "test_signaling",
    "test_egress_chromium", "test_broadcasting", "test_supervise", "test_control", "test_mock_fan",
)  # fmt: skip
SEED = int(os.environ.get("SEED", "20260101"))
_numbers = itertools.count()

# How long examples take to make says how busy the machine is, and nothing of what is tested.
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=(hypothesis.HealthCheck.too_slow,),
)
hypothesis.settings.load_profile("ci")
# Other examples each time: of ``make prove``, which prints the seed (``--hypothesis-seed``) and takes it again.
hypothesis.settings.register_profile(
    "prove", hypothesis.settings.get_profile("ci"), derandomize=False, database=None
)

compiled.once()


def _pragmas(connection: sqlite3.Connection, record: object) -> None:
    """As in the product, but no test outlives a power cut: as with the PostgreSQL server below, no fsync."""
    _product_pragmas(connection, record)
    connection.execute("PRAGMA synchronous=OFF")


_product_pragmas = models.db._sqlite_pragmas
models.db._sqlite_pragmas = _pragmas


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--prove", action="store_true", help="run the long proofs as well (make prove)")


def pytest_configure(config: pytest.Config) -> None:
    """Before any module is imported, and for the processes that run tests beside this one, too."""
    if config.getoption("--prove"):
        os.environ[effort.PROVING] = "1"
        hypothesis.settings.load_profile("prove")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What fails fastest first, then modules that mostly wait for real time, evenly spread among the others: so
    there is always something to compute, few houses stand side by side, and what takes longest is not last.

    The long proofs run with ``make prove``; each has a short seed among the ordinary tests.
    """
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: KINDS.index(item.path.relative_to(ROOT / "tests").parts[0])):
        by_file.setdefault(item.path, []).append(item)
    waiting = [path for path, tests in by_file.items() if _is_in_real_time(path, tests)]
    waiting.sort(key=lambda path: LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST))
    others = [path for path in by_file if path not in waiting]
    quick = sum(path.is_relative_to(ROOT / "tests/unit") for path in others)
    between = (len(others) - quick) / max(1, len(waiting))
    for number, path in enumerate(waiting):
        others.insert(quick + number + int(number * between), path)
    items[:] = [item for path in others for item in by_file[path]]
    if config.getoption("--prove"):
        return
    long_proofs = [item for item in items if item.get_closest_marker("prove")]
    config.hook.pytest_deselected(items=long_proofs)
    items[:] = [item for item in items if not item.get_closest_marker("prove")]


def _is_in_real_time(path: Path, tests: list[pytest.Item]) -> bool:
    if path.stem in ALSO or (path.parent.name in IN_REAL_TIME and not path.is_relative_to(ROOT / "tests/unit")):
        return True
    return any(HOUSES.intersection(getattr(test, "fixturenames", ())) for test in tests)


def pytest_collection_finish() -> None:
    """What is imported stays, and is not worth looking through for rubbish a thousand times over."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_report_header() -> str:
    return f"seed: {SEED} (SEED=… to choose another)"


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of everything random in a test."""
    return SEED


@pytest.fixture
def durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite as in the product, fsync and all."""
    monkeypatch.setattr(models.db, "_sqlite_pragmas", _product_pragmas)


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """Where this run's servers live. Readable by the user that PostgreSQL runs as."""
    directory = Path(tempfile.mkdtemp(prefix="greenroom-tests-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(servers_directory: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server with a migrated database named ``template``."""
    server = PostgresServer(servers_directory / "postgres", durable=False)
    server.start()
    import migrations

    migrations.upgrade(server.create("template"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_databases(postgres: PostgresServer) -> Iterator[databases.Databases]:
    """Where tests borrow migrated, empty databases."""
    made = databases.Databases(postgres)
    yield made
    made.close()


@pytest.fixture(scope="session")
def sqlite_template(servers_directory: Path) -> Path:
    """A migrated SQLite file to copy."""
    import migrations

    path = servers_directory / "template.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated, empty database; the test runs once on each kind."""
    if request.param == "sqlite":
        path = tmp_path / "greenroom.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    borrowed: databases.Databases = request.getfixturevalue("postgres_databases")
    with borrowed.lent() as lent:
        yield lent.url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database; the test runs once on each kind."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def without_rules() -> Callable[[Session], None]:
    """Takes the triggers away, in one transaction: what somebody could do who may change the schema itself."""

    def drop(tx: Session) -> None:
        if tx.get_bind().dialect.name != "sqlite":
            tx.execute(text("SET LOCAL session_replication_role = replica"))
            return
        for name in tx.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
            tx.execute(text(f"DROP TRIGGER {name}"))

    return drop


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite database, for tests whose subject is not the database."""
    path = tmp_path / "greenroom.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def rabbit(servers_directory: Path) -> Iterator[RabbitNode]:
    """One RabbitMQ node for the whole run; a test that kills it starts it again."""
    node = RabbitNode(servers_directory / "rabbitmq", free_port(PORT_OFFSETS))
    node.start()
    yield node
    node.discard()


@pytest.fixture
def amqp_url(rabbit: RabbitNode) -> str:
    """The address of a virtual host of its own, so that no test sees another's queues."""
    return rabbit.virtual_host(f"test{next(_numbers)}")


MakeHouse = Callable[..., House]


class QuickHouse(House):
    """Its children stop side by side: each takes its seconds to, and no test looks who goes first. What an SQLite
    database begins with is made by the product once, and copied from then on."""

    def prepare_database(self) -> None:
        begun, first = self.var / "greenroom.db", self.var.parent / f"house-demo{self.environment['DEMO']}.db"
        if "DATABASE_URL" in self.environment or begun.exists():
            super().prepare_database()
        elif first.exists():
            shutil.copy(first, begun)
        else:
            super().prepare_database()
            shutil.copy(begun, first)

    def stop(self) -> None:
        self._stopping.set()
        for child in self.children.values():
            child.wanted = False
            # One that is not running, or no longer, needs no word.
            with suppress(HouseError, ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
        super().stop()


@contextmanager
def _houses(rabbit: RabbitNode, servers_directory: Path) -> Iterator[MakeHouse]:
    """Start real processes: ``make_house(minute_seconds=…, demo=…, names=…, **environment)``; stopped at the end.

    Each house has directories, ports and a virtual host of its own, or a broker of its own where one is
    given, and restarts what dies. Without a DATABASE_URL it uses SQLite.
    """
    houses: list[House] = []

    def make(
        *,
        minute_seconds: int = 60,
        demo: bool = False,
        names: tuple[str, ...] = ("media", "worker", "clock", "web"),
        broker: RabbitNode | None = None,
        **environment: str,
    ) -> House:
        number = next(_numbers)
        port = free_port()
        house = QuickHouse(
            {
                **({} if broker else {"AMQP_URL": rabbit.virtual_host(f"house{number}")}),
                "RABBITMQ_MANAGEMENT_URL": rabbit.management_url,
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "PUBLIC_URL": f"http://localhost:{port}",
                "MEDIA_PORT": str(free_port()),
                "MEDIA_ADDRESSES": "127.0.0.1",
                "MEDIA_UDP_PORT": "0",
                "SECRET_KEY": "a-key-for-tests-only-that-is-long-enough",
                "MINUTE_SECONDS": str(minute_seconds),
                "TESTING": "1",
                "DEMO": "1" if demo else "0",
                **environment,
            },
            var=servers_directory / f"house{number}",
            names=names,
            broker=broker,
            say=lambda text: None,
        )
        houses.append(house)
        house.start()
        # Children ask for SIGTERM at the death of the thread that started them: this one lives as long.
        threading.Thread(target=house.watch, daemon=True).start()
        return house

    try:
        yield make
    finally:
        for house in houses:
            if house.broker is not None:
                house.broker.discard()
            house.stop()


@pytest.fixture(scope="module")
def make_house(rabbit: RabbitNode, servers_directory: Path) -> Iterator[MakeHouse]:
    """Houses of one module, gone with it: an idle one costs the others a tenth of a processor."""
    with _houses(rabbit, servers_directory) as make:
        yield make


@pytest.fixture(scope="module")
def live_app(make_house: MakeHouse) -> House:
    """One house for the tests of a module that only need the product to be there: demo people, and a minute that
    is not the usual one, though long enough for nobody to have to hurry."""
    return make_house(minute_seconds=50, demo=True)
