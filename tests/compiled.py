"""Compiled once a process instead of once a test: statements, addresses, templates; and passwords hashed cheaply.

Each test has a database and an application of its own, whose engine compiles every statement, whose routing
compiles every rule and whose templates are compiled when they are first rendered: that was most of a test's
time. All of them compile the same. Argon2's parameters are the product's own matter; a hash says with which it
was made, so that what tests make is verified as quickly as it was made.

Knows only how SQLAlchemy, Werkzeug, Jinja and argon2 keep such things.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from argon2 import PasswordHasher
from flask import Flask
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache
from werkzeug.routing import Rule

import models.db
from models.services import accounts
from tests import databases

_statements: LRUCache[object, object] = LRUCache(10_000)
_builders: dict[object, Any] = {}
_templates: dict[str, bytes] = {}
_compile_builder = Rule._compile_builder
product_hasher = accounts._hasher
"""What the product hashes passwords with."""


def once() -> None:
    """From now on, in this process."""
    # All engines of one kind speak the same dialect here, and know each other's compiled statements.
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
        dialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
        dialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
    models.db.create_engine = _engine  # type: ignore[attr-defined]
    Rule._compile_builder = _builder  # type: ignore[method-assign]
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": _Templates()}
    accounts._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def _engine(url: str, **options: Any) -> Engine:
    engine = sqlalchemy.create_engine(url, **options)
    engine._compiled_cache = _statements
    if engine.dialect.name == "postgresql":
        event.listen(engine, "do_connect", databases.connect)
    return engine


def _builder(rule: Rule, append_unknown: bool = True) -> Any:
    """The function that makes an address of a rule: all that it is made from is in the key."""
    converters = tuple((name, type(each)) for name, each in rule._converters.items())
    key = (rule.rule, tuple(rule._trace), converters, repr(rule.defaults), append_unknown)
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


class _Templates(BytecodeCache):
    """In memory; a changed template has another checksum."""

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in _templates:
            bucket.bytecode_from_string(_templates[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        _templates[bucket.key] = bucket.bytecode_to_string()
