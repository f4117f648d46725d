"""Tokens of an external server, and keys and certificates made by openssl."""

import json
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509 import Certificate, load_pem_x509_certificate
from jwt.api_jws import PyJWS
from tests.support import tools

NOW = 1_700_000_000
ISSUER, SERVICE = "auth.example.com", "registry.example.com"
KINDS = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "p521": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    "ed25519": ["-algorithm", "ED25519"],
}


def openssl(*argv: str | Path, stdin: bytes = b"") -> bytes:
    """What openssl prints."""
    command = [tools.path("openssl"), *map(str, argv)]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


@dataclass(frozen=True)
class Pair:
    """A private key and the file it lies in."""

    file: Path

    @property
    def private(self) -> PrivateKeyTypes:
        return serialization.load_pem_private_key(self.file.read_bytes(), None)

    @property
    def public_pem(self) -> bytes:
        return openssl("pkey", "-in", self.file, "-pubout")

    @property
    def public_der(self) -> bytes:
        return openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")


def make_key(folder: Path, kind: str = "p256", name: str = "key") -> Pair:
    """A new key."""
    file = folder / f"{name}.pem"
    openssl("genpkey", *KINDS[kind], "-out", file)
    return Pair(file)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    file: Path
    key: Pair

    @property
    def certificate(self) -> Certificate:
        return load_pem_x509_certificate(self.file.read_bytes())

    @property
    def x5c(self) -> str:
        """One member of a token's chain."""
        return b64encode(openssl("x509", "-in", self.file, "-outform", "DER")).decode()


def make_certificate(folder: Path, name: str, *, by: Issued | None = None, days: int = 30, **extensions: str) -> Issued:
    """A certificate for a new key, signed by `by` or by itself; `extensions` are openssl's, e.g. keyUsage."""
    key, file = make_key(folder, name=name), folder / f"{name}.crt"
    argv: list[str | Path] = ["req", "-new", "-x509", "-key", key.file, "-subj", f"/CN={name}", "-days", str(days)]
    if by:
        argv += ["-CA", by.file, "-CAkey", by.key.file]
    settings = folder / f"{name}.cnf"
    lines = ["[req]", "distinguished_name=dn", "x509_extensions=v3", "[dn]", "[v3]"]
    settings.write_text("\n".join([*lines, *(f"{each}={value}" for each, value in extensions.items()), ""]))
    openssl(*argv, "-config", settings, "-out", file)
    return Issued(file, key)


def make_authority(folder: Path, name: str, *, by: Issued | None = None, pathlen: str = "") -> Issued:
    """A certificate that may sign others."""
    return make_certificate(folder, name, by=by, basicConstraints="critical,CA:TRUE" + pathlen, keyUsage="keyCertSign")


@dataclass(frozen=True)
class Token:
    """What a token says; a test changes one thing."""

    claims: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)

    def signed(self, key: Any, algorithm: str = "ES256") -> str:
        """`None` as a claim's value leaves it out."""
        claims = {
            "iss": ISSUER,
            "sub": "alice",
            "aud": SERVICE,
            "exp": NOW + 300,
            "nbf": NOW,
            "iat": NOW,
            "jti": "1",
            "access": [{"type": "repository", "name": "team/app", "actions": ["pull"]}],
        } | dict(self.claims)
        payload = json.dumps({name: value for name, value in claims.items() if value is not None}).encode()
        return PyJWS().encode(payload, key, algorithm, headers=dict(self.header))
