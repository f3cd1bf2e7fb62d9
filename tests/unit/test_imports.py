"""The house rule: imports go one way. Walks the syntax trees; nothing is imported to find out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELF_NAMES = ("config", "errors", "ids", "clock", "log", "timing", "grants", "egress_tickets", "ladder", "turn")
SHELF = {"models", *(f"models.{name}" for name in SHELF_NAMES)}
SHELF_FILES = [*(ROOT / "models").glob("messages/*.py")] + [ROOT / "models" / f"{name}.py" for name in SHELF_NAMES]
NOT_IN_MODELS = {"flask", "dramatiq", "pika", "aiortc", "av", "web", "workers", "media", "demo", "ops", "bench",
                 "chaos", "simulation"}
EDGES = {"web", "workers", "media"}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file, with its full dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", files("models"), ids=lambda path: str(path.relative_to(ROOT)))
def test_models_know_no_edge(path: Path) -> None:
    assert not roots(path) & NOT_IN_MODELS


@pytest.mark.parametrize("package", sorted(EDGES))
def test_edges_never_import_one_another(package: str) -> None:
    others = EDGES - {package}
    assert [(path.name, roots(path) & others) for path in files(package) if roots(path) & others] == []


@pytest.mark.parametrize("package", ["models", "workers", "media", "migrations", "ops", "demo"])
def test_nothing_imports_web(package: str) -> None:
    assert [path.name for path in files(package) if "web" in roots(path)] == []


@pytest.mark.parametrize("path", SHELF_FILES, ids=lambda path: path.stem)
def test_the_shelf_needs_the_standard_library_and_msgspec_alone(path: Path) -> None:
    foreign = {name for name in roots(path) if name not in sys.stdlib_module_names} - {"msgspec", "models"}
    assert not foreign
    within = {name for name in imports(path) if name.startswith("models")}
    assert {name for name in within if not on_shelf(name)} == set()


def on_shelf(name: str) -> bool:
    shelves = {*SHELF - {"models"}, "models.messages"}
    return name == "models" or any(name == known or name.startswith(f"{known}.") for known in shelves)


def test_media_takes_only_the_shelf() -> None:
    for path in files("media"):
        assert [name for name in imports(path) if name.split(".")[0] == "models" and not on_shelf(name)] == []
        assert not roots(path) & {"sqlalchemy", "flask", "dramatiq"}, path


def test_one_package_touches_the_private_parts_of_aiortc() -> None:
    """``demo`` is an outside client and may do to its own aiortc what it likes. Parsing SDP is public."""
    touching = {
        path.relative_to(ROOT).as_posix()
        for package in ("media", "web", "workers", "models")
        for path in files(package)
        if any(
            name.split(".")[0] in ("aiortc", "aioice", "pylibsrtp") and not name.startswith("aiortc.sdp")
            for name in imports(path)
        )
    }
    assert {Path(path).parent.as_posix() for path in touching} == {"media/aiortc_seam"}


def test_standard_tools_run_before_anything_is_installed() -> None:
    # The database server of tests, chaos and benches: all of those come after the installation.
    for path in set(files("ops")) - {ROOT / "ops" / "postgres.py"}:
        assert roots(path) <= sys.stdlib_module_names | {"ops"}, path


@pytest.mark.parametrize("package", ["models", "web", "workers", "media", "migrations", "ops", "demo", "bench"])
def test_nothing_imports_the_simulation(package: str) -> None:
    assert [path.name for path in files(package) if "simulation" in roots(path)] == []


def test_the_simulation_plays_with_what_needs_no_peer_and_no_page() -> None:
    taken = {name for path in files("simulation") for name in imports(path)}
    modules = {".".join(name.split(".")[:2]) for name in taken if name.startswith("media")}
    assert modules == {"media", "media.budget", "media.control", "media.outgoing", "media.reports"}
    assert not {name.split(".")[0] for name in taken} & {"web", "flask", "aiortc", "ops", "demo"}
