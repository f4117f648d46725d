"""From settings to a working `Access`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from stackyard.auth import challenges, keys
from stackyard.auth.access import Access, Challenge
from stackyard.auth.basic import Logins
from stackyard.auth.bearers import Bearers
from stackyard.auth.challenges import Needed
from stackyard.auth.errors import KeysUnusable
from stackyard.auth.htpasswd import HtpasswdFile, Read
from stackyard.auth.issuer import ALGORITHM, ISSUER, Issuer
from stackyard.auth.keys import KeyRing
from stackyard.auth.policies import Carried, Open, Ruled, Users
from stackyard.auth.principals import ANONYMOUS, Kind, Principal
from stackyard.auth.rules import Rules
from stackyard.auth.settings import HtpasswdSettings, Settings, SillySettings, TokenSettings
from stackyard.auth.slots import Slots
from stackyard.auth.tokens import Verifier
from stackyard.metadata.keys import SigningKey

TOKEN_PATH = "/auth/token"  # noqa: S105  # a path, not a secret
_log = structlog.get_logger("auth")


def open_access(
    settings: Settings,
    *,
    signing_key: SigningKey | None = None,
    slots: Slots | None = None,
    read: Read = Path.read_bytes,
) -> Access:
    """Read the files the settings name and decide how access works.

    Args:
        settings: What the administrator chose.
        signing_key: Signs our own tokens. Every worker of every node must be given the same; without one, a key of
            this process is made, which is enough for a single worker.
        slots: Bounds password checks over all workers; without, only over this process.
        read: How to read a file; after the process gave its rights away, it may need help.

    Raises:
        AccessUnusable: A file cannot be used.
    """
    provider = settings.provider
    if isinstance(provider, SillySettings):
        return _silly(provider)
    if isinstance(provider, TokenSettings):
        return _external(provider, settings.admins, read)
    logins = _logins(provider, settings, slots, read) if provider else None
    if settings.rules:
        return _issuing(settings, logins, signing_key or keys.make_signing_key())
    if logins is None or provider is None:
        return Access(Open(), anybody=ANONYMOUS)  # no header is looked at, so nobody can be an admin
    realm = provider.realm
    return Access(
        Users(),
        ask=lambda _base, _needed, _error: challenges.basic(realm),
        logins=logins,
        admins=settings.admins,
        reloads=(logins.file.reread,),
    )


def _silly(provider: SillySettings) -> Access:
    ask = _bearer(lambda _: provider.realm, provider.service)
    return Access(Users(), ask=ask, anybody=Principal(Kind.USER, "silly"))


def _logins(provider: HtpasswdSettings, settings: Settings, slots: Slots | None, read: Read) -> Logins:
    file = HtpasswdFile(provider.path, read=read)
    return Logins(file, groups=settings.groups, slots=slots or Slots.for_cores(settings.cpus))


def _issuing(settings: Settings, logins: Logins | None, key: SigningKey) -> Access:
    issuer = Issuer(key, service=settings.issuer.service, lifetime=settings.issuer.lifetime)
    verifier = Verifier(issuer.ring, ISSUER, issuer.service, frozenset({ALGORITHM}))
    return Access(
        Ruled(Rules(settings.rules)),
        ask=_bearer(lambda base: base + TOKEN_PATH, issuer.service),
        logins=logins,
        bearers=Bearers(verifier, owned=True, logins=logins),
        issuer=issuer,
        admins=settings.admins,
        reloads=(logins.file.reread,) if logins else (),
    )


def _external(provider: TokenSettings, admins: frozenset[str], read: Read) -> Access:
    verifier = Verifier(read_keys(provider, read), provider.issuer, provider.service, provider.signing_algorithms)
    bearers = Bearers(verifier, owned=False)

    def reread() -> None:
        try:
            bearers.replace(replace(verifier, keys=read_keys(provider, read)))
        except KeysUnusable as problem:
            _log.error("the former token keys stay in use", reason=str(problem))

    path = provider.autoredirect_path
    ask = _bearer(lambda base: base + path if provider.autoredirect else provider.realm, provider.service)
    return Access(Carried(), ask=ask, bearers=bearers, admins=admins, reloads=(reread,))


def read_keys(provider: TokenSettings, read: Read) -> KeyRing:
    """All keys and certificates the settings name. Raises KeysUnusable."""
    ring = KeyRing()
    for path, parse in ((provider.root_cert_bundle, keys.from_pem), (provider.jwks, keys.from_jwks)):
        if path:
            ring |= _keys_of(path, read, parse)
    return ring


def _keys_of(path: Path, read: Read, parse: Callable[[bytes], KeyRing]) -> KeyRing:
    try:
        return parse(read(path))
    except OSError as problem:
        raise KeysUnusable(f"the file of token keys {path} cannot be read: {problem.strerror}") from problem
    except KeysUnusable as problem:
        raise KeysUnusable(f"the file of token keys {path} cannot be used: {problem}") from problem


def _bearer(realm: Callable[[str], str], service: str) -> Challenge:
    def ask(base: str, needed: Needed, error: str | None) -> str:
        return challenges.bearer(realm=realm(base), service=service, needed=needed, error=error)

    return ask
