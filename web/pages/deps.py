"""What every page's view needs from the application: the database, the settings, who asks.

The only file of the pages that knows where ``create_app`` keeps things.
"""

from __future__ import annotations

from flask import current_app

from models.config import Settings
from models.db import Database


def database() -> Database:
    """The application's database; views read with ``database().reading()``."""
    found: Database = current_app.extensions["database"]
    return found


def settings() -> Settings:
    """The settings that the process was started with."""
    found: Settings = current_app.extensions["settings"]
    return found
