"""What a node must do whoever forwards its packets is shown with both: the native engine, and Python alone."""

from __future__ import annotations

import pytest

BOTH = {
    "test_changing_rooms", "test_clients_at_one_port", "test_forwarding", "test_hostile", "test_layers_chromium",
    "test_moved_rooms", "test_recording_permission", "test_seen_from_outside", "test_signaling", "test_whip",
}  # fmt: skip
"""Modules; all others take what ``MEDIA_ENGINE`` says, which is the engine. They pass with ``python`` as well."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        metafunc.parametrize("engine", ["native", "python"], indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Who forwards; None: whoever ``MEDIA_ENGINE`` says. For every test, as a parameter alone sets nothing up."""
    wanted: str | None = getattr(request, "param", None)
    if wanted is not None:
        monkeypatch.setenv("MEDIA_ENGINE", wanted)
    return wanted
