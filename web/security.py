"""What every answer carries and what no request may do: headers, origins, proxies, size.

Knows nothing of people or pages.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from flask import Flask, Response, request
from flask_cors import CORS
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix

from models.config import Settings, is_loopback
from web.api.errors import Refusal

MAX_BODY_BYTES = 256 * 1024
# A body that is too large is still read up to here, so that its sender hears why instead of a reset.
DRAIN_BYTES = 16 * 1024 * 1024


def init_app(app: Flask, settings: Settings) -> None:
    """Put the rules of this file around ``app``."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    if settings.cors_origins:
        CORS(
            app,
            resources={r"/api/.*": {"origins": list(settings.cors_origins)}},
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After", "Location", "ETag", "Link"],
            max_age=600,
        )
    policy = content_security_policy(settings)
    app.before_request(refuse_large_body)
    app.before_request(refuse_nul)
    app.before_request(lambda: refuse_foreign_origin(settings))
    app.after_request(lambda response: _headers(response, settings, policy))


CACHEABLE = ("static", "live.signed")
"""What says itself how long it may be kept."""


def content_security_policy(settings: Settings) -> str:
    """The CSP of every answer: nothing from elsewhere, nothing inline."""
    parts = urlsplit(settings.public_url)
    socket_origin = f"{'wss' if settings.secure else 'ws'}://{parts.netloc}"
    elsewhere = [urlsplit(address) for address in (settings.cdn_base_url, settings.s3_endpoint) if address]
    media = "".join(f" {each.scheme}://{each.netloc}" for each in elsewhere)
    return "; ".join(
        (
            "default-src 'self'",
            f"connect-src 'self' {socket_origin}{media}",
            f"media-src 'self' blob:{media}",
            f"img-src 'self' data: blob:{media}",
            "object-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        )
    )


def origin_allowed(settings: Settings, origin: str) -> bool:
    """Whether a browser page of ``origin`` may talk to us: our own, or one on the allow-list."""
    if origin == settings.origin or origin in settings.cors_origins:
        return True
    return _same_machine(settings.origin, origin)


def refuse_large_body() -> None:
    """A declared length over the limit is refused before anything reads it (413)."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge


def refuse_nul() -> None:
    """No text of ours holds NUL, and PostgreSQL cannot store it (400). JSON is looked at where it is decoded."""
    given = [request.path, *(value for _, value in request.args.items(multi=True))]
    if request.method == "POST" and not request.path.startswith("/api/"):
        given += [value for _, value in request.form.items(multi=True)]
    if any("\0" in text for text in given):
        raise BadRequest("NUL is no character of any text here.")


def read_body() -> bytes:
    """The whole body. Werkzeug cuts a chunked one off at the limit without a word; here it is refused (413)."""
    body = request.get_data(cache=True)
    cut_off = request.content_length is None and len(body) >= MAX_BODY_BYTES
    if cut_off and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    return body


def drain() -> None:
    """Read and drop what is left of a body that was refused, up to a bound."""
    # A chunked body has no length; reading on is safe only where the server marks its end.
    unknown = DRAIN_BYTES if request.environ.get("wsgi.input_terminated") else 0
    length = request.content_length
    source, left = request.environ["wsgi.input"], min(unknown if length is None else length, DRAIN_BYTES)
    # Who is too slow or leaves is not read any further.
    with suppress(OSError, ParseException):
        while left > 0 and (chunk := source.read(min(65536, left))):
            left -= len(chunk)


def refuse_foreign_origin(settings: Settings) -> None:
    """A browser says where its page is from; pages from elsewhere get nothing from the API (403)."""
    origin = request.headers.get("Origin")
    if origin is None or request.method == "OPTIONS":
        return
    guarded = request.path.startswith("/api/") or request.method not in ("GET", "HEAD")
    if guarded and not origin_allowed(settings, origin):
        raise Refusal(403, "Pages of that origin may not call this service.", code="ORIGIN_REFUSED")


def _same_machine(ours: str, theirs: str) -> bool:
    """``localhost`` and ``127.0.0.1`` are one place when we are served on loopback."""
    try:
        mine, other = urlsplit(ours), urlsplit(theirs)
        same_door = (mine.scheme, mine.port) == (other.scheme, other.port)
    except ValueError:
        return False
    return same_door and is_loopback(mine.hostname or "") and is_loopback(other.hostname or "")


def _headers(response: Response, settings: Settings, policy: str) -> Response:
    headers = response.headers
    headers["Content-Security-Policy"] = policy
    headers["Permissions-Policy"] = "camera=(self), microphone=(self), geolocation=(), payment=()"
    # same-origin, not no-referrer: over HTTPS the CSRF check wants to see our own referrer.
    headers["Referrer-Policy"] = "same-origin"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if settings.secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    # A segment that is not there may be there a moment later.
    if request.endpoint not in CACHEABLE or response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    return response
