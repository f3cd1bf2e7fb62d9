"""A grant is believed only as it was signed, and only for its minute."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import grants
from models.errors import Forbidden

KEY = b"k" * 32
GRANT = grants.Grant(
    jti="msg_1",
    room_id="live-1",
    user_id="usr_1",
    display_name="Fan Ä",
    role="participant",
    publish=False,
    issued_at=1000.0,
    expires_at=1060.0,
)


def test_a_signed_grant_is_read_back() -> None:
    assert grants.verify(grants.sign(GRANT, KEY), KEY, now=1001) == GRANT


@pytest.mark.parametrize("now", [1060.0, 2000.0, 900.0])
def test_a_grant_is_refused_after_its_time_and_long_before_it(now: float) -> None:
    with pytest.raises(Forbidden):
        grants.verify(grants.sign(GRANT, KEY), KEY, now=now)


def test_another_key_signs_nothing() -> None:
    with pytest.raises(Forbidden):
        grants.verify(grants.sign(GRANT, b"x" * 32), KEY, now=1001)


def test_a_changed_payload_is_refused() -> None:
    other = grants.sign(msgspec.structs.replace(GRANT, user_id="usr_2"), b"x" * 32)
    forged = other.split(".")[0] + "." + grants.sign(GRANT, KEY).split(".")[1]
    with pytest.raises(Forbidden):
        grants.verify(forged, KEY, now=1001)


@given(st.text(max_size=3000))
def test_garbage_is_refused_and_never_raises_anything_else(text: str) -> None:
    with pytest.raises(Forbidden):
        grants.verify(text, KEY, now=1001)
