"""The keys of receipts: Ed25519 (RFC 8032), published as a JWK Set (RFC 7517, RFC 8037).

The private key is derived from ``SECRET_KEY`` unless ``RECEIPT_KEY_FILE`` names a PEM file, such as a
hardware token's export. Knows bytes and keys; not what is signed, nor the database.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from models import canonical
from models.config import Settings, SettingsError

ALGORITHM: Literal["EdDSA"] = "EdDSA"
"""RFC 8037, section 3.1: the name of Ed25519 signatures in JOSE."""
PURPOSE = "receipt-signing"


class Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public key as RFC 8037, section 2 writes it; ``kid`` is its RFC 7638 thumbprint."""

    kty: str = "OKP"
    crv: str = "Ed25519"
    x: str
    kid: str
    use: str = "sig"
    alg: str = ALGORITHM


class JwkSet(msgspec.Struct, frozen=True):
    """RFC 7517, section 5."""

    keys: tuple[Jwk, ...]


class SigningKey:
    """The house's private key. Signs; never shows itself."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_x = base64url(private.public_key().public_bytes_raw())
        self.key_id = thumbprint(self.public_x)

    @property
    def jwk(self) -> Jwk:
        """Its public half."""
        return Jwk(x=self.public_x, kid=self.key_id)

    def sign(self, message: bytes) -> str:
        """The signature of ``message``, base64url without padding (86 characters)."""
        return base64url(self._private.sign(message))


def signing_key(settings: Settings) -> SigningKey:
    """The key of this installation. Raises SettingsError when the key file is none of Ed25519."""
    if settings.receipt_key_file is None:
        return SigningKey(Ed25519PrivateKey.from_private_bytes(settings.key(PURPOSE)))
    try:
        private = load_pem_private_key(settings.receipt_key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"RECEIPT_KEY_FILE: {type(error).__name__}: not a readable PEM private key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SettingsError(
            "RECEIPT_KEY_FILE must hold an Ed25519 private key (openssl genpkey -algorithm ed25519)"
        )
    return SigningKey(private)


def public_keys(keys: Iterable[Jwk]) -> dict[str, Ed25519PublicKey]:
    """Key id → key. A key whose id is not its thumbprint, or of another kind, is left out."""
    found = {}
    for key in keys:
        if (key.kty, key.crv) != ("OKP", "Ed25519") or key.kid != thumbprint(key.x):
            continue
        raw = from_base64url(key.x)
        if raw is not None and len(raw) == 32:
            found[key.kid] = Ed25519PublicKey.from_public_bytes(raw)
    return found


def is_signed(keys: Mapping[str, Ed25519PublicKey], key_id: str, value: str, message: bytes) -> bool:
    """Whether ``value`` is that key's signature of ``message``, in its one right spelling."""
    raw = from_base64url(value)
    if raw is None or key_id not in keys:
        return False
    try:
        keys[key_id].verify(raw, message)
    except InvalidSignature:
        return False
    return True


def thumbprint(x: str) -> str:
    """The id of a public key: RFC 7638 over RFC 8037's required members."""
    return base64url(hashlib.sha256(canonical.encode({"crv": "Ed25519", "kty": "OKP", "x": x})).digest())


def base64url(raw: bytes) -> str:
    """RFC 4648, section 5, without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes | None:
    """The bytes; None for any spelling but the one that ``base64url`` writes."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw if base64url(raw) == text else None
