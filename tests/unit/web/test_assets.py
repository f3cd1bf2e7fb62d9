"""Scripts and styles: kept for a year under an address that names their content, asked for again elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask, url_for
from flask.testing import FlaskClient

from web import assets


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "page.js").write_text('import "./part.js";')
    (tmp_path / "js" / "part.js").write_text("export {};")
    made = Flask(__name__, static_folder=None)
    assets.init_app(made, tmp_path)
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def address(app: Flask, name: str) -> str:
    with app.test_request_context():
        return url_for("static", filename=name)


def test_a_page_names_files_at_an_address_that_may_be_kept(app: Flask, client: FlaskClient) -> None:
    found = address(app, "js/page.js")
    assert found.startswith("/static/at-")
    with client.get(found) as answer:
        assert answer.status_code == 200
        assert answer.cache_control.max_age == assets.KEPT_SECONDS
        assert answer.cache_control.immutable
    # and what a module imports by a relative path is kept with it
    with client.get(found.replace("page.js", "part.js")) as answer:
        assert answer.cache_control.immutable


def test_plain_and_earlier_addresses_are_asked_for_again(client: FlaskClient) -> None:
    for path in ("/static/js/page.js", "/static/at-0123456789ab/js/page.js"):
        with client.get(path) as answer:
            assert answer.status_code == 200
            assert answer.cache_control.no_cache
            tag = answer.headers["ETag"]
        with client.get(path, headers={"If-None-Match": tag}) as again:
            assert again.status_code == 304


def test_another_content_has_another_address(app: Flask, tmp_path: Path) -> None:
    before = assets.digest_of(tmp_path)
    assert before in address(app, "js/page.js")
    (tmp_path / "js" / "part.js").write_text("export const changed = true;")
    assert assets.digest_of(tmp_path) != before


def test_nothing_outside_the_folder_is_served(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path.parent / "secret").write_text("no")
    assert client.get("/static/../secret").status_code == 404
    assert client.get("/static/js/%2e%2e/%2e%2e/secret").status_code == 404
