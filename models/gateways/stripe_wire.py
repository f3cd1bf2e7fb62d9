"""How Stripe's answers are read and its errors understood; shared by what we ask Stripe for.

Neither keys nor bodies nor messages of Stripe's errors are logged: codes are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import stripe as sdk

from models import log
from models.errors import Conflict, Invalid, NotFound, Unavailable

MOST_PAGES = 10
PLACE_SECONDS = 0.5
"""How long a question waits for its turn: in good times each takes a fraction of a second."""

# At INFO it says each address that it asks, at DEBUG each body.
logging.getLogger("stripe").setLevel(logging.WARNING)


class FewAtOnce(sdk.RequestsClient):
    """The SDK's client, with a bound on the threads that wait for Stripe; the rest hears that it is away.

    While Stripe is silent each question waits for half a minute, and pages and settlements need threads too.
    """

    def __init__(self, at_once: int, **options: Any) -> None:
        super().__init__(**options)
        self._places = threading.BoundedSemaphore(at_once)

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One HTTP exchange. Raises APIConnectionError, also when no place was free."""
        if not self._places.acquire(timeout=PLACE_SECONDS):
            raise sdk.APIConnectionError("too many wait already")  # type: ignore[no-untyped-call]
        try:
            return super().request(method, url, headers, post_data)
        finally:
            self._places.release()


@contextmanager
def asking() -> Iterator[None]:
    """Stripe's errors as ours: unknown outcome, no such thing, or refused (``reason`` is Stripe's code)."""
    try:
        yield
    except (sdk.APIConnectionError, sdk.APIError, sdk.RateLimitError) as error:
        raise Unavailable("The payment provider does not answer.") from error
    except (sdk.AuthenticationError, sdk.PermissionError) as error:
        log.event("stripe_refused_our_key", level=logging.ERROR, code=error.code)
        raise Unavailable("The payment provider does not take our key.") from error
    except sdk.IdempotencyError as error:
        if error.http_status == 409:
            raise Unavailable("The first call is still at work.") from error
        raise Conflict("This key was used for something else.", code="IDEMPOTENCY_KEY_REUSED") from error
    except sdk.InvalidRequestError as error:
        log.event("stripe_refused", level=logging.WARNING, code=error.code, param=error.param)
        if error.http_status == 404 or error.code == "resource_missing":
            raise NotFound("Stripe knows no such thing.") from error
        raise Invalid(
            "The payment provider refuses that.", code="GATEWAY_REFUSED", reason=error.code or "refused"
        ) from error
    except sdk.StripeError as error:
        raise Unavailable("The payment provider does not answer.") from error


def pages(found: Any) -> Iterator[Any]:
    """The objects of a list and of its next pages, a bounded number of them."""
    for _ in range(MOST_PAGES):
        yield from found.data
        if not found.has_more:
            return
        found = found.next_page()


def id_of(named: Any) -> str | None:
    """The id of what Stripe names by its id or sends whole."""
    if named is None or isinstance(named, str):
        return named
    found: str = named["id"]
    return found


def meta(about: Any, name: str) -> str | None:
    """What we wrote onto an object of Stripe's."""
    found: str | None = getattr(getattr(about, "metadata", None), name, None)
    return found


def reason_of(refusal: Invalid | NotFound) -> str:
    """Stripe's code of a refusal that ``asking`` made."""
    return str(refusal.fields.get("reason", "refused"))
