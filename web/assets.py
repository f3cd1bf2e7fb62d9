"""The files under ``web/static``: kept by browsers, and yet never two releases of them on one page.

Our pages name them at addresses that hold a digest of all of them; ES modules and style sheets name each
other relatively, therefore it stands in the path. Whoever imports a module from elsewhere uses the plain
address, which is asked for again each time. Knows no page.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, Response, send_from_directory

FOLDER = Path(__file__).resolve().parent / "static"
ENDPOINT = "static"
KEPT_SECONDS = 31_536_000


def digest_of(folder: Path) -> str:
    """A short digest of every file's name and content."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def init_app(app: Flask, folder: Path = FOLDER) -> None:
    """Serve ``folder``; ``url_for("static", filename=…)`` then gives the address with the digest."""
    present = digest_of(folder)

    def asset(filename: str, digest: str = "") -> Response:
        # Another digest is a page from before this start: it gets what there is, and keeps none of it.
        response = send_from_directory(folder, filename, max_age=KEPT_SECONDS if digest == present else 0)
        if digest == present:
            response.cache_control.immutable = True
        return response

    def name_the_digest(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == ENDPOINT:
            values.setdefault("digest", present)

    app.add_url_rule("/static/<path:filename>", ENDPOINT, asset)
    app.add_url_rule("/static/at-<digest>/<path:filename>", ENDPOINT, asset)
    app.url_defaults(name_the_digest)
