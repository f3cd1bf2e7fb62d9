"""Canonical JSON (RFC 8785, JCS): one value, one sequence of bytes, so that a hash means something.

Texts, whole numbers, booleans, null, lists and objects: all that a receipt is made of. Fractions are
refused, so the part of the RFC that formats them (ECMAScript's Number::toString) is not needed. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, TypeAlias

Json: TypeAlias = "str | int | bool | Mapping[str, Json] | Sequence[Json] | None"

LARGEST = 2**53 - 1
"""RFC 7493, section 2.2: a larger whole number is not the same number in every reader."""
DEEPEST = 32
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


class NotCanonical(ValueError):
    """What has no canonical form here, or is no JSON at all; the text says why."""


def encode(value: Json) -> bytes:
    """The canonical bytes of ``value`` (RFC 8785, section 3.2), UTF-8. Raises NotCanonical."""
    try:
        return "".join(_pieces(value, 0)).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("a text holds half a surrogate pair") from error


def decode(raw: bytes) -> Json:
    """``raw`` as a value, in whatever layout. Raises NotCanonical for what ``encode`` could not have come from.

    Stricter than JSON: no member twice, no fraction, no number that readers disagree about.
    """
    try:
        value: Json = json.loads(
            raw.decode(), object_pairs_hook=_members, parse_float=_fraction, parse_constant=_fraction
        )
    except UnicodeDecodeError as error:
        raise NotCanonical("it is not UTF-8") from error
    except RecursionError as error:
        raise NotCanonical("it is nested too deep") from error
    except NotCanonical:
        raise
    except ValueError as error:
        raise NotCanonical(f"it is not JSON: {error}") from error
    encode(value)
    return value


def _pieces(value: Json, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise NotCanonical("it is nested too deep")
    if value is None:
        yield "null"
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, int):
        if abs(value) > LARGEST:
            raise NotCanonical(f"{value} is beyond 2^53 - 1")
        yield str(value)
    elif isinstance(value, str):
        yield _text(value)
    elif isinstance(value, Mapping):
        yield "{"
        # Section 3.2.3: by the names' UTF-16 code units, unsigned.
        for index, name in enumerate(sorted(value, key=_code_units)):
            yield f"{',' if index else ''}{_text(name)}:"
            yield from _pieces(value[name], depth + 1)
        yield "}"
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ","
            yield from _pieces(item, depth + 1)
        yield "]"
    else:
        raise NotCanonical(f"a {type(value).__name__} has no place here")


def _text(value: str) -> str:
    """Section 3.2.2.2: the short escapes where there are some, the rest as it is."""
    return '"' + _ESCAPED.sub(lambda match: _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}", value) + '"'


def _code_units(name: object) -> bytes:
    if not isinstance(name, str):
        raise NotCanonical("a member's name is no text")
    return name.encode("utf-16-be", "surrogatepass")


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotCanonical("a member is there twice")
    return members


def _fraction(text: str) -> NoReturn:
    raise NotCanonical(f"{text} is no whole number")
