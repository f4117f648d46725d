"""Bearer tokens: JWTs (RFC 7519) with an `access` claim, verified once and then remembered until they end.

The key is found as Distribution finds it: the `x5c` chain if there is one, else the `jwk` header, else `kid`. The last
two only point at a key that is trusted already; a key in a token is never believed for being there.
"""

import hashlib
import json
import math
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.api_jws import PyJWS

from stackyard.auth import certificates, scopes
from stackyard.auth.challenges import InvalidToken
from stackyard.auth.errors import KeysUnusable
from stackyard.auth.keys import KeyRing, PublicKey, from_jwk, thumbprint
from stackyard.auth.principals import Principal
from stackyard.auth.scopes import Scopes

LEEWAY = 60.0
"""Seconds by which the clocks of issuer and registry may differ."""
MAX_LENGTH = 65_536
_REMEMBERED = 2_048
_JWS = PyJWS()
# What the parsers of JSON, base64, JWK and X.509 raise on bytes that somebody made up.
_MALFORMED = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    KeysUnusable,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    subject: str
    access: Scopes
    expires: float
    """Seconds since the epoch; the leeway is included, and so is the end of the certificate that vouched."""
    login: str | None
    """The mark of the login a token of our own came from (see `issuer`)."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies the tokens of one issuer for one audience."""

    keys: KeyRing
    issuer: str
    audience: str
    algorithms: frozenset[str]
    clock: Callable[[], float] = time.time

    def verify(self, token: str) -> Claims:
        """Check signature, issuer, audience and times.

        Raises:
            InvalidToken: For whatever reason; the message says which, in words that hold nothing of the token.
        """
        if len(token) > MAX_LENGTH:
            raise InvalidToken("the token is too long")
        try:
            return self._verify(token)
        except InvalidToken:
            raise
        except jwt.PyJWTError as problem:
            raise InvalidToken("the token's signature or form is wrong") from problem
        except _MALFORMED as problem:
            raise InvalidToken("the token is malformed") from problem

    def _verify(self, token: str) -> Claims:
        header = _JWS.get_unverified_header(token)
        if header.get("alg") not in self.algorithms:
            raise InvalidToken("the token is signed with an algorithm that is not allowed")
        key, until = self._key(header)
        payload = _JWS.decode(token, key, algorithms=[header["alg"]])
        claims = json.loads(payload)
        if not isinstance(claims, dict):
            raise InvalidToken("the token is malformed")
        self._check_parties(claims)
        login = claims.get("login")
        return Claims(
            subject=str(claims.get("sub") or ""),
            access=scopes.from_claim(claims.get("access")),
            expires=min(self._check_times(claims), until),
            login=login if isinstance(login, str) else None,
        )

    def _key(self, header: Mapping[str, object]) -> tuple[PublicKey, float]:
        """The trusted key a header points at, and until when it is trusted, in seconds since the epoch."""
        if chain := header.get("x5c"):
            return self._from_chain(chain)
        jwk = header.get("jwk")
        kid = thumbprint(from_jwk(jwk)) if isinstance(jwk, Mapping) else header.get("kid")
        key = self.keys.by_id.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise InvalidToken("the token is signed with a key that is not trusted")
        return key, math.inf

    def _from_chain(self, encoded: object) -> tuple[PublicKey, float]:
        if not isinstance(encoded, list) or len(encoded) > certificates.MAX_CHAIN:
            raise InvalidToken("the token's certificate chain is malformed")
        chain = [x509.load_der_x509_certificate(b64decode(each, validate=True)) for each in encoded]
        until = certificates.trusted_until(chain, self.keys.roots, datetime.fromtimestamp(self.clock(), UTC))
        key = chain[0].public_key()
        if until is None or not isinstance(key, PublicKey):
            raise InvalidToken("the token's certificate is not trusted")
        return key, until.timestamp()

    def _check_parties(self, claims: Mapping[str, object]) -> None:
        if claims.get("iss") != self.issuer:
            raise InvalidToken("the token is from another issuer")
        audience = claims.get("aud")
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidToken("the token is for another service")

    def _check_times(self, claims: Mapping[str, object]) -> float:
        now = self.clock()
        expires = _seconds(claims.get("exp")) + LEEWAY
        if expires <= now:
            raise InvalidToken("the token has expired")
        if _seconds(claims.get("nbf", 0)) - LEEWAY > now:
            raise InvalidToken("the token is not valid yet")
        return expires


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidToken("the token's times are malformed")
    return float(value)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A verified token: whose it is, until when, and the stored hash its login rests on."""

    principal: Principal
    expires: float
    user: str | None = None
    stored: bytes | None = None


@dataclass(frozen=True, slots=True)
class TokenMemory:
    """Verified tokens by the hash of their bytes, so that neither crypto is done twice nor a token kept in memory."""

    _tokens: OrderedDict[bytes, Recalled] = field(default_factory=OrderedDict)

    def find(self, token: str) -> Recalled | None:
        """What was remembered, whether or not it has ended."""
        key = _hashed(token)
        found = self._tokens.get(key)
        if found is not None:
            self._tokens.move_to_end(key)
        return found

    def keep(self, token: str, recalled: Recalled) -> None:
        """Remember; what was not asked for longest is forgotten."""
        self._tokens[_hashed(token)] = recalled
        if len(self._tokens) > _REMEMBERED:
            self._tokens.popitem(last=False)


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
