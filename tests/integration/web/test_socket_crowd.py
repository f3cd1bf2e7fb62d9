"""Open sockets are counted where they are served, and given back when they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live_web import LiveWeb, environment_for
from websockets.exceptions import InvalidStatus

from web import crowd, limits

SIGNALING = "/api/rtc/signaling"


@pytest.fixture
def web(sqlite_template: Path) -> Iterator[LiveWeb]:
    """With more threads than one address may hold."""
    environment = environment_for(f"sqlite:///{sqlite_template}") | {"TRUSTED_PROXIES": "1"}
    with LiveWeb(environment, threads=crowd.MOST_FROM_ADDRESS + 20) as live:
        yield live


def test_an_address_holds_so_many_sockets_and_gets_them_back(web: LiveWeb) -> None:
    assert limits.SIGNALING.count >= crowd.MOST_FROM_ADDRESS + 2, "or the other limit answers"
    with ExitStack() as sockets:
        for _ in range(crowd.MOST_FROM_ADDRESS):
            sockets.enter_context(web.socket(SIGNALING))
        with pytest.raises(InvalidStatus) as refused:
            web.socket(SIGNALING).__enter__()
        assert refused.value.response.status_code == 429
        mine, web.address = web.address, "198.19.0.1"
        web.socket(SIGNALING).__enter__().close()
        web.address = mine

    # All of them closed; the thread of the last may still be on its way out.
    web.socket("/api/rtc/signaling").__enter__().close()
