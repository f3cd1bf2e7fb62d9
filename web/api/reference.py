"""``docs/api.md`` and ``docs/errors.md``, made from the declarations. A test holds the files to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from web.api.openapi import error_rows, rows
from web.api.schema import Api

_MADE = "<!-- Made by `flask --app web docs`; edit the declarations under web/api instead. -->"


def api_markdown(apis: Iterable[Api]) -> str:
    """The reference of every call."""
    lines = [
        "# API reference",
        "",
        _MADE,
        "",
        "JSON in camelCase; times are RFC 3339 UTC; tokens are whole integers. A program sends",
        "`Authorization: Bearer <token>`; a browser has its cookie and sends `X-CSRFToken` with every",
        "unsafe method.",
        "Refusals are `application/problem+json` (RFC 9457) with a `code`: see [errors](errors.md).",
        "The same as OpenAPI 3.1: `GET /api/openapi.json`.",
    ]
    tag = None
    for row in rows(apis):
        if row["tag"] != tag:
            tag = row["tag"]
            lines += ["", f"## {tag}"]
        lines += _call(row)
    return "\n".join(lines) + "\n"


def errors_markdown() -> str:
    """The list of codes."""
    lines = ["# Error codes", "", _MADE, "", "| code | status | means |", "| --- | --- | --- |"]
    lines += [f"| `{row['code']}` | {row['status']} | {row['meaning']} |" for row in error_rows()]
    return "\n".join(lines) + "\n"


def _call(row: dict[str, Any]) -> list[str]:
    lines = ["", f"### `{row['method']} {row['path']}`", "", row["summary"], "", f"- Who: {row['who']}"]
    if row["idempotency"] != "none":
        lines.append(f"- `Idempotency-Key`: {row['idempotency']}")
    for query in row["query"]:
        lines.append(f"- `?{query['name']}=`: {query['meaning']}")
    if row["body"]:
        lines.append("- Body: " + _members(row["body"]))
    answers = (_members(answer) or "`{}`" for answer in row["answers"])
    lines.append(f"- {row['status']}: " + " — or: ".join(answers))
    lines.append("- Refusals: " + ", ".join(f"`{code}`" for code in row["errors"]))
    return lines


def _members(members: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"`{member['name']}{'?' if member['optional'] else ''}` ({member['type']})" for member in members
    )


def write(directory: Path, apis: Iterable[Api]) -> None:
    """Write both files into ``directory``."""
    (directory / "api.md").write_text(api_markdown(apis), encoding="utf-8")
    (directory / "errors.md").write_text(errors_markdown(), encoding="utf-8")
