"""Stripe's way of speaking HTTP: bracketed forms, error envelopes, idempotent replays, lists, signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl


class Refused(Exception):
    """Answered with Stripe's error envelope."""

    def __init__(self, status: int, type_: str, code: str | None = None, **more: Any) -> None:
        super().__init__(code or type_)
        self.status = status
        self.error: dict[str, Any] = {"type": type_, "message": f"({code or type_})"}
        if code is not None:
            self.error["code"] = code
        self.error.update(more)

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.error}


def no_such(kind: str, id_: str) -> Refused:
    """404 as Stripe says it."""
    return Refused(
        404, "invalid_request_error", "resource_missing", param="id", message=f"No such {kind}: '{id_}'"
    )


def form(text: str) -> dict[str, Any]:
    """``a[b][0][c]=1`` as ``{"a": {"b": [{"c": "1"}]}}``: all values are text, as on the wire."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        *path, last = re.findall(r"[^\[\]]+", name)
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return {name: _lists(value) for name, value in tree.items()}


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    made = {name: _lists(value) for name, value in node.items()}
    if made and all(name.isdigit() for name in made):
        return [made[name] for name in sorted(made, key=int)]
    return made


def page(url: str, rows: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    """A list object: newest first, ``limit`` of them, after ``starting_after``."""
    rows = sorted(rows, key=lambda row: row["created"], reverse=True)
    if "gte" in params.get("created", {}):
        rows = [row for row in rows if row["created"] >= int(params["created"]["gte"])]
    if (after := params.get("starting_after")) is not None:
        ids = [row["id"] for row in rows]
        rows = rows[ids.index(after) + 1 :]
    limit = int(params.get("limit", 10))
    return {"object": "list", "url": url, "has_more": len(rows) > limit, "data": rows[:limit]}


def signature(body: bytes, secret: str, at: float | None = None) -> str:
    """The Stripe-Signature header: HMAC-SHA-256 over the time and the raw body."""
    stamp = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


@dataclass
class Answered:
    """The first answer under an idempotency key."""

    asked: str
    status: int
    body: bytes


class Memory:
    """Idempotency keys: the first answer again, or an error for other parameters."""

    def __init__(self) -> None:
        self._answers: dict[str, Answered] = {}

    def replay(self, key: str, asked: str) -> Answered | None:
        known = self._answers.get(key)
        if known is not None and known.asked != asked:
            raise Refused(400, "idempotency_error", message="Keys for idempotent requests can only be used once.")
        return known

    def keep(self, key: str, asked: str, status: int, body: bytes) -> None:
        # An answer from before anything was done (a conflict, a limit, our own failure) is not kept.
        if status not in (401, 409, 429) and status < 500:
            self._answers[key] = Answered(asked, status, body)

    def forget(self) -> None:
        """As Stripe does after a day."""
        self._answers.clear()


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=2).encode()
