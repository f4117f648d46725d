"""`auth`: who must log in, and who says so. At most one way is set; none at all lets everybody do everything."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo, field_validator, model_validator

from stackyard.config.section import MANY, Section, advise, option

Algorithm = Literal[
    "EdDSA",
    "HS256", "HS384", "HS512",
    "RS256", "RS384", "RS512",
    "ES256", "ES384", "ES512",
    "PS256", "PS384", "PS512",
]  # fmt: skip


def _quotable(text: str) -> str:
    """It stands between quotes in the WWW-Authenticate header."""
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError('may hold neither quotes (") nor backslashes nor control characters')
    return text


Quoted = Annotated[str, AfterValidator(_quotable)]


class Nobody(Section):
    """`auth.none`: nobody logs in and everybody may do everything."""


class Silly(Section):
    """`auth.silly`."""

    realm: Quoted = option(meaning="The realm of the challenge.")
    service: Quoted = option(meaning="The service of the challenge.")


class Htpasswd(Section):
    """`auth.htpasswd`."""

    realm: Quoted = option(meaning="The realm shown when a client must log in.")
    path: str = option(meaning="The file of users with bcrypt passwords (`htpasswd -B`).")


class Token(Section):
    """`auth.token`: an external server issues the tokens, we verify them."""

    realm: Quoted = option("", "The address of the token server, sent to clients. Needed unless autoredirect is on.")
    service: Quoted = option(meaning="Our name: the audience of the tokens.")
    issuer: str = option(meaning="The issuer the tokens must name.")
    rootcertbundle: str = option("", "A PEM file of certificates whose keys sign the tokens.")
    jwks: str = option("", "A JSON Web Key Set file with keys that sign the tokens.")
    signingalgorithms: Annotated[tuple[Algorithm, ...], MANY] = option(
        (), "The signature algorithms accepted; empty: every asymmetric one that fits the key."
    )
    autoredirect: bool = option(False, "Send clients to autoredirectpath on the host they asked, instead of to realm.")
    autoredirectpath: str = option("/auth/token", "The path of the token server on our host.", pattern="^/")

    @field_validator("signingalgorithms")
    @classmethod
    def _asymmetric(cls, given: tuple[Algorithm, ...], info: ValidationInfo) -> tuple[Algorithm, ...]:
        """With HS* whoever can verify a token can make one."""
        kept = tuple(name for name in given if not name.startswith("HS"))
        if given and not kept:
            raise ValueError("names only HS algorithms, which are not accepted; use an asymmetric one such as ES256")
        if kept != given:
            advise(info, "auth.token.signingalgorithms: HS algorithms are not accepted; the others are used")
        return kept

    @model_validator(mode="after")
    def _complete(self) -> "Token":
        if not self.realm and not self.autoredirect:
            raise ValueError(".realm: is missing; give the address of the token server")
        if not self.rootcertbundle and not self.jwks:
            raise ValueError(
                ".rootcertbundle: is missing, and jwks too; one of them must name the keys that sign the tokens"
            )
        if "://" in self.jwks:
            raise ValueError(".jwks: must be a file; download the key set and name the file here")
        return self


class Auth(Section):
    """`auth`."""

    none: Nobody | None = option(None, "Nobody logs in. The default.")
    silly: Silly | None = option(None, "Any Authorization header is let in; for development only.")
    htpasswd: Htpasswd | None = option(None, "Users and passwords from a file.")
    token: Token | None = option(None, "Tokens of an external token server.")

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, given: object) -> object:
        """Two would leave open which one protects the registry."""
        ways = [way for way in cls.model_fields if given.get(way) is not None] if isinstance(given, dict) else []
        if len(ways) > 1:
            raise ValueError(f"has {', '.join(ways)}; keep exactly one (REGISTRY_AUTH=<way> replaces the section)")
        return given
