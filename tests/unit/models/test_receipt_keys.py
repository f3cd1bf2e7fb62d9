"""Keys of receipts: RFC 8037's own example, one spelling of a signature, what a key file may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from models.config import Settings, SettingsError, load_settings
from models.receipt_keys import (
    Jwk,
    SigningKey,
    base64url,
    from_base64url,
    is_signed,
    public_keys,
    signing_key,
    thumbprint,
)

# RFC 8037, appendix A: the private key's d, the public x, the thumbprint, the signed text and its signature.
D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
SIGNED = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"


def rfc_key() -> SigningKey:
    raw = from_base64url(D)
    assert raw is not None
    return SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(raw))


def settings(**more: str) -> Settings:
    return load_settings({"SECRET_KEY": "k" * 32, **more})


def pem(path: Path, key: ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey) -> str:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def test_rfc_8037s_key_has_its_thumbprint_and_signs_as_there() -> None:
    key = rfc_key()
    assert (key.public_x, key.key_id, thumbprint(X)) == (X, THUMBPRINT, THUMBPRINT)
    assert key.sign(SIGNED) == SIGNATURE
    assert is_signed(public_keys([key.jwk]), THUMBPRINT, SIGNATURE, SIGNED)


@given(st.integers(0, len(SIGNATURE) - 1), st.sampled_from("ABCxyz019-_=+/ "))
def test_any_other_spelling_of_a_signature_is_none(position: int, letter: str) -> None:
    other = SIGNATURE[:position] + letter + SIGNATURE[position + 1 :]
    assert is_signed(public_keys([rfc_key().jwk]), THUMBPRINT, other, SIGNED) == (other == SIGNATURE)


@pytest.mark.parametrize("last", ["h", "o", "v"])
def test_the_bits_that_base64_leaves_over_are_zero(last: str) -> None:
    """RFC 4648, section 3.5: 86 letters have four bits to spare, and a lenient reader drops them."""
    assert not is_signed(public_keys([rfc_key().jwk]), THUMBPRINT, SIGNATURE[:-1] + last, SIGNED)


@given(st.binary(max_size=70))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    assert from_base64url(base64url(raw)) == raw


def test_a_key_under_another_id_or_of_another_kind_is_none_of_ours() -> None:
    assert public_keys([Jwk(x=X, kid="mine")]) == {}
    assert public_keys([Jwk(x=X, kid=THUMBPRINT, crv="X25519")]) == {}
    assert public_keys([Jwk(x="AAAA", kid=thumbprint("AAAA"))]) == {}


def test_the_key_is_derived_from_the_secret_key() -> None:
    one, again, other = (
        signing_key(settings()),
        signing_key(settings()),
        signing_key(settings(SECRET_KEY="o" * 32)),
    )
    assert one.key_id == again.key_id != other.key_id


def test_a_key_file_takes_its_place(tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    found = signing_key(settings(RECEIPT_KEY_FILE=pem(tmp_path / "key.pem", private)))
    assert found.key_id == SigningKey(private).key_id


def test_a_file_without_an_ed25519_key_is_refused(tmp_path: Path) -> None:
    other = pem(tmp_path / "other.pem", x25519.X25519PrivateKey.generate())
    (tmp_path / "text.pem").write_text("no key")
    for path in (other, str(tmp_path / "text.pem")):
        with pytest.raises(SettingsError, match="RECEIPT_KEY_FILE"):
            signing_key(settings(RECEIPT_KEY_FILE=path))
    with pytest.raises(SettingsError, match="RECEIPT_KEY_FILE"):
        settings(RECEIPT_KEY_FILE=str(tmp_path / "none.pem"))
