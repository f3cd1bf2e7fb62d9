"""What a node must do whoever forwards its packets is shown with both: the native engine, and Python alone."""

from __future__ import annotations

import pytest

BOTH = {
    "test_forwarding", "test_hostile", "test_layers_chromium", "test_moved_rooms", "test_signaling", "test_whip",
}  # fmt: skip
"""Modules; all others take what ``MEDIA_ENGINE`` says, which is the engine."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        metafunc.fixturenames.append("engine")
        metafunc.parametrize("engine", ["native", "python"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who forwards."""
    monkeypatch.setenv("MEDIA_ENGINE", request.param)
    wanted: str = request.param
    return wanted
