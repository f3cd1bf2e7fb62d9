"""``make bench-ledger``: holds and settlements a second on one hot creator, durable, against a pgbench floor.

Eight client processes call the real ``ledger.hold`` and ``ledger.settle``, each in a transaction of its own,
for eight fans each, all paying the same creator, on a PostgreSQL with fsync and synchronous_commit on. The
floor, in the same run and in turn with ours: pgbench with eight clients calls one server-side function a
movement, which writes the same rows to tables with the same columns, indexes, CHECKs and foreign keys, the
idempotency key and the slots included, and has no client's logic, no refusals and no triggers
(``bench.ledger_floor``, which also says what the second floor is). Server and clients share the processors.
The last line is ours divided by the floor, by the medians of the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

import migrations
from bench.ledger_floor import FLOOR, SCRIPT
from models import ledger
from models.audit import books_problems
from models.clock import utc_now
from models.db import Database
from models.services import accounts
from ops.postgres import INSTALLATIONS, PostgresServer

CLIENTS = 8
FANS_A_CLIENT = 8
TOKENS = 10**12
PRICE, EARNINGS, COMMISSION = 500, 240, 60


def main() -> int:
    """Start a server, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with _server() as server:
        url = server.create("ledger")
        migrations.upgrade(url)
        creator, fans = _people(url)
        _make_floor(url, creator, fans)
        ours, floor, one_row, holds, settles = [], [], [], [], []
        with _clients(url, creator, fans) as pipes:
            _round(pipes, 1.0)
            _pgbench(server, 1)
            for number in range(options.rounds):
                floor.append(_pgbench(server, max(1, round(options.seconds))))
                one_row.append(_pgbench(server, max(1, round(options.seconds)), one_row=True))
                rate, hold_times, settle_times = _round(pipes, options.seconds)
                ours.append(rate)
                holds += hold_times
                settles += settle_times
                floors = f"floor {floor[-1]:6.0f}/s   one row {one_row[-1]:6.0f}/s"
                print(f"round {number + 1}: {floors}   ours {rate:6.0f}/s   {rate / floor[-1]:.2f}", flush=True)
        _check(url)
    print(f"PostgreSQL durable, {CLIENTS} clients, one creator, {os.cpu_count()} cores")
    for name, times in (("hold", holds), ("settle", settles)):
        print(f"{name:7} p50 {_percentile(times, 50):6.2f} ms   p99 {_percentile(times, 99):6.2f} ms")
    print(f"one row: {statistics.median(one_row):.0f} transfers/s")
    print(f"floor:   {statistics.median(floor):.0f} transfers/s")
    print(f"ours:    {statistics.median(ours):.0f} transfers/s")
    print(f"ours to one row: {statistics.median(ours) / statistics.median(one_row):.2f}")
    print(f"ratio: {statistics.median(ours) / statistics.median(floor):.2f}")
    return 0


@contextmanager
def _server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        Path(directory).chmod(0o755)
        server = PostgresServer(Path(directory) / "postgres")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _people(url: str) -> tuple[str, list[str]]:
    """One creator, and fans with tokens."""
    database, now = Database(url), datetime(2026, 1, 2, tzinfo=UTC)

    def person(name: str, role: str) -> str:
        return database.run(
            lambda tx: accounts.create_person(
                tx,
                email=f"{name}@bench.test",
                handle=name,
                display_name=name,
                password_hash="no password fits this",
                roles=(role,),
                now=now,
            )
        ).user_id

    creator = person("creator", "creator")
    fans = [person(f"fan{number}", "fan") for number in range(CLIENTS * FANS_A_CLIENT)]
    for fan in fans:
        database.run(
            lambda tx, fan=fan: ledger.top_up(  # type: ignore[misc]
                tx,
                purchase_id=f"pur_{fan}",
                user_id=fan,
                tokens=TOKENS,
                gateway="sandbox",
                cause_id="bench",
                now=now,
            )
        )
    with database.reading() as tx:
        for setting in ("fsync", "synchronous_commit"):
            if tx.execute(text(f"SHOW {setting}")).scalar_one() != "on":
                raise SystemExit(f"{setting} is off: that would be another benchmark")
    database.close()
    return creator, fans


# --- ours -----------------------------------------------------------------------------------------------


@contextmanager
def _clients(url: str, creator: str, fans: Sequence[str]) -> Iterator[list[Connection]]:
    context, pipes, processes = multiprocessing.get_context("spawn"), [], []
    for number in range(CLIENTS):
        mine, theirs = context.Pipe()
        own = fans[number * FANS_A_CLIENT : (number + 1) * FANS_A_CLIENT]
        processes.append(context.Process(target=_client, args=(theirs, url, creator, own, number), daemon=True))
        pipes.append(mine)
    for process in processes:
        process.start()
    try:
        yield pipes
    finally:
        for pipe in pipes:
            pipe.send(0.0)
        for process in processes:
            process.join()


def _client(pipe: Connection, url: str, creator: str, fans: Sequence[str], number: int) -> None:
    """Hold and settle for as many seconds as the pipe says, until it says 0."""
    database, names, turn = Database(url, pool_size=1), itertools.count(), itertools.cycle(fans)
    while (seconds := pipe.recv()) > 0:
        holds: list[float] = []
        settles: list[float] = []
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            reference = f"req_{number}_{next(names)}"
            _hold(database, next(turn), reference)
            held = time.perf_counter()
            _settle(database, creator, reference)
            holds.append(held - started)
            settles.append(time.perf_counter() - held)
        pipe.send((holds, settles))
    database.close()


def _hold(database: Database, fan: str, reference: str) -> None:
    now = utc_now()
    database.run(
        lambda tx: ledger.hold(
            tx, fan, PRICE, key=f"hold:{reference}", reference=reference, cause_id="bench", now=now
        )
    )


def _settle(database: Database, creator: str, reference: str) -> None:
    now = utc_now()
    database.run(
        lambda tx: ledger.settle(
            tx,
            reference,
            creator_id=creator,
            earnings=EARNINGS,
            commission=COMMISSION,
            key=f"settle:{reference}",
            cause_id="bench",
            now=now,
        )
    )


def _round(pipes: Sequence[Connection], seconds: float) -> tuple[float, list[float], list[float]]:
    for pipe in pipes:
        pipe.send(seconds)
    holds: list[float] = []
    settles: list[float] = []
    for pipe in pipes:
        some_holds, some_settles = pipe.recv()
        holds += some_holds
        settles += some_settles
    return (len(holds) + len(settles)) / seconds, holds, settles


def _check(url: str) -> None:
    """What was measured was right."""
    database = Database(url)
    with database.reading() as tx:
        problems = books_problems(tx)
    database.close()
    if problems:
        raise SystemExit(f"the books are wrong: {problems[:3]}")


# --- the floor ------------------------------------------------------------------------------------------


def _make_floor(url: str, creator: str, fans: Sequence[str]) -> None:
    database = Database(url)

    def make(tx: Session) -> None:
        for statement in FLOOR:
            tx.connection().exec_driver_sql(statement.replace("%", "%%"))
        for number, fan in enumerate(fans):
            row = {"number": number, "fan": fan, "creator": creator}
            tx.execute(text("INSERT INTO floor.fans VALUES (:number, :fan, :creator)"), row)

    database.run(make)
    database.close()


def _pgbench(server: PostgresServer, seconds: int, *, one_row: bool = False) -> float:
    """Movements a second of pgbench's clients: two a run of the script."""
    script = server.directory / "floor.sql"
    values = {"fans": FANS_A_CLIENT, "price": PRICE, "earnings": EARNINGS, "commission": COMMISSION}
    script.write_text(SCRIPT.format(**values, one_row=str(one_row).lower()))
    program = sorted(INSTALLATIONS.glob("*/bin/pgbench"))[-1]
    command = [
        str(program), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds),
        "-h", "127.0.0.1", "-p", str(server.port), "-U", "greenroom", "-f", str(script), "ledger",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if found is None:
        raise SystemExit(f"pgbench failed: {done.stderr}")
    return 2 * float(found.group(1))


def _percentile(times: Sequence[float], percent: int) -> float:
    """Milliseconds."""
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)] * 1000


if __name__ == "__main__":
    sys.exit(main())
