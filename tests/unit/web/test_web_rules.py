"""The small rules of the web app: where a sign-in may lead, which origins, which headers, how fast."""

from __future__ import annotations

import pytest

from models.config import Settings, load_settings
from web.auth import safe_next
from web.limits import one_place
from web.security import content_security_policy, origin_allowed
from web.signaling import Bucket


def settings(**environ: str) -> Settings:
    return load_settings({"SECRET_KEY": "k" * 40, **environ})


@pytest.mark.parametrize("target", ["/models", "/call/ses_1", "/wallet?next=%2Fmodels", "/models#live"])
def test_a_local_path_is_kept(target: str) -> None:
    assert safe_next(target) == target


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "models",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x",
        "/\tevil",
        "/path\\..\\evil",
        " //evil.example",
    ],
)
def test_any_other_target_is_dropped(target: str | None) -> None:
    assert safe_next(target, "/home") == "/home"


def test_our_own_origin_and_listed_ones_are_allowed() -> None:
    house = settings(PUBLIC_URL="https://stream.example", CORS_ORIGINS="https://partner.example")

    assert origin_allowed(house, "https://stream.example")
    assert origin_allowed(house, "https://partner.example")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://stream.example",
        "https://stream.example.evil.example",
        "https://stream.example:8443",
        "https://evil.example",
        "https://partner.example.evil",
        "http://[",
        "http://localhost",
    ],
)
def test_other_origins_are_refused(origin: str) -> None:
    house = settings(PUBLIC_URL="https://stream.example", CORS_ORIGINS="https://partner.example")

    assert not origin_allowed(house, origin)


def test_on_loopback_both_names_of_this_machine_are_one_place_and_other_ports_are_not() -> None:
    house = settings(PUBLIC_URL="http://localhost:8080")

    assert origin_allowed(house, "http://127.0.0.1:8080")
    assert not origin_allowed(house, "http://127.0.0.1:8081")
    assert not origin_allowed(house, "http://192.168.1.7:8080")


def test_the_content_security_policy_allows_our_own_sockets_and_nothing_inline() -> None:
    policy = content_security_policy(settings(PUBLIC_URL="https://stream.example"))

    assert "connect-src 'self' wss://stream.example;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "::ffff:203.0.113.9"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_client_cannot_hop_within_its_network(address: str, place: str) -> None:
    assert one_place(address) == place


def test_a_bucket_allows_its_burst_then_its_rate() -> None:
    bucket = Bucket(rate=50, burst=100, now=0.0)

    assert sum(bucket.take(0.0) for _ in range(200)) == 100
    assert sum(bucket.take(1.0) for _ in range(200)) == 50
    assert sum(bucket.take(1000.0) for _ in range(200)) == 100
