"""How a document is sealed: canonical bytes, their hash, an Ed25519 signature, the hash of the one before.

What is signed is the whole document with ``signature`` reduced to ``keyId``, ``algorithm``, ``number`` and
``previousHash``; ``hash`` and ``value`` are then added. Pure: knows neither sessions nor the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from models import canonical
from models.canonical import Json
from models.receipt_keys import ALGORITHM, SigningKey, is_signed


class Seal(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The member ``signature`` of a receipt or an amendment: its place in the creator's chain, and the proof."""

    key_id: str
    algorithm: Literal["EdDSA"] = ALGORITHM
    number: int
    previous_hash: str | None
    hash: str
    """SHA-256 of what is signed, in hexadecimal."""
    value: str
    """The Ed25519 signature of the same bytes, base64url."""


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A document with its seal, as canonical JSON."""

    hash: str
    text: str


def seal(document: Mapping[str, Json], key: SigningKey, *, number: int, previous_hash: str | None) -> Sealed:
    """Sign ``document`` as the ``number``-th of its chain. Raises NotCanonical for what cannot be canonical."""
    place: dict[str, Json] = {
        "keyId": key.key_id,
        "algorithm": ALGORITHM,
        "number": number,
        "previousHash": previous_hash,
    }
    message = canonical.encode({**document, "signature": place})
    digest = hashlib.sha256(message).hexdigest()
    sealed = {**document, "signature": {**place, "hash": digest, "value": key.sign(message)}}
    return Sealed(hash=digest, text=canonical.encode(sealed).decode())


def seal_head(creator_id: str, at: str, count: int, last_hash: str | None, key: SigningKey) -> str:
    """The last line of an export, canonical JSON: how long the chain is, so that nothing is left off its end."""
    document: dict[str, Json] = {
        "document": "head",
        "creatorId": creator_id,
        "at": at,
        "count": count,
        "lastHash": last_hash,
    }
    place: dict[str, Json] = {"keyId": key.key_id, "algorithm": ALGORITHM}
    value = key.sign(canonical.encode({**document, "signature": place}))
    return canonical.encode({**document, "signature": {**place, "value": value}}).decode()


def seal_problems(document: Mapping[str, Json], keys: Mapping[str, Ed25519PublicKey]) -> list[str]:
    """What is wrong with the seal of a document, in sentences; empty when it holds."""
    signature = document.get("signature")
    if not isinstance(signature, Mapping):
        return ["it is not signed"]
    proof = {"value"} if document.get("document") == "head" else {"value", "hash"}
    place = {name: value for name, value in signature.items() if name not in proof}
    message = canonical.encode({**document, "signature": place})
    problems = []
    if "hash" in proof and signature.get("hash") != hashlib.sha256(message).hexdigest():
        problems.append("its hash is not the hash of what it says")
    key_id, value = signature.get("keyId"), signature.get("value")
    if signature.get("algorithm") != ALGORITHM:
        problems.append("its signature is of another kind than EdDSA")
    elif not isinstance(key_id, str) or key_id not in keys:
        problems.append("it is signed with a key that is not among the keys")
    elif not isinstance(value, str) or not is_signed(keys, key_id, value, message):
        problems.append("its signature does not fit what it says")
    return problems
