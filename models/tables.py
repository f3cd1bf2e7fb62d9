"""All tables at once, for whoever needs the whole schema: migrations and tests."""

from __future__ import annotations

from models import books, flags, operations, payments, people, plumbing, requests, sessions, streams
from models.db import Base

TABLES = (people, streams, requests, sessions, payments, books, flags, plumbing, operations)
metadata = Base.metadata
