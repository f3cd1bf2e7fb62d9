"""What every page's view needs from the application: the database, the settings, the time.

The only file of the pages that knows where ``create_app`` keeps things.
"""

from __future__ import annotations

from models.config import Settings
from models.db import Database
from models.timing import Timers
from web.context import greenroom


def database() -> Database:
    """The application's database; views read with ``database().reading()``."""
    return greenroom().database


def settings() -> Settings:
    """The settings that the process was started with."""
    return greenroom().settings


def timers() -> Timers:
    """The timers of a request and a session here, in milliseconds."""
    return greenroom().timers
