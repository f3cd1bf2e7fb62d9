"""Everything the API serves is described, and every code that it or a service can say is listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask

from models import errors
from models.config import load_settings
from models.errors import DomainError
from web import APIS, create_app
from web.api.errors import CODES
from web.api.openapi import all_errors, document
from web.api.reference import api_markdown, errors_markdown

ROOT = Path(__file__).resolve().parents[3]
# Sockets are no REST calls (docs/contract.md, sections 4 and 5); the description does not describe itself.
NOT_CALLS = {"/api/rtc/signaling", "/api/events", "/api/openapi.json"}
ENDPOINTS = [endpoint for api in APIS for endpoint, _ in api.endpoints]


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(
        load_settings({"SECRET_KEY": "k" * 40, "DATABASE_URL": f"sqlite:///{tmp_path / 'none.db'}"})
    )


@pytest.fixture
def described() -> dict[str, Any]:
    return document(APIS, "https://stream.example")


def test_every_route_under_api_is_described(app: Flask, described: dict[str, Any]) -> None:
    served = {
        (re.sub(r"_([a-z])", lambda m: m[1].upper(), rule.rule.replace("<", "{").replace(">", "}")), method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and rule.rule not in NOT_CALLS
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    written = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}

    assert served == written


def test_every_reference_in_the_description_leads_somewhere(described: dict[str, Any]) -> None:
    text = msgspec.json.encode(described).decode()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', text))

    assert named
    assert named <= set(described["components"]["schemas"])


def test_each_operation_says_who_and_what_can_go_wrong(described: dict[str, Any]) -> None:
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"].startswith("Who: ")
            assert "500" in operation["responses"]


def test_calls_that_move_tokens_require_a_key(described: dict[str, Any]) -> None:
    required = {
        path
        for path, methods in described["paths"].items()
        for operation in methods.values()
        for parameter in operation["parameters"]
        if parameter["name"] == "Idempotency-Key" and parameter["required"]
    }

    assert required == {
        "/api/admin/complaints/{complaintId}/decide",
        "/api/admin/sessions/{sessionId}/refund",
        "/api/earnings/payouts",
        "/api/receipts/{sessionId}/refund",
        "/api/streaming/battles",
        "/api/streaming/battles/{battleId}/enter",
        "/api/streaming/battles/{battleId}/tips",
        "/api/streaming/bookings",
        "/api/streaming/passes",
        "/api/streaming/private-extend",
        "/api/streaming/private-request",
        "/api/streaming/recordings/{recordingId}/buy",
        "/api/streaming/subscriptions",
        "/api/streaming/tips",
        "/api/wallet/refunds",
        "/api/wallet/top-up",
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_each_code_of_a_call_is_documented(endpoint: Any) -> None:
    documented = (ROOT / "docs" / "errors.md").read_text()

    for code in all_errors(endpoint):
        assert f"| `{code}` |" in documented


def test_each_code_that_a_service_raises_is_listed() -> None:
    said = {
        code
        for path in [*(ROOT / "models").rglob("*.py"), *(ROOT / "web").rglob("*.py")]
        for code in re.findall(r'\bcode(?:: str)? ?= ?"([A-Z_]+)"', path.read_text())
        if path.name != "signaling.py"
    }

    assert said - {"REFUSED"} <= set(CODES)


def test_each_kind_of_refusal_has_the_status_of_its_code() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DomainError)}

    assert {kind.code for kind in kinds - {DomainError}} <= set(CODES)


def test_the_generated_pages_are_up_to_date() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == api_markdown(APIS)
    assert (ROOT / "docs" / "errors.md").read_text() == errors_markdown()
