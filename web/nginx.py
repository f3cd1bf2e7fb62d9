"""Write nginx's configuration for this installation: ``python -m web.nginx /etc/nginx/greenroom``.

Takes the settings that the app is started with, fills in deploy/nginx/greenroom.conf and puts the key of the
spectators' addresses beside it, for root alone. That key is derived: nginx never learns ``SECRET_KEY``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from models import spectator_addresses
from models.config import Settings, SettingsError, load_settings
from models.live_files import STORED

HERE = Path(__file__).resolve().parent.parent / "deploy" / "nginx"
CONFIGURATION, KEY = "greenroom.conf", "spectators-key.conf"
# What may stand in nginx's configuration as it is, without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_.:/\[\]*@+,=-]+")


class Door(NamedTuple):
    """Where nginx takes connections, and where it logs. With a certificate: TLS and HTTP/2."""

    listen: str = "80"
    server_name: str = "_"
    certificate: str = ""
    certificate_key: str = ""
    access_log: str = "/var/log/nginx/greenroom.log"
    error_log: str = "/var/log/nginx/greenroom-error.log"


def configuration(settings: Settings, door: Door, key_file: Path) -> str:
    """The text of greenroom.conf. Raises ValueError for a value that cannot stand in one."""
    values = {
        "HERE": str(HERE),
        "KEY_FILE": str(key_file),
        "HLS_DIR": str(settings.hls_dir),
        "STORED_DIR": str(settings.hls_dir / STORED) if settings.s3_bucket else "",
        "LOW_LATENCY": "1" if settings.low_latency_hls else "",
        "PLAYERS_SOCKET": str(settings.players_socket or ""),
        "APP": f"{settings.host}:{settings.port}",
        "SERVER_NAME": door.server_name,
        "ACCESS_LOG": door.access_log,
        "ERROR_LOG": door.error_log,
    }
    for name, value in (*values.items(), *door._asdict().items()):
        if value and _PLAIN.fullmatch(value) is None:
            raise ValueError(f"{name} has a character that nginx's configuration cannot take as it is: {value!r}")
    values["LISTEN"], values["PLAYERS_LOG"] = _listen(door), _players_log(settings)
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], (HERE / CONFIGURATION).read_text())


def key_text(settings: Settings) -> str:
    """The text of the key's file."""
    key = settings.key(spectator_addresses.KEY_PURPOSE).hex()
    return f'js_var $spectators_key "{key}";\n'


def write(directory: Path, settings: Settings, door: Door) -> Path:
    """Write both files; the path of the one to include in http { }."""
    directory.mkdir(parents=True, exist_ok=True)
    key_file = directory / KEY
    text = configuration(settings, door, key_file)
    key_file.unlink(missing_ok=True)
    with open(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key_text(settings))
    path = directory / CONFIGURATION
    path.write_text(text)
    return path


def _players_log(settings: Settings) -> str:
    if settings.players_socket is None:
        return "    # PLAYERS_SOCKET is not set: nobody counts players."
    where = f"syslog:server=unix:{settings.players_socket},nohostname,tag=greenroom"
    return f"    access_log {where} greenroom_players if=$live_player;"


def _listen(door: Door) -> str:
    if not door.certificate:
        return f"    listen {door.listen};"
    return "\n".join(
        (
            f"    listen {door.listen} ssl http2;",
            f"    ssl_certificate {door.certificate};",
            f"    ssl_certificate_key {door.certificate_key};",
            "    ssl_protocols TLSv1.2 TLSv1.3;",
            "    ssl_session_cache shared:greenroom:10m;",
            "    ssl_session_tickets off;",
        )
    )


def main() -> int:
    """Exit status 0 when both files are written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    for name, default in Door._field_defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default)
    given = vars(parser.parse_args())
    directory = given.pop("directory")
    try:
        path = write(directory, load_settings(), Door(**given))
    except (SettingsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"include {path};")
    return 0


if __name__ == "__main__":
    sys.exit(main())
