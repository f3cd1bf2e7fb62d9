"""The browser's modules: what a call imports is fetched side by side, and nothing imports what is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from models.messages import signaling
from models.messages.commands import Reason

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "web" / "static" / "js"
IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?["']([^"']+\.js)["'];""", re.MULTILINE)


def imports_of(script: Path) -> set[Path]:
    """The modules that ``script`` names, as files."""
    return {(script.parent / name).resolve() for name in IMPORT.findall(script.read_text())}


def closure_of(script: Path) -> set[Path]:
    found: set[Path] = set()
    new = {script}
    while new:
        found |= new
        new = {each for known in new for each in imports_of(known)} - found
    return found


def test_every_import_is_a_file_of_ours() -> None:
    missing = {name for script in SCRIPTS.rglob("*.js") for name in imports_of(script) if not name.is_file()}
    assert missing == set()


@pytest.mark.parametrize("page", ["call", "studio"])
def test_what_a_page_imports_is_preloaded(page: str) -> None:
    # given the list in the page's head, when its script's imports are followed, then none is missing from it
    heads = (ROOT / "templates" / "partials" / "modules.html", ROOT / "templates" / f"{page}.html")
    named = {name for head in heads for name in re.findall(r'"([a-z_]+(?:/[a-z_]+)?)"', head.read_text())}
    start = SCRIPTS / "pages" / f"{page}.js"
    needed = {str(script.relative_to(SCRIPTS).with_suffix("")) for script in closure_of(start) - {start}}
    assert needed - named == set()


def test_the_protocol_module_knows_every_reason_and_message() -> None:
    # given the messages in Python, then the browser has a word for each
    text = (SCRIPTS / "protocol.js").read_text()
    every = (*get_args(signaling.ClientMessage), *get_args(signaling.ServerMessage))
    tags = {message.__struct_config__.tag for message in every}
    assert {tag for tag in tags if f'{tag}: "{tag}"' not in text} == set()
    assert {reason for reason in get_args(Reason) if f"{reason}: " not in text} == set()
    assert {code for code in get_args(signaling.ErrorCode) if f"{code}: " not in text} == set()
