"""TURN credentials: one for each user, for a while, made as coturn makes them."""

from __future__ import annotations

from models import turn
from models.config import load_settings

KEY = {"SECRET_KEY": "k" * 32}
OURS = '[{"urls": ["stun:stun.example:3478"]}]'
TURN = {"TURN_URLS": "turn:turn.example,turns:turn.example?transport=tcp", "TURN_SECRET": "north"}


def test_without_turn_servers_everybody_is_told_the_same() -> None:
    settings = load_settings({**KEY, "ICE_SERVERS": OURS})
    assert turn.ice_servers(settings, "usr_1", 1_000.9) == settings.ice_servers


def test_each_user_has_credentials_of_its_own_until_a_moment_that_they_name() -> None:
    settings = load_settings({**KEY, **TURN, "ICE_SERVERS": OURS})
    first, relay = turn.ice_servers(settings, "usr_1", 1_000.9)
    assert first.urls == ["stun:stun.example:3478"]
    assert relay.urls == ["turn:turn.example", "turns:turn.example?transport=tcp"]
    assert relay.username == f"{1_000 + turn.LIFETIME_SECONDS}:usr_1"
    # echo -n '44200:usr_1' | openssl dgst -sha1 -hmac north -binary | base64
    assert (relay.username, relay.credential) == ("44200:usr_1", "ogQ0Y++wrq9cYeUpkuSsLjgOGok=")
    assert turn.ice_servers(settings, "usr_2", 1_000)[-1].credential != relay.credential
