"""The API's own description: OpenAPI 3.1 for programs, plain rows for the reference page and ``docs/``.

Made from the declarations that are enforced, so it cannot say anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, render_template

from models.errors import Detail
from web.api.errors import CODES, PROBLEM_TYPE
from web.api.schema import Api, Endpoint, Nothing, answer_json, openapi_path, path_names

blueprint = Blueprint("openapi", __name__)
VERSION = "0.1.0"
_REF = "#/components/schemas/{name}"


class Problem(msgspec.Struct, frozen=True, rename="camel"):
    """RFC 9457, with ``code`` to rely on, ``field`` where one is to blame, and what the code carries."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    trace_id: str
    field: str | None = None


def common_errors(endpoint: Endpoint) -> tuple[str, ...]:
    """The codes that follow from the declaration; the declared ones come on top."""
    found = ["INTERNAL", "UNAVAILABLE", "ORIGIN_REFUSED"]
    if not endpoint.access.anonymous:
        found += ["UNAUTHENTICATED"]
    if endpoint.access.roles or (endpoint.access.scope is None and not endpoint.access.anonymous):
        found += ["FORBIDDEN"]
    if endpoint.method != "GET" and endpoint.csrf:
        found += ["CSRF_FAILED"]
    if endpoint.body is not None:
        found += ["BAD_JSON", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "INVALID"]
    if endpoint.query:
        found += ["INVALID"]
    if endpoint.idempotency == "required":
        found += ["IDEMPOTENCY_KEY_REQUIRED"]
    if endpoint.idempotency != "none":
        found += ["IDEMPOTENCY_KEY_REUSED", "INVALID"]
    if endpoint.limits:
        found += ["RATE_LIMITED"]
    return tuple(found)


def all_errors(endpoint: Endpoint) -> list[str]:
    """Every code that a call may answer with, by status."""
    return sorted({*endpoint.errors, *common_errors(endpoint)}, key=lambda code: (CODES[code].status, code))


def document(apis: Iterable[Api], server: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    endpoints = [endpoint for api in apis for endpoint, _ in api.endpoints]
    tags = {endpoint.name: api.tag for api in apis for endpoint, _ in api.endpoints}
    kinds = {kind for endpoint in endpoints for kind in (endpoint.body, *endpoint.answer) if kind is not None}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components([*ordered, Problem], ref_template=_REF)
    by_kind = dict(zip([*ordered, Problem], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, by_kind, tags[endpoint.name])
        paths.setdefault(openapi_path(endpoint.path), {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Greenroom",
            "version": VERSION,
            "description": "Streams, private streams, rooms. Times are RFC 3339 UTC; tokens are whole integers.",
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "greenroom"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRFToken"},
            },
        },
    }


def _operation(endpoint: Endpoint, schemas: dict[Any, Any], tag: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [tag],
        "summary": endpoint.summary,
        "description": f"Who: {endpoint.access.label}.",
        "security": _security(endpoint),
        "parameters": _parameters(endpoint),
        "responses": {str(endpoint.status): _answer(endpoint, schemas), **_refusals(endpoint, schemas)},
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(endpoint.body)),
            "content": {"application/json": {"schema": schemas[endpoint.body]}},
        }
    elif endpoint.takes:
        operation["requestBody"] = {"required": True, "content": {endpoint.takes: {"schema": {"type": "string"}}}}
    return operation


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.access.bearer:
        return [{"bearer": []}]
    if not endpoint.csrf:
        return []
    cookie: dict[str, list[str]] = {"cookie": []}
    if endpoint.method != "GET":
        cookie["csrf"] = []
    if endpoint.access.anonymous:
        return [{}] if endpoint.method == "GET" else [{"csrf": []}]
    return [{"bearer": []}, cookie]


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in path_names(endpoint.path)
    ]
    found += [
        {
            "name": query.name,
            "in": "query",
            "required": False,
            "description": query.meaning,
            "schema": {"type": "integer", "minimum": query.lowest, "maximum": query.highest},
        }
        for query in endpoint.query
    ]
    if endpoint.idempotency != "none":
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": endpoint.idempotency == "required",
                "description": "The first success under a key is replayed; another body under it gives 422.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    return found


def _answer(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    if endpoint.media != "application/json":
        return {"description": endpoint.summary.split("\n")[0], "content": {endpoint.media: {}}}
    choices = [schemas[kind] for kind in endpoint.answer]
    return {
        "description": " Or: ".join((kind.__doc__ or "").strip().split("\n")[0] for kind in endpoint.answer),
        "content": {"application/json": {"schema": choices[0] if len(choices) == 1 else {"anyOf": choices}}},
    }


def _refusals(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in all_errors(endpoint):
        by_status.setdefault(CODES[code].status, []).append(code)
    return {
        str(status): {
            "description": "; ".join(f"`{code}`: {CODES[code].meaning}" for code in codes),
            "content": {PROBLEM_TYPE: {"schema": schemas[Problem]}},
        }
        for status, codes in by_status.items()
    }


def rows(apis: Iterable[Api]) -> list[dict[str, Any]]:
    """The same as plain values, for a page: one row a call."""
    return [
        {
            "tag": api.tag,
            "name": endpoint.name,
            "method": endpoint.method,
            "path": openapi_path(endpoint.path),
            "summary": endpoint.summary,
            "who": endpoint.access.label,
            "idempotency": endpoint.idempotency,
            "body": members(endpoint.body),
            "query": [{"name": query.name, "meaning": query.meaning} for query in endpoint.query],
            "status": endpoint.status,
            "answers": [members(kind) for kind in endpoint.answer],
            "errors": all_errors(endpoint),
        }
        for api in apis
        for endpoint, _ in api.endpoints
    ]


def members(kind: type[Any] | None) -> list[dict[str, Any]]:
    """The members of a body or an answer: name, type in words, whether it may be left out."""
    if kind is None or kind is Nothing:
        return []
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    shape = components[kind.__name__]
    required = shape.get("required", [])
    return [
        {"name": name, "type": in_words(schema), "optional": name not in required}
        for name, schema in shape.get("properties", {}).items()
    ]


def in_words(schema: dict[str, Any]) -> str:
    """A JSON schema as people say it: ``integer 1–240``, ``one of manual, all``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return msgspec.json.encode(schema["const"]).decode()
    if "anyOf" in schema:
        return " or ".join(in_words(choice) for choice in schema["anyOf"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        inner = schema.get("items")
        return f"list of {in_words(inner)}" if isinstance(inner, dict) else "list"
    if "minimum" in schema and "maximum" in schema:
        return f"{kind} {schema['minimum']}–{schema['maximum']}"
    return str(schema.get("format", kind))


def error_rows() -> list[dict[str, Detail]]:
    """Every code with its status and meaning."""
    ordered = sorted(CODES.items(), key=lambda item: (item[1].status, item[0]))
    return [{"code": name, "status": code.status, "meaning": code.meaning} for name, code in ordered]


def _apis() -> tuple[Api, ...]:
    found: tuple[Api, ...] = current_app.extensions["apis"]
    return found


@blueprint.get("/api/openapi.json")
def openapi_json() -> Response:
    """The OpenAPI document."""
    server = current_app.extensions["settings"].public_url
    return answer_json(200, msgspec.json.encode(document(_apis(), server)))


@blueprint.get("/developers")
def developers() -> str:
    """The API reference as a page."""
    return render_template("developers.html", calls=rows(_apis()), errors=error_rows())
