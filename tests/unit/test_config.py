"""Settings are read once and refused clearly."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from models.config import LEAST_CLEARING_DAYS, SETTING_NAMES, IceServer, SettingsError, load_settings
from models.services.complaints import COMPLAIN_WITHIN

KEY = {"SECRET_KEY": "k" * 32}
LOOPBACK = {"MEDIA_ADDRESSES": "127.0.0.1"}


def test_defaults_are_one_machine_with_sqlite() -> None:
    settings = load_settings(KEY)
    assert settings.database_url.startswith("sqlite:///")
    assert settings.minute_ms == 60_000
    assert settings.origin == "http://localhost:8080"
    assert not settings.secure


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"PORT": "many", "DATABASE_URL": "mysql://x", "AMQP_URL": "http://x", "DEMO": "perhaps"})
    text = str(refused.value)
    for name in ("PORT", "DATABASE_URL", "AMQP_URL", "DEMO", "SECRET_KEY"):
        assert name in text


def test_a_secret_never_appears_in_a_refusal() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"SECRET_KEY": "hunter2", "PORT": "0"})
    assert "hunter2" not in str(refused.value)


def test_a_shortened_minute_is_for_demo_and_tests_only() -> None:
    with pytest.raises(SettingsError, match="MINUTE_SECONDS"):
        load_settings({**KEY, "MINUTE_SECONDS": "5"})
    assert load_settings({**KEY, "MINUTE_SECONDS": "5", "TESTING": "1"}).minute_ms == 5_000
    assert load_settings({**KEY, **LOOPBACK, "MINUTE_SECONDS": "5", "DEMO": "1"}).minute_ms == 5_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "0.0.0.0"),
        ("PUBLIC_URL", "https://stream.example"),
        ("MEDIA_HOST", "192.0.2.1"),
        ("MEDIA_ADDRESSES", "127.0.0.1,192.0.2.1"),
        ("MEDIA_ADDRESSES", ""),
    ],
)
def test_demo_mode_refuses_to_listen_beyond_loopback(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings({**KEY, **LOOPBACK, "DEMO": "1", name: value})


def test_demo_mode_refuses_another_gateway() -> None:
    with pytest.raises(SettingsError, match="GATEWAY"):
        load_settings({**KEY, **LOOPBACK, "DEMO": "1", "GATEWAY": "stripe"})


STRIPE = {"GATEWAY": "stripe", "STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRET": "whsec_1, whsec_2"}


def test_stripe_needs_its_keys_and_sends_them_nowhere_else() -> None:
    settings = load_settings({**KEY, **STRIPE})
    assert settings.stripe_webhook_secrets == ("whsec_1", "whsec_2")
    assert settings.stripe_api_base == "https://api.stripe.com"
    here = {"STRIPE_API_BASE": "http://127.0.0.1:9/"}
    assert load_settings({**KEY, **STRIPE, **here, "TESTING": "1"}).stripe_api_base == "http://127.0.0.1:9"
    for wrong, name in (
        ({"STRIPE_SECRET_KEY": ""}, "STRIPE_SECRET_KEY"),
        ({"STRIPE_SECRET_KEY": "pk_live_1"}, "STRIPE_SECRET_KEY"),
        ({"STRIPE_WEBHOOK_SECRET": ""}, "STRIPE_WEBHOOK_SECRET"),
        ({"STRIPE_WEBHOOK_SECRET": "whsec_1,1"}, "STRIPE_WEBHOOK_SECRET"),
        (here, "STRIPE_API_BASE"),
        ({"STRIPE_API_BASE": "https://api.stripe.example", "TESTING": "1"}, "STRIPE_API_BASE"),
        ({"STRIPE_API_BASE": "http://api.stripe.com", "TESTING": "1"}, "STRIPE_API_BASE"),
        ({"GATEWAY": "paypal"}, "GATEWAY"),
        ({"CURRENCY": "JPY"}, "CURRENCY"),
        ({"NEW_BUYER_DAYS": "-1"}, "NEW_BUYER_DAYS"),
        ({"NEW_BUYER_DAILY_MINOR": "1.5"}, "NEW_BUYER_DAILY_MINOR"),
    ):
        with pytest.raises(SettingsError, match=name):
            load_settings({**KEY, **STRIPE, **wrong})
    with pytest.raises(SettingsError) as refusal:
        load_settings({**KEY, **STRIPE, "STRIPE_WEBHOOK_SECRET": "a-secret-that-is-none"})
    assert "a-secret-that-is-none" not in str(refusal.value)


def test_ice_servers_are_read_as_browsers_take_them() -> None:
    text = '[{"urls": ["turn:turn.example"], "username": "u", "credential": "c"}]'
    assert load_settings({**KEY, "ICE_SERVERS": text}).ice_servers == (
        IceServer(urls=["turn:turn.example"], username="u", credential="c"),
    )
    with pytest.raises(SettingsError, match="ICE_SERVERS"):
        load_settings({**KEY, "ICE_SERVERS": "stun:nobody"})


def test_media_addresses_are_digits_and_one_port_serves_them() -> None:
    assert load_settings(KEY).media_udp_port == 50_000
    given = {"MEDIA_UDP_PORT": "0", "MEDIA_ADDRESSES": "::1, 127.0.0.1", "MEDIA_ANNOUNCED_ADDRESSES": "192.0.2.7"}
    settings = load_settings({**KEY, **given})
    assert (settings.media_udp_port, settings.media_addresses) == (0, ("::1", "127.0.0.1"))
    assert settings.media_announced_addresses == ("192.0.2.7",)
    for name, value in (
        ("MEDIA_UDP_PORT", "65536"),
        ("MEDIA_ADDRESSES", "stream.example"),
        ("MEDIA_ANNOUNCED_ADDRESSES", "192.0.2.7:50000"),
    ):
        with pytest.raises(SettingsError, match=name):
            load_settings({**KEY, name: value})


TURN = {"TURN_URLS": "turn:turn.example:3478, turns:[2001:db8::1]?transport=tcp", "TURN_SECRET": "not-to-be-shown"}


def test_turn_needs_both_its_addresses_and_its_secret_and_says_the_secret_nowhere() -> None:
    settings = load_settings({**KEY, **TURN})
    assert settings.turn_urls == ("turn:turn.example:3478", "turns:[2001:db8::1]?transport=tcp")
    for missing in TURN:
        with pytest.raises(SettingsError, match="TURN_URLS and TURN_SECRET") as refusal:
            load_settings({**KEY, **TURN, missing: ""})
        assert "not-to-be-shown" not in str(refusal.value)
    with pytest.raises(SettingsError, match="TURN_URLS"):
        load_settings({**KEY, **TURN, "TURN_URLS": "stun:turn.example"})


def test_each_purpose_has_a_key_of_its_own() -> None:
    settings = load_settings(KEY)
    assert settings.key("grants") != settings.key("cookies")
    assert settings.key("grants") == load_settings(KEY).key("grants")


def test_the_readme_lists_every_setting_and_no_other() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.split("## Settings")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([A-Z0-9_]+)`", table, re.MULTILINE)) == set(SETTING_NAMES)


@pytest.mark.parametrize("days", ["0", "1", "-1", "two", "1.5"])
def test_earnings_stay_pending_for_as_long_as_complaints_are_open(days: str) -> None:
    with pytest.raises(SettingsError, match="CLEARING_DAYS must be a whole number from 2"):
        load_settings({**KEY, "CLEARING_DAYS": days})
    assert load_settings({**KEY, "CLEARING_DAYS": "2"}).clearing_days == 2
    assert timedelta(days=LEAST_CLEARING_DAYS) >= COMPLAIN_WITHIN


STORAGE = {
    "S3_ENDPOINT": "https://s3.example",
    "S3_BUCKET": "broadcasts",
    "S3_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "S3_SECRET_ACCESS_KEY": "hunter2-hunter2",
}


def test_object_storage_needs_all_of_its_settings() -> None:
    settings = load_settings({**KEY, **STORAGE})
    assert (settings.s3_endpoint, settings.s3_region) == ("https://s3.example", "us-east-1")
    for name in STORAGE:
        with pytest.raises(SettingsError, match=f"{name} is missing") as refused:
            load_settings({**KEY, **{key: value for key, value in STORAGE.items() if key != name}})
        assert "hunter2" not in str(refused.value)
    for wrong, name in (
        ({"S3_ENDPOINT": "https://s3.example/path"}, "S3_ENDPOINT"),
        ({"S3_ENDPOINT": "https://me@s3.example"}, "S3_ENDPOINT"),
        ({"S3_ENDPOINT": "s3.example"}, "S3_ENDPOINT"),
        ({"S3_BUCKET": "../etc"}, "S3_BUCKET"),
        ({"LOW_LATENCY_HLS": "1"}, "LOW_LATENCY_HLS"),
    ):
        with pytest.raises(SettingsError, match=name):
            load_settings({**KEY, **STORAGE, **wrong})


@pytest.mark.parametrize(
    ("hls", "recordings", "refused"),
    [("/a/hls", "/a/rec", False), ("/a", "/a/rec", True), ("/a/hls", "/a", True), ("/a", "/a", True)],
)
def test_recordings_lie_where_nothing_is_public(hls: str, recordings: str, refused: bool) -> None:
    environment = {"SECRET_KEY": "x" * 32, "HLS_DIR": hls, "RECORDINGS_DIR": recordings}
    if not refused:
        assert str(load_settings(environment).recordings_dir) == recordings
        return
    with pytest.raises(SettingsError, match="RECORDINGS_DIR must lie outside HLS_DIR"):
        load_settings(environment)
