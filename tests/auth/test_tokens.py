"""Tokens of an external server: what is believed, and everything that is not."""

import base64
import hashlib
import hmac
import json
import warnings
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm
from jwt.api_jws import PyJWS
from tests.auth.making import Clock
from tests.auth.signing import (
    ISSUER,
    NOW,
    SERVICE,
    Issued,
    Pair,
    Token,
    make_authority,
    make_certificate,
    make_key,
)

from stackyard.auth import keys
from stackyard.auth.challenges import InvalidToken
from stackyard.auth.keys import KeyRing, from_pem
from stackyard.auth.principals import ANONYMOUS, Action, Grant
from stackyard.auth.settings import ASYMMETRIC
from stackyard.auth.tokens import LEEWAY, Recalled, TokenMemory, Verifier


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_key(tmp_path_factory.mktemp("stranger"))


def kid(pair: Pair) -> str:
    return keys.thumbprint(next(iter(from_pem(pair.public_pem).by_id.values())))


def verifier(ring: KeyRing, now: float = NOW, algorithms: frozenset[str] = ASYMMETRIC) -> Verifier:
    return Verifier(ring, ISSUER, SERVICE, algorithms, Clock(now))


def trusting(*pairs: Pair, now: float = NOW) -> Verifier:
    ring = KeyRing()
    for each in pairs:
        ring |= from_pem(each.public_pem)
    return verifier(ring, now)


@pytest.mark.parametrize("named", [keys.thumbprint, keys.fingerprint])
def test_token_of_a_trusted_key_is_believed_under_either_of_its_names(pair: Pair, named: Any) -> None:
    name = named(next(iter(from_pem(pair.public_pem).by_id.values())))

    claims = trusting(pair).verify(Token(header={"kid": name}).signed(pair.private))

    assert claims.subject == "alice"
    assert claims.access.grants == (Grant("team/app", frozenset({Action.PULL})),)
    assert claims.expires == NOW + 300 + LEEWAY


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("rsa", "RS256"),
        ("rsa", "RS512"),
        ("rsa", "PS256"),
        ("p256", "ES256"),
        ("p384", "ES384"),
        ("p521", "ES512"),
        ("ed25519", "EdDSA"),
    ],
)
def test_every_allowed_algorithm_is_verified(tmp_path: Path, kind: str, algorithm: str) -> None:
    pair = make_key(tmp_path, kind)
    token = Token(header={"kid": kid(pair)}).signed(pair.private, algorithm)

    assert trusting(pair).verify(token).subject == "alice"
    with pytest.raises(InvalidToken):
        verifier(from_pem(pair.public_pem), algorithms=ASYMMETRIC - {algorithm}).verify(token)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "evil"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"aud": ["other"]},
        {"aud": SERVICE + "x"},
        {"aud": {SERVICE: 1}},
        {"exp": None},
        {"exp": NOW - LEEWAY},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e400},
        {"exp": float("nan")},
        {"exp": -(10**400)},
        {"nbf": NOW + LEEWAY + 1},
        {"nbf": "now"},
        {"access": "all"},
        {"access": [{"type": "repository", "name": 1, "actions": ["pull"]}]},
    ],
)
def test_token_with_a_wrong_claim_is_invalid(pair: Pair, claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        trusting(pair).verify(Token(claims, {"kid": kid(pair)}).signed(pair.private))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [SERVICE]},
        {"aud": ["other", SERVICE]},
        {"exp": NOW - LEEWAY + 1},
        {"exp": NOW + 0.5},
        {"nbf": NOW + LEEWAY},
        {"nbf": None},
        {"iat": NOW + 10_000},
        {"iat": "yesterday"},
        {"jti": 7},
        {"sub": None},
        {"access": None},
        {"access": [{"type": "repository", "name": f"a{number}", "actions": ["pull"]} for number in range(65)]},
        {"access": []},
    ],
)
def test_token_is_believed_with_what_servers_do_differently(pair: Pair, claims: dict[str, Any]) -> None:
    trusting(pair).verify(Token(claims, {"kid": kid(pair)}).signed(pair.private))


def test_token_without_a_trusted_key_is_invalid(pair: Pair, stranger: Pair) -> None:
    for header in ({}, {"kid": "unknown"}, {"kid": kid(stranger)}, {"kid": kid(pair)}):
        with pytest.raises(InvalidToken):
            trusting(pair).verify(Token(header=header).signed(stranger.private))


def test_key_in_the_header_is_believed_only_if_it_is_trusted_already(pair: Pair, stranger: Pair) -> None:
    def token(signer: Pair) -> str:
        jwk = json.loads(ECAlgorithm.to_jwk(signer.private.public_key()))  # type: ignore[arg-type]
        return Token(header={"jwk": jwk, "kid": kid(pair)}).signed(signer.private)

    assert trusting(pair).verify(token(pair)).subject == "alice"
    with pytest.raises(InvalidToken):
        trusting(pair).verify(token(stranger))


def test_trusted_key_in_the_header_does_not_cover_another_signer(pair: Pair, stranger: Pair) -> None:
    jwk = json.loads(ECAlgorithm.to_jwk(pair.private.public_key()))  # type: ignore[arg-type]

    with pytest.raises(InvalidToken):
        trusting(pair).verify(Token(header={"jwk": jwk}).signed(stranger.private))


def test_certificate_chain_to_a_root_is_believed(tmp_path: Path) -> None:
    root = make_authority(tmp_path, "root")
    middle = make_authority(tmp_path, "middle", by=root)
    leaf = make_certificate(tmp_path, "leaf", by=middle)
    now = leaf.certificate.not_valid_before_utc.timestamp() + 60
    token = Token({"exp": now + 300, "nbf": now}, {"x5c": [leaf.x5c, middle.x5c]}).signed(leaf.key.private)

    assert verifier(from_pem(root.file.read_bytes()), now).verify(token).subject == "alice"


def test_token_ends_with_the_certificate_that_vouched_for_it(tmp_path: Path) -> None:
    root = make_authority(tmp_path, "root")
    leaf = make_certificate(tmp_path, "leaf", by=root, days=1)
    ends = leaf.certificate.not_valid_after_utc
    now = (ends - timedelta(hours=1)).timestamp()
    token = Token({"exp": now + 86_400, "nbf": now}, {"x5c": [leaf.x5c]}).signed(leaf.key.private)

    assert verifier(from_pem(root.file.read_bytes()), now).verify(token).expires == ends.timestamp()


def chains(leaf: Issued, stranger: Pair) -> list[Any]:
    return [[], "", leaf.x5c, [leaf.x5c] * 7, ["!"], ["AAAA"], [1], {}, [leaf.x5c + "\n?"]]


def test_chain_that_does_not_lead_to_a_root_is_invalid(tmp_path: Path, stranger: Pair) -> None:
    root = make_authority(tmp_path, "root")
    leaf = make_certificate(tmp_path, "leaf", by=root)
    other = make_authority(tmp_path, "other")
    now = leaf.certificate.not_valid_before_utc.timestamp() + 60
    times = {"exp": now + 300, "nbf": now}

    good = Token(times, {"x5c": [leaf.x5c]}).signed(leaf.key.private)
    assert verifier(from_pem(root.file.read_bytes()), now).verify(good).subject == "alice"
    with pytest.raises(InvalidToken):
        verifier(from_pem(other.file.read_bytes()), now).verify(good)
    with pytest.raises(InvalidToken):
        verifier(from_pem(root.file.read_bytes()), now).verify(
            Token(times, {"x5c": [leaf.x5c]}).signed(stranger.private)
        )
    for chain in chains(leaf, stranger):
        with pytest.raises(InvalidToken):
            verifier(from_pem(root.file.read_bytes()), now).verify(
                Token(times, {"x5c": chain}).signed(leaf.key.private)
            )


def test_certificate_with_any_byte_changed_is_invalid(tmp_path: Path) -> None:
    root = make_authority(tmp_path, "root")
    leaf = make_certificate(tmp_path, "leaf", by=root, subjectAltName="DNS:leaf,IP:192.0.2.1")
    der = base64.b64decode(leaf.x5c)
    now = leaf.certificate.not_valid_before_utc.timestamp() + 60
    trusting = verifier(from_pem(root.file.read_bytes()), now)

    @given(at=st.integers(0, len(der) - 1), byte=st.integers(0, 255))
    @settings(max_examples=300, deadline=None)
    def check(at: int, byte: int) -> None:
        changed = der[:at] + bytes([byte]) + der[at + 1 :]
        chain = [base64.b64encode(changed).decode()]
        token = Token({"exp": now + 300, "nbf": now}, {"x5c": chain}).signed(leaf.key.private)
        if changed == der:
            trusting.verify(token)
            return
        with warnings.catch_warnings(action="ignore"), pytest.raises(InvalidToken):
            trusting.verify(token)

    check()


def test_unsigned_token_is_invalid(pair: Pair) -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": kid(pair)}).encode()).rstrip(b"=").decode()
    _, payload, _ = Token().signed(pair.private).split(".")

    for token in (f"{header}.{payload}.", f"{header}.{payload}", f"{header}.{payload}.AAAA"):
        with pytest.raises(InvalidToken):
            trusting(pair).verify(token)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_public_key_is_not_a_shared_secret(pair: Pair, algorithm: str) -> None:
    """Signed with the bytes of the public key, which everybody may have."""

    def part(content: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")

    _, payload, _ = Token().signed(pair.private).encode().split(b".")
    signing = part({"alg": algorithm, "typ": "JWT", "kid": kid(pair)}) + b"." + payload
    for secret in (pair.public_pem, pair.public_pem.strip(), pair.public_der):
        mac = hmac.new(secret, signing, getattr(hashlib, f"sha{algorithm[2:]}")).digest()
        token = (signing + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
        with pytest.raises(InvalidToken):
            trusting(pair).verify(token)


def test_changed_token_is_invalid(pair: Pair) -> None:
    head, payload, signature = Token(header={"kid": kid(pair)}).signed(pair.private).split(".")
    _, other, _ = Token({"sub": "root"}).signed(pair.private).split(".")

    with pytest.raises(InvalidToken):
        trusting(pair).verify(f"{head}.{other}.{signature}")
    with pytest.raises(InvalidToken):
        trusting(pair).verify(f"{head}.{payload}.{'A' * len(signature)}")


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}])
def test_token_with_a_critical_extension_is_invalid(pair: Pair, header: dict[str, Any]) -> None:
    with pytest.raises((InvalidToken, jwt.PyJWTError)):
        trusting(pair).verify(Token(header={"kid": kid(pair)} | header).signed(pair.private))


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'"x"', b"null", b"1", b"{", b"\xff", b"[" * 20_000, b'{"exp": 1' + b"0" * 5000 + b"}"]
)
def test_signed_token_that_is_no_object_is_invalid(pair: Pair, payload: bytes) -> None:
    token = PyJWS().encode(payload, pair.private, "ES256", headers={"kid": kid(pair)})  # type: ignore[arg-type]

    with pytest.raises(InvalidToken):
        trusting(pair).verify(token)


@pytest.mark.parametrize(
    "header",
    [
        [],
        "x",
        1,
        None,
        {"alg": []},
        {"alg": {}},
        {"alg": "ES256", "kid": []},
        {"alg": "ES256", "jwk": {}},
        {"alg": "ES256", "jwk": {"kty": "oct", "k": "AA"}},
        {"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}},
    ],
)
def test_token_with_a_strange_header_is_invalid(pair: Pair, header: Any) -> None:
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    _, payload, signature = Token().signed(pair.private).split(".")

    with pytest.raises(InvalidToken):
        trusting(pair).verify(f"{encoded}.{payload}.{signature}")


def test_token_that_is_too_long_is_invalid_before_it_is_read(pair: Pair) -> None:
    with pytest.raises(InvalidToken, match="too long"):
        trusting(pair).verify("a" * 70_000)


@given(
    token=st.text()
    | st.lists(st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()), max_size=4).map(".".join)
)
def test_any_text_is_an_invalid_token(token: str) -> None:
    with pytest.raises(InvalidToken):
        verifier(KeyRing()).verify(token)


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "jwk", "x5c", "typ", "crit", "b64"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.sampled_from(["ES256", "RSA", "EC"]),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["kty", "n", "e", "crv", "x", "y"]), inner),
        ),
    )
)
def test_any_header_is_an_invalid_token(header: dict[str, Any]) -> None:
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()

    with pytest.raises(InvalidToken):
        verifier(KeyRing()).verify(f"{encoded}.e30.AAAA")


def test_message_tells_nothing_of_the_token(pair: Pair) -> None:
    with suppress(InvalidToken):
        trusting(pair).verify("topsecret")
    with pytest.raises(InvalidToken) as refused:
        trusting(pair).verify("topsecret")

    assert "topsecret" not in refused.value.text


def test_memory_of_tokens_forgets_what_was_not_asked_for_longest() -> None:
    memory = TokenMemory()
    recalled = Recalled(ANONYMOUS, 1.0)
    for number in range(2048):
        memory.keep(f"token{number}", replace(recalled, expires=float(number)))

    assert memory.find("token0") is not None
    memory.keep("one more", recalled)

    assert memory.find("token0") is not None
    assert memory.find("token1") is None
    assert memory.find("token2047") == replace(recalled, expires=2047.0)
