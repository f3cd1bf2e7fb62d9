"""``python -m migrations`` upgrades the database that the settings name."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import migrations
from models import log
from models.config import SettingsError, load_settings


def main() -> int:
    """Exit code: 0 when the schema is the newest, 2 when the settings do not fit."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    log.configure("migrations", settings.log_level)
    if settings.database_url.startswith("sqlite:"):
        settings.var_dir.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(settings.database_url)
    log.event("database_upgraded", kind=urlsplit(settings.database_url).scheme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
