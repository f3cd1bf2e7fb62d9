"""What goes wrong, said once: a problem document to programs, a page to people.

Knows the two shapes and which address gets which; the codes are in ``web.api.errors``.
"""

from __future__ import annotations

from flask import Flask, Response, make_response, request
from flask_wtf.csrf import CSRFError
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from models import log
from models.errors import DomainError
from web import security
from web.api.errors import code_of_status, problem, problem_of, status_of
from web.context import cause_id
from web.pages.errors import error_page

_PROGRAM_PATHS = ("/api/", "/healthz", "/readyz", "/metrics", "/live/")


def init_app(app: Flask) -> None:
    """Register the translations."""
    app.register_error_handler(DomainError, _on_refusal)
    app.register_error_handler(CSRFError, _on_csrf)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(DBAPIError, _on_database)
    app.register_error_handler(PoolTimeout, _on_database)
    app.register_error_handler(ParseException, _on_unreadable)
    app.register_error_handler(Exception, _on_failure)


def is_for_programs() -> bool:
    """Whether nobody reads this address as a page."""
    return request.path.startswith(_PROGRAM_PATHS)


def _on_refusal(error: DomainError) -> Response:
    return problem_of(error) if is_for_programs() else _page(status_of(error), error.detail)


def _on_csrf(_error: CSRFError) -> Response:
    if is_for_programs():
        return problem(403, "CSRF_FAILED", "The X-CSRFToken header is missing or not this session's.")
    return _page(400, "")


def _on_http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return make_response(error.get_response())
    if error.code == 413:
        security.drain()
    if not is_for_programs():
        return _page(error.code, "")
    response = problem(error.code, code_of_status(error.code), error.description or "")
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _on_database(_error: Exception) -> Response:
    log.failure("database_failed", cause_id=cause_id())
    if not is_for_programs():
        return _page(503, "")
    return problem(503, "UNAVAILABLE", "The database does not answer. Nothing was changed.", retry_after_seconds=1)


def _on_unreadable(_error: ParseException) -> Response:
    """A chunked body (RFC 9112 section 7.1) of which only the reading shows that it is none."""
    words = "The body cannot be read."
    return problem(400, "BAD_REQUEST", words) if is_for_programs() else _page(400, words)


def _on_failure(_error: Exception) -> Response:
    log.failure("request_failed", cause_id=cause_id())
    return problem(500, "INTERNAL", "Something went wrong on our side.") if is_for_programs() else _page(500, "")


def _page(status: int, text: str) -> Response:
    try:
        return make_response(error_page(status, text))
    except Exception:
        # The page's frame reads the database too, which may be what failed.
        log.failure("error_page_failed", cause_id=cause_id())
        words = f"{status}. We cannot answer right now; try again in a moment.\n"
        return Response(words, status, mimetype="text/plain")
