"""What a call of the API is: one declaration that is enforced at run time and described in OpenAPI.

Order of checks: who asks, CSRF, rate limits, body, idempotency key. Nothing is written before all passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import Any, Generic, Literal, TypeVar

import msgspec
from flask import Blueprint, Response, request
from sqlalchemy.orm import Session

from models import idempotency
from models.clock import utc_now
from models.errors import Forbidden, Invalid, Unauthenticated
from models.services.accounts import Caller, Person
from web import limits
from web.api.errors import Refusal, camel
from web.auth import check_csrf, current_caller
from web.context import Greenroom, cause_id, greenroom
from web.limits import Limit
from web.security import read_body

Body = TypeVar("Body")
Handler = TypeVar("Handler", bound=Callable[..., Any])
Idempotency = Literal["none", "optional", "required"]
Mode = Literal["read", "write", "own"]

LONGEST_KEY = 255
IN_MEMORY, CHUNK = 1024 * 1024, 64 * 1024
_REQUIRED_FIELD = re.compile(r"missing required field `([^`]+)`")
# PostgreSQL cannot store it. An even number of backslashes before it spells something else.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_PATH = re.compile(r" - at `\$\.?([^`]*)`")


class Nothing(msgspec.Struct, frozen=True):
    """A body or an answer without members."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call: persons with one of ``roles`` (any role if empty), integrators with ``scope``."""

    label: str
    persons: bool = True
    roles: frozenset[str] = frozenset()
    scope: str | None = None
    anonymous: bool = False
    bearer: bool = False
    """With ``anonymous``: the call itself looks at the bearer, which is no sign-in."""


ANYONE = Access("anyone", anonymous=True)
SIGNED_IN = Access("anyone signed in")
FAN = Access("fan", roles=frozenset({"fan"}))
CREATOR = Access("creator", roles=frozenset({"creator"}))


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter; whole numbers only, so far."""

    name: str
    meaning: str
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call as it is declared."""

    name: str
    method: str
    path: str
    summary: str
    access: Access
    body: type[Any] | None
    answer: tuple[type[Any], ...]
    status: int
    errors: tuple[str, ...]
    query: tuple[Query, ...]
    idempotency: Idempotency
    limits: tuple[Limit, ...]
    csrf: bool
    mode: Mode
    media: str = "application/json"
    """The kind of the answer; what is no JSON is a Response that the handler makes."""
    takes: str = ""
    """The kind of a body that is no JSON and that the handler reads itself."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Body]):
    """One request that has passed every check of its declaration."""

    house: Greenroom
    caller: Caller | None
    body: Body
    path: Mapping[str, str]
    query: Mapping[str, int]
    now: datetime
    cause_id: str
    raw_body: bytes = b""
    key: str | None = None

    @property
    def person(self) -> Person:
        """The person who asks. Raises Unauthenticated where none does."""
        if self.caller is None or self.caller.person is None:
            raise Unauthenticated("This needs a person who is signed in.")
        return self.caller.person


@dataclass(slots=True)
class Api:
    """The calls of one module."""

    tag: str
    endpoints: list[tuple[Endpoint, Callable[..., Any]]] = field(default_factory=list)

    def read(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """A GET; its handler is given a snapshot: ``handler(tx, call)``."""
        return self._declare("GET", path, "read", status=200, idempotency="none", **declared)

    def write(
        self, method: str, path: str, *, status: int = 200, idempotency: Idempotency = "optional", **declared: Any
    ) -> Callable[[Handler], Handler]:
        """A call that is one transaction, with its idempotency row in it: ``handler(tx, call)``."""
        return self._declare(method, path, "write", status=status, idempotency=idempotency, **declared)

    def own(
        self, method: str, path: str, *, status: int = 200, idempotency: Idempotency = "none", **declared: Any
    ) -> Callable[[Handler], Handler]:
        """A call that opens its transactions itself, since work lies between them: ``handler(call)``."""
        return self._declare(method, path, "own", status=status, idempotency=idempotency, **declared)

    def blueprint(self) -> Blueprint:
        """The Flask blueprint of these calls."""
        blueprint = Blueprint(f"api_{self.tag}", __name__)
        for endpoint, handler in self.endpoints:
            blueprint.add_url_rule(
                endpoint.path, endpoint.name, _view(endpoint, handler), methods=[endpoint.method]
            )
        return blueprint

    def _declare(
        self,
        method: str,
        path: str,
        mode: Mode,
        *,
        status: int,
        idempotency: Idempotency,
        access: Access,
        answer: type[Any] | tuple[type[Any], ...],
        body: type[Any] | None = None,
        errors: tuple[str, ...] = (),
        query: tuple[Query, ...] = (),
        limits: tuple[Limit, ...] = (),
        csrf: bool = True,
        media: str = "application/json",
        takes: str = "",
    ) -> Callable[[Handler], Handler]:
        def remember(handler: Handler) -> Handler:
            endpoint = Endpoint(
                name=handler.__name__,
                method=method,
                path=path,
                summary=(handler.__doc__ or "").strip(),
                access=access,
                body=body,
                answer=answer if isinstance(answer, tuple) else (answer,),
                status=status,
                errors=errors,
                query=query,
                idempotency=idempotency,
                limits=limits,
                csrf=csrf,
                mode=mode,
                media=media,
                takes=takes,
            )
            self.endpoints.append((endpoint, handler))
            return handler

        return remember


def answer_json(status: int, body: bytes, *, replayed: bool = False) -> Response:
    """A JSON answer; ``replayed`` says that it is the first one of its Idempotency-Key."""
    response = Response(body, status, content_type="application/json")
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def written_out(lines: Iterable[str]) -> Iterator[bytes]:
    """The lines, all of them read before the first is sent: a slow reader keeps no transaction open meanwhile."""
    with SpooledTemporaryFile(IN_MEMORY) as file:
        for line in lines:
            file.write(line.encode())
        file.seek(0)
        while chunk := file.read(CHUNK):
            yield chunk


def decode(raw: bytes, kind: type[Body]) -> Body:
    """``raw`` as a ``kind``. Raises Refusal BAD_JSON for what is no JSON, Invalid (``field``) for a misfit."""
    try:
        body = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        field_name, detail = _field_of(str(error))
        raise Invalid(detail, field=field_name) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "The body is not JSON in UTF-8.", code="BAD_JSON") from error
    if _NUL.search(raw) is not None:
        raise Invalid("A text must not hold the character NUL.", field="")
    return body


def _field_of(message: str) -> tuple[str, str]:
    """The field that msgspec complains about, and its complaint without the path."""
    at = _PATH.search(message)
    path = at.group(1) if at else ""
    detail = message[: at.start()] if at else message
    if (missing := _REQUIRED_FIELD.search(message)) is not None:
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
    return path, f"{detail}."


def _view(endpoint: Endpoint, handler: Callable[..., Any]) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        caller = _admit(endpoint)
        call = _call(endpoint, caller, path)
        if endpoint.mode == "write":
            return _write(endpoint, handler, call)
        if endpoint.mode == "read":
            with call.house.database.reading() as tx:
                answer = handler(tx, call)
        else:
            answer = handler(call)
        return answer if isinstance(answer, Response) else _encode(endpoint, answer)

    return view


def _admit(endpoint: Endpoint) -> Caller | None:
    access = endpoint.access
    # A call that stands on its body alone (no cookie, no bearer) must not look at either.
    caller = current_caller() if endpoint.csrf or not access.anonymous else None
    if caller is None and not access.anonymous:
        raise Unauthenticated("Sign in, or send a bearer token.")
    if endpoint.csrf:
        check_csrf()
    if caller is not None and not access.anonymous:
        _check_access(access, caller)
    _count(endpoint, caller)
    return caller


def _check_access(access: Access, caller: Caller) -> None:
    if caller.person is None:
        if access.scope is None:
            raise Forbidden("This is for people, not for integrators.")
        if access.scope not in caller.scopes:
            raise Forbidden(f"The token lacks the scope {access.scope}.")
        return
    if not access.persons or (access.roles and not access.roles & set(caller.person.roles)):
        raise Forbidden(f"This is for: {access.label}.")


def _count(endpoint: Endpoint, caller: Caller | None) -> None:
    subjects = {"address": limits.client_address(), "caller": caller_id(caller) if caller else ""}
    limits.enforce(*((limit, subjects[limit.per]) for limit in endpoint.limits if limit.per in subjects))


def caller_id(caller: Caller) -> str:
    """The person's id, or the integrator's."""
    found = caller.person.user_id if caller.person else caller.integrator_id
    assert found is not None
    return found


def _call(endpoint: Endpoint, caller: Caller | None, path: Mapping[str, str]) -> Call[Any]:
    raw = read_body() if endpoint.body is not None else b""
    return Call(
        house=greenroom(),
        caller=caller,
        body=_body(endpoint, raw),
        path=path,
        query=_query(endpoint),
        now=utc_now(),
        cause_id=cause_id(),
        raw_body=raw,
        key=_key(endpoint),
    )


def _body(endpoint: Endpoint, raw: bytes) -> Any:
    if endpoint.body is None:
        return Nothing()
    if not raw and not request.content_type:
        # "{title?}": a body of which every member is optional may be left out.
        return decode(b"{}", endpoint.body)
    if not request.is_json:
        raise Refusal(415, "Send the body as application/json.", code="UNSUPPORTED_MEDIA_TYPE")
    return decode(raw, endpoint.body)


def _query(endpoint: Endpoint) -> dict[str, int]:
    found = {}
    for parameter in endpoint.query:
        text = request.args.get(parameter.name)
        if text is None:
            continue
        value = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
        if value is None or not parameter.lowest <= value <= parameter.highest:
            raise Invalid(
                f"A whole number from {parameter.lowest} to {parameter.highest}.", field=parameter.name
            )
        found[parameter.name] = value
    return found


def _key(endpoint: Endpoint) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if endpoint.idempotency == "none":
        return None
    if key is None:
        if endpoint.idempotency == "required":
            raise Refusal(428, "Send an Idempotency-Key header.", code="IDEMPOTENCY_KEY_REQUIRED")
        return None
    if not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise Invalid(f"1 to {LONGEST_KEY} printable ASCII characters.", field="Idempotency-Key")
    return key


def route_of(endpoint_method: str, path: Mapping[str, str]) -> str:
    """What an idempotency key is scoped by, besides the person: the call, with the things it names."""
    return " ".join([endpoint_method, *(f"{name}={value}" for name, value in sorted(path.items()))])


def _write(endpoint: Endpoint, handler: Callable[..., Any], call: Call[Any]) -> Response:
    """The effect and the memory of its answer, in one transaction."""
    key, caller = call.key, call.caller
    if key is None or caller is None:
        return _encode(endpoint, call.house.database.run(lambda tx: handler(tx, call)))
    person_id, route = caller_id(caller), route_of(f"{endpoint.method} {endpoint.path}", call.path)

    def work(tx: Session) -> tuple[int, bytes, bool]:
        stored = idempotency.claim(
            tx, person_id=person_id, route=route, key=key, body=call.raw_body, now=call.now
        )
        if stored is not None:
            return stored.status, stored.body, True
        body = msgspec.json.encode(handler(tx, call))
        idempotency.store(
            tx, person_id=person_id, route=route, key=key, status=endpoint.status, body=body
        )
        return endpoint.status, body, False

    status, body, replayed = call.house.database.run(work)
    return answer_json(status, body, replayed=replayed)


def _encode(endpoint: Endpoint, answer: object) -> Response:
    return answer_json(endpoint.status, msgspec.json.encode(answer))


def openapi_path(path: str) -> str:
    """Flask's ``<creator_id>`` as OpenAPI's ``{creatorId}``."""
    return re.sub(r"<([a-z_]+)>", lambda match: "{" + camel(match.group(1)) + "}", path)


def path_names(path: str) -> list[str]:
    """The names of the path's parameters, as OpenAPI has them."""
    return [camel(name) for name in re.findall(r"<([a-z_]+)>", path)]


