"""The one small tree of errors that the domain raises; edges translate, nobody else decides.

``code`` is what clients rely on (upper snake case, ``docs/errors.md``); ``detail`` is for people.
``web.api.errors`` maps a class to an HTTP status once; the media process maps a code to an ERROR
message once. ``fields`` carries values that a client can act on, such as the balance.
"""

from __future__ import annotations

Detail = str | int | bool | None


class DomainError(Exception):
    """Base of every refusal. A refusal has changed nothing."""

    code: str = "REFUSED"

    def __init__(self, detail: str, *, code: str | None = None, **fields: Detail) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.fields = fields


class Invalid(DomainError):
    """A value is of the right kind but not allowed (422)."""

    code = "INVALID"


class Unauthenticated(DomainError):
    """Nobody is signed in, or the credentials are wrong (401)."""

    code = "UNAUTHENTICATED"


class PaymentRequired(DomainError):
    """Not enough tokens (402). Nothing was written."""

    code = "INSUFFICIENT_TOKENS"


class Forbidden(DomainError):
    """Known who asks, and that person may not (403)."""

    code = "FORBIDDEN"


class NotFound(DomainError):
    """No such thing, or none that the asker may know of (404)."""

    code = "NOT_FOUND"


class Conflict(DomainError):
    """The state moved on; look again (409)."""

    code = "CONFLICT"


class RateLimited(DomainError):
    """Too many in the window (429); ``retry_after_seconds`` says when to try again."""

    code = "RATE_LIMITED"


class Unavailable(DomainError):
    """Something that we depend on did not answer (503)."""

    code = "UNAVAILABLE"


class Unconfirmed(DomainError):
    """Recorded and going to be carried out, but not confirmed in time (504). A retry is safe."""

    code = "UNCONFIRMED"
