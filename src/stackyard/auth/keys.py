"""Keys that sign and verify tokens, and the names they go by.

Distribution 2 names a key by libtrust's fingerprint, Distribution 3 by the JWK thumbprint of RFC 7638. Token servers
written for either must work, so a trusted key is found under both, and under the `kid` its JWKS gives it.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from stackyard.auth.errors import KeysUnusable
from stackyard.metadata.keys import SigningKey as SigningKey  # made here, kept there

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
_KINDS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_DER, _SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys whose signature counts, by every name they go by, and the certificates that may vouch for more."""

    by_id: Mapping[str, PublicKey] = field(default_factory=dict)
    roots: tuple[x509.Certificate, ...] = ()

    def __or__(self, other: "KeyRing") -> "KeyRing":
        """The keys and roots of both."""
        return KeyRing({**self.by_id, **other.by_id}, self.roots + other.roots)


def fingerprint(key: PublicKey) -> str:
    """libtrust's id: SHA-256 of the DER key, cut to 240 bits, base32 in groups of four joined by colons."""
    text = base64.b32encode(hashlib.sha256(key.public_bytes(_DER, _SPKI)).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))


def thumbprint(key: PublicKey) -> str:
    """RFC 7638: SHA-256 of the required members of the JWK, in order and without spaces, as base64url."""
    members = {name: value for name, value in _jwk(key).items() if name in ("crv", "e", "kty", "n", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def ring(keys: Iterable[PublicKey], roots: Iterable[x509.Certificate] = ()) -> KeyRing:
    """Trust these keys under both of their computed names."""
    names = {name: key for key in keys for name in (fingerprint(key), thumbprint(key))}
    return KeyRing(names, tuple(roots))


def from_pem(content: bytes) -> KeyRing:
    """Trust the keys of a bundle of PEM certificates and public keys; the certificates may also vouch for others.

    Raises:
        KeysUnusable: Nothing in it, or a block that cannot be read.
    """
    certificates, keys = [], []
    for block, label in ((match[0], match[1]) for match in _PEM.finditer(content)):
        try:
            if label == b"CERTIFICATE":
                certificates.append(x509.load_pem_x509_certificate(block))
                keys.append(_public(certificates[-1].public_key()))
            elif label.endswith(b"PUBLIC KEY"):
                keys.append(_public(serialization.load_pem_public_key(block)))
        except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
            raise KeysUnusable(f"a {label.decode().lower()} in it cannot be read") from problem
    if not keys:
        raise KeysUnusable("no PEM certificate or public key in it")
    return ring(keys, certificates)


def from_jwks(content: bytes) -> KeyRing:
    """Trust the public keys of a JWK set (RFC 7517, 5), also under the `kid` they carry.

    Raises:
        KeysUnusable: Not a JWK set, no usable key in it, or a symmetric one.
    """
    try:
        entries = json.loads(content)["keys"]
        usable = [entry for entry in entries if entry.get("use", "sig") == "sig"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise KeysUnusable("not a JWK set") from problem
    keys = [(entry.get("kid"), from_jwk(entry)) for entry in usable]
    if not keys:
        raise KeysUnusable("no signing key in it")
    named = {kid: key for kid, key in keys if isinstance(kid, str)}
    return KeyRing(named) | ring(key for _, key in keys)


def from_jwk(entry: Mapping[str, object]) -> PublicKey:
    """The public key of one JWK. Raises KeysUnusable when there is none, as in a symmetric key."""
    try:
        if entry.get("kty") not in ("RSA", "EC", "OKP"):
            raise KeysUnusable("a key is not RSA, EC or OKP")
        key = jwt.PyJWK(dict(entry)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm) as problem:
        raise KeysUnusable("a key of the set cannot be read") from problem
    return _public(key.public_key() if hasattr(key, "public_key") else key)


def _public(key: object) -> PublicKey:
    if not isinstance(key, _KINDS):
        raise KeysUnusable("a key is not RSA, EC or OKP")
    return key


def _jwk(key: PublicKey) -> dict[str, object]:
    if isinstance(key, rsa.RSAPublicKey):
        return dict(RSAAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return dict(ECAlgorithm.to_jwk(key, as_dict=True))
    return dict(OKPAlgorithm.to_jwk(key, as_dict=True))


def make_signing_key() -> SigningKey:
    """A new ES256 key (P-256) under its RFC 7638 name.

    It belongs into the database, so that every worker of every node signs with the same.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(thumbprint(private.public_key()), pem.decode())
