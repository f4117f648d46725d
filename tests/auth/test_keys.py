"""Keys from files, and the names they go by."""

import base64
import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from jwt.algorithms import get_default_algorithms
from tests.auth.signing import ISSUER, KINDS, SERVICE, Pair, Token, make_certificate, make_key, openssl
from tests.support import docker_registry

from stackyard.auth import keys
from stackyard.auth.errors import KeysUnusable
from stackyard.auth.keys import from_jwk, from_jwks, from_pem

# RFC 7638, 3.1: the example key and its thumbprint.
RFC_KEY = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
    "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
    "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
    "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}  # fmt: skip
RFC_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def jwk(pair: Pair, algorithm: str, **members: Any) -> dict[str, Any]:
    public: dict[str, Any] = json.loads(get_default_algorithms()[algorithm].to_jwk(pair.private.public_key()))
    return public | members


def test_thumbprint_is_that_of_rfc_7638() -> None:
    assert keys.thumbprint(from_jwk(RFC_KEY)) == RFC_THUMBPRINT


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprint_is_libtrusts(tmp_path: Path, kind: str) -> None:
    """By command line: SHA-256 of the DER key, its first 30 bytes in base32, colons after every four."""
    pair = make_key(tmp_path, kind)

    text = base64.b32encode(hashlib.sha256(pair.public_der).digest()[:30]).decode()
    expected = ":".join(text[at : at + 4] for at in range(0, 48, 4))

    assert keys.fingerprint(next(iter(from_pem(pair.public_pem).by_id.values()))) == expected
    assert len(expected.split(":")) == 12


def test_fingerprint_is_the_key_id_that_docker_registry_looks_for(tmp_path: Path) -> None:
    """Debian's docker-registry is a Distribution 2 and knows no other names."""
    server = make_certificate(tmp_path, "server")
    name = keys.fingerprint(next(iter(from_pem(server.key.public_pem).by_id.values())))
    token = {"realm": "https://auth.example.com", "service": SERVICE, "issuer": ISSUER}
    now = int(time.time())

    def status(kid: str) -> int:
        signed = Token({"exp": now + 300, "nbf": now}, {"kid": kid}).signed(server.key.private)
        return registry.request("GET", "/v2/", headers={"Authorization": f"Bearer {signed}"}).status

    config = {"auth": {"token": token | {"rootcertbundle": str(server.file)}}}
    with docker_registry.start(config, folder=tmp_path / "registry") as registry:
        assert status(name) == 200
        assert status(name[:-1] + ("A" if name[-1] != "A" else "B")) == 401


@pytest.mark.parametrize("kind", KINDS)
def test_pem_key_is_found_under_both_names(tmp_path: Path, kind: str) -> None:
    ring = from_pem(make_key(tmp_path, kind).public_pem)

    key = next(iter(ring.by_id.values()))
    assert set(ring.by_id) == {keys.fingerprint(key), keys.thumbprint(key)}
    assert ring.roots == ()


def test_bundle_of_certificates_gives_their_keys_and_trusts_them_as_roots(tmp_path: Path) -> None:
    one, two = make_certificate(tmp_path, "one"), make_certificate(tmp_path, "two")
    bundle = b"a comment\n" + one.file.read_bytes() + b"another\r\n" + two.file.read_bytes()

    ring = from_pem(bundle + one.key.public_pem + one.key.file.read_bytes())

    assert ring.roots == (one.certificate, two.certificate)
    assert len(set(map(keys.thumbprint, ring.by_id.values()))) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pem",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n",
    ],
)
def test_bundle_without_a_usable_key_is_refused(content: bytes) -> None:
    with pytest.raises(KeysUnusable):
        from_pem(content)


def test_bundle_with_a_key_that_cannot_sign_is_refused(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "X25519", "-out", tmp_path / "key.pem")

    with pytest.raises(KeysUnusable):
        from_pem(Pair(tmp_path / "key.pem").public_pem)


def test_key_set_is_found_under_its_own_names_too(tmp_path: Path) -> None:
    pairs = [
        jwk(make_key(tmp_path, "p256", "one"), "ES256", kid="one"),
        jwk(make_key(tmp_path, "rsa", "two"), "RS256", kid="two", use="sig"),
        jwk(make_key(tmp_path, "ed25519", "three"), "EdDSA"),
    ]

    ring = from_jwks(json.dumps({"keys": pairs}).encode())

    assert {"one", "two"} < set(ring.by_id)
    assert len(ring.by_id) == 2 + 3 * 2
    assert keys.thumbprint(ring.by_id["one"]) in ring.by_id


def test_key_set_does_not_let_a_kid_stand_for_another_keys_thumbprint(tmp_path: Path) -> None:
    good = jwk(make_key(tmp_path, "p256", "good"), "ES256")
    name = keys.thumbprint(from_jwk(good))

    ring = from_jwks(json.dumps({"keys": [good, jwk(make_key(tmp_path, "p256", "bad"), "ES256", kid=name)]}).encode())

    assert keys.thumbprint(ring.by_id[name]) == name


def test_private_keys_in_a_set_are_used_for_their_public_part(tmp_path: Path) -> None:
    private = json.loads(get_default_algorithms()["ES256"].to_jwk(make_key(tmp_path).private))
    assert "d" in private

    ring = from_jwks(json.dumps({"keys": [private]}).encode())

    assert ring.by_id
    assert not any(hasattr(key, "private_bytes") for key in ring.by_id.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": 1}',
        b'{"keys": []}',
        b'{"keys": [1]}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}',
        b'{"keys": [{"kty": "RSA", "n": 1}]}',
        b'{"keys": [{"kty": "EC", "use": "enc"}]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_key_set_that_cannot_be_used_is_refused(content: bytes) -> None:
    with pytest.raises(KeysUnusable):
        from_jwks(content)


def test_new_signing_key_is_named_by_its_thumbprint() -> None:
    made, other = keys.make_signing_key(), keys.make_signing_key()

    public = subprocess.run(
        ["openssl", "pkey", "-pubout"], input=made.private_pem.encode(), capture_output=True, check=True
    ).stdout
    assert made.kid in from_pem(public).by_id
    assert made.kid != other.kid
    assert "PRIVATE" not in repr(made)
