"""What an administrator may choose about access, as plain values. The composition root fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from stackyard.auth.rules import Rule

# Signatures whose verifying key is public. HS* would make every holder of that key an issuer.
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}
)  # RFC 7518, 3.1; RFC 8037, 3.1


@dataclass(frozen=True, slots=True)
class SillySettings:
    """`auth.silly`: whoever sends any Authorization header is let in. For development."""

    realm: str
    service: str


@dataclass(frozen=True, slots=True)
class HtpasswdSettings:
    """`auth.htpasswd`."""

    path: Path
    realm: str = "Registry"


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """`auth.token`: another server issues the tokens, we verify them."""

    realm: str
    service: str
    issuer: str
    root_cert_bundle: Path | None = None
    jwks: Path | None = None
    signing_algorithms: frozenset[str] = ASYMMETRIC
    autoredirect: bool = False
    """Whether the realm is `autoredirect_path` at the host the client called, instead of `realm`."""
    autoredirect_path: str = "/auth/token"

    def __post_init__(self) -> None:
        """Raises ValueError when no token could be verified, or anybody could forge one."""
        if unsafe := sorted(self.signing_algorithms - ASYMMETRIC):
            raise ValueError(f"signing algorithms that cannot be accepted: {', '.join(unsafe)}")
        if not self.signing_algorithms:
            raise ValueError("no signing algorithm is allowed")
        if self.root_cert_bundle is None and self.jwks is None:
            raise ValueError("rootcertbundle or jwks is needed to verify tokens")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """The tokens we issue ourselves when rules are on."""

    service: str = "stackyard"
    lifetime: timedelta = timedelta(hours=1)
    """How long a token is valid. Long enough for one layer over a slow line, because clients fail when a token ends
    between the bytes and the request that closes the upload; it may be long, because a token stops working at once
    when its user is removed, changes the password or loses the right."""

    def __post_init__(self) -> None:
        """Raises ValueError below 60 seconds, which clients take for the least a token lives."""
        if self.lifetime < timedelta(seconds=60):
            raise ValueError("a token must live for 60 seconds at least")


@dataclass(frozen=True, slots=True)
class Settings:
    """At most one provider; rules make us the issuer of tokens."""

    provider: SillySettings | HtpasswdSettings | TokenSettings | None = None
    rules: tuple[Rule, ...] = ()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Group name to user names."""
    admins: frozenset[str] = frozenset()
    """Names of the users who may everything."""
    issuer: IssuerSettings = IssuerSettings()
    cpus: int = 2
    """CPUs this process may count on; password checks use half of them, and one at least."""

    def __post_init__(self) -> None:
        """Raises ValueError for rules beside a provider that cannot name our users."""
        if self.rules and isinstance(self.provider, SillySettings | TokenSettings):
            raise ValueError("rules need auth.htpasswd, or no auth at all: with auth.token the token decides")
