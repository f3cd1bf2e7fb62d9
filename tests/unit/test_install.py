"""What the installation says when something of ours cannot be built."""

from __future__ import annotations

import sys

import pytest

from ops import install


@pytest.mark.parametrize(("purpose", "status"), [("run", 0), ("test", 1)])
@pytest.mark.parametrize("built", [True, False])
def test_an_engine_that_was_not_built_is_said_on_standard_error(
    purpose: str, status: int, *, built: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["install", purpose])
    monkeypatch.setattr(install, "_present", lambda _: True)
    monkeypatch.setattr(install, "_install_environment", lambda _: 0)
    monkeypatch.setattr(install, "_built", lambda: built)
    assert install.main() == (0 if built else status)
    assert ("was NOT built" in capsys.readouterr().err) != built
