"""Databases of the tests' own server are made and dropped, however slowly those who used them go."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait

import psycopg

from ops.postgres import PostgresServer


def test_a_database_is_dropped_whose_last_connection_takes_its_time(postgres: PostgresServer) -> None:
    url, log = postgres.clone("template", "busy"), postgres.directory / "server.log"
    in_use = 'database "busy" is being accessed by other users'
    with psycopg.connect(url) as connection, ThreadPoolExecutor(1) as pool:
        # given: a process that does not come to hear that it is to end
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        try:
            dropping = pool.submit(postgres.drop, "busy")
            while in_use not in log.read_text() and not dropping.done():
                wait([dropping], 0.1)
            assert not dropping.done()
        finally:
            os.kill(connection.info.backend_pid, signal.SIGCONT)
        # then
        dropping.result(60)
        connection.close()
