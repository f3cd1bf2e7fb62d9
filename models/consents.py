"""What two people agree to before a private stream is recorded, in words, and the signed record that they did.

A record holds the whole text that was shown, and is sealed as receipts are (``models.receipt_seal``): anybody
with the published keys can check it. Pure: knows neither sessions nor the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from models import canonical
from models.canonical import Json
from models.receipt_keys import SigningKey
from models.receipt_seal import Sealed, seal, seal_problems

TEXT_VERSION = 1
"""Raised whenever ``words`` changes what it promises."""
DOCUMENT = "recording-consent"
Side = Literal["fan", "creator"]
Act = Literal["given", "withdrawn"]


class Terms(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is agreed to: ``price`` in tokens for the fan, whether the fan may watch, how long it is kept."""

    price: int
    shared: bool
    keep_days: int
    text_version: int = TEXT_VERSION


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One act, before it is sealed. ``at`` is RFC 3339 UTC."""

    document: str = DOCUMENT
    consent_id: str
    recording_id: str
    session_id: str
    person_id: str
    side: Side
    act: Act
    at: str
    terms: Terms
    text: tuple[str, ...]


def words(terms: Terms) -> tuple[str, ...]:
    """The text of this version, in sentences, the same for both sides."""
    if not terms.shared:
        fan = "The fan cannot watch the recording."
    elif terms.price:
        fan = f"The fan can watch and download it for {terms.price:,} {'token' if terms.price == 1 else 'tokens'}."
    else:
        fan = "The fan can watch and download it free of charge."
    days = f"{terms.keep_days} {'day' if terms.keep_days == 1 else 'days'}"
    return (
        "Picture and sound of both sides of this private stream are recorded.",
        "It begins once both have agreed and ends when one of them stops it or the call ends.",
        "The creator can watch and download the recording free of charge.",
        fan,
        "Nobody else can watch it, neither other members nor the people who run this site.",
        f"It is deleted {days} after it was completed. Either side can delete it before.",
        "Either side can withdraw this consent at any time during the call; recording then stops at once.",
    )


def sign(record: Record, key: SigningKey, *, number: int, previous_hash: str | None) -> Sealed:
    """Seal a record as the ``number``-th of its recording."""
    document: dict[str, Json] = msgspec.to_builtins(record)
    return seal(document, key, number=number, previous_hash=previous_hash)


def is_record(line: bytes) -> bool:
    """Whether this wants to be a sealed record."""
    try:
        document = canonical.decode(line)
    except canonical.NotCanonical:
        return False
    return isinstance(document, Mapping) and document.get("document") == DOCUMENT


def problems(text: str | bytes, keys: Mapping[str, Ed25519PublicKey]) -> list[str]:
    """What is wrong with a sealed record, in sentences; empty when it is as somebody signed it."""
    try:
        document = canonical.decode(text.encode() if isinstance(text, str) else text)
    except canonical.NotCanonical as error:
        return [str(error)]
    if not isinstance(document, Mapping) or document.get("document") != DOCUMENT:
        return ["it is no record of a consent"]
    found = seal_problems(document, keys)
    try:
        record = msgspec.convert(document, Record)
    except msgspec.ValidationError as error:
        return [*found, f"a member does not fit: {error}"]
    if record.terms.text_version == TEXT_VERSION and record.text != words(record.terms):
        found.append("its text is not the text of that version")
    return found
