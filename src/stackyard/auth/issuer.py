"""The token endpoint: who asks proves its name once and gets a token for what it asked and may do.

`GET` with Basic or nothing is the distribution token specification; `POST` with a form is its OAuth 2 variant. No
refresh tokens are given out, so `POST` with one is answered 401: docker prints that, containerd then tries `GET`.

A token of ours names the login it came from by a hash of the stored password hash. Whoever verifies it compares that
with the file, so a token ends with its user or its password; rules are read at each use, so it ends with the right.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.api_jws import PyJWS

from stackyard.auth import scopes
from stackyard.auth.basic import Credentials, credentials
from stackyard.auth.keys import KeyRing
from stackyard.auth.scopes import Scopes
from stackyard.metadata.keys import SigningKey
from stackyard.oci.errors import BadRequest, Unauthorized

ISSUER = "stackyard"
ALGORITHM = "ES256"
MAX_FIELDS = 200
MAX_BODY = 65_536
"""Bytes of a form that `http` should read at most."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to the token endpoint. `parameters` are those of the query or of the form."""

    method: Literal["GET", "POST"]
    parameters: tuple[tuple[str, str], ...]
    authorization: str | None
    address: str

    @classmethod
    def get(cls, query: bytes, *, authorization: str | None, address: str) -> "TokenRequest":
        """From a raw query string. Raises BadRequest when it cannot be read."""
        return cls("GET", _pairs(query), authorization, address)

    @classmethod
    def post(cls, form: bytes, *, authorization: str | None, address: str) -> "TokenRequest":
        """From a body of `application/x-www-form-urlencoded`. Raises BadRequest when it cannot be read."""
        return cls("POST", _pairs(form), authorization, address)

    @property
    def asked(self) -> Scopes:
        """The access asked for. Raises BadRequest when it is more than a token can carry."""
        return scopes.parse(value for name, value in self.parameters if name == "scope")

    def form_credentials(self) -> Credentials:
        """The name and password of a POST.

        Raises:
            Unauthorized: A refresh token instead: none of them is valid.
            BadRequest: Another kind of grant, or none.
        """
        match self._first("grant_type"):
            case "password":
                return credentials(self._first("username"), self._first("password"))
            case "refresh_token":
                raise Unauthorized("refresh tokens are not issued here: log in again with a name and password")
            case _:
                raise BadRequest("grant_type must be password")

    def _first(self, name: str) -> str:
        return next((value for each, value in self.parameters if each == name), "")


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A token and what the client must know about it. It is a secret: not to be cached or logged."""

    token: str
    lifetime: timedelta
    issued_at: datetime
    access: Scopes
    method: Literal["GET", "POST"]

    def __repr__(self) -> str:
        """Without the token."""
        return f"TokenAnswer(access={str(self.access)!r})"

    def body(self) -> bytes:
        """The JSON answer. `token` and `access_token` are the same: clients read one or the other."""
        content: dict[str, object] = {
            "token": self.token,
            "access_token": self.token,
            "expires_in": int(self.lifetime.total_seconds()),
            "issued_at": self.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if self.method == "POST":
            content["scope"] = str(self.access)
        return json.dumps(content).encode()


class Issuer:
    """Signs tokens with the key that all workers share."""

    def __init__(
        self, key: SigningKey, *, service: str, lifetime: timedelta, clock: Callable[[], float] = time.time
    ) -> None:
        """`service` is the tokens' audience; `lifetime` counts from `clock`, seconds since the epoch."""
        private = serialization.load_pem_private_key(key.private_pem.encode(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        self.ring = KeyRing({key.kid: private.public_key()})
        self.service = service
        self.lifetime = lifetime
        self._clock = clock
        self._kid = key.kid
        self._private = private
        self._jws = PyJWS()

    def issue(self, request: TokenRequest, *, subject: str, login: str | None, access: Scopes) -> TokenAnswer:
        """Sign a token for `access`. `login` marks the stored hash the caller proved to know."""
        now = int(self._clock())
        claims: dict[str, object] = {
            "iss": ISSUER,
            "sub": subject,
            "aud": self.service,
            "iat": now,
            "nbf": now,
            "exp": now + int(self.lifetime.total_seconds()),
            "jti": secrets.token_urlsafe(16),
            "access": access.claim(),
        }
        if login is not None:
            claims["login"] = login
        payload = json.dumps(claims, separators=(",", ":")).encode()
        token = self._jws.encode(payload, self._private, ALGORITHM, headers={"kid": self._kid})
        return TokenAnswer(token, self.lifetime, datetime.fromtimestamp(now, UTC), access, request.method)


def mark(user: str, stored: bytes) -> str:
    """Names a login without telling its hash: 128 bits of SHA-256 over the user and the stored hash."""
    digest = hashlib.sha256(b"stackyard login\0" + user.encode() + b"\0" + stored).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def _pairs(encoded: bytes) -> tuple[tuple[str, str], ...]:
    if len(encoded) > MAX_BODY:
        raise BadRequest("the token request is too long")
    try:
        pairs = parse_qsl(encoded.decode("ascii"), errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadRequest("the token request cannot be read") from None
    return tuple(pairs)
