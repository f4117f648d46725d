"""From the configuration to the plain values that each room takes."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from stackyard.auth import settings as access
from stackyard.auth.principals import Action
from stackyard.auth.rules import Rule, Subject
from stackyard.config import auth as auth_config
from stackyard.config.access import AccessRule
from stackyard.config.http import Http
from stackyard.config.lifecycle import ImmutableTags, Keep, RetentionRule, TagForm
from stackyard.config.model import Config
from stackyard.config.validation import Indexes
from stackyard.http.answer import Header
from stackyard.http.origin import Origins
from stackyard.metadata import sqlite
from stackyard.metadata.ballast import Ballast
from stackyard.oci import layout
from stackyard.registry import quotas as quotas_
from stackyard.registry import rules, spans
from stackyard.registry.settings import Settings
from stackyard.server.settings import ClientCertificates, Limits, Listen, LocalSocket, ServerSettings, TlsSettings

_CLIENT_CERTIFICATES = {
    "verify-client-cert-if-given": ClientCertificates.VERIFIED_IF_GIVEN,
    "require-and-verify-client-cert": ClientCertificates.REQUIRED,
}


def registry(config: Config, workers: int) -> Settings:
    """What the registry room takes. A limit on the whole server is shared out between its workers."""
    storage, ours = config.storage, config.stackyard
    # What a manifest names itself must always be here; the rules are about foreign URLs and an index's children.
    rules = config.validation.manifests if config.validation.active else None
    return Settings(
        promise=ours.gc.promise,
        undo=ours.gc.undo,
        untagged=ours.gc.untagged or None,
        linger=max(ours.gc.linger, _longest_redirect(config)),
        scrub_rate=ours.scrub.rate,
        scrub_every=ours.scrub.every,
        max_catalog=config.catalog.maxentries,
        max_tags=config.tags.maxtags,
        max_writers=max(1, ours.limits.uploads // workers),
        max_manifest=ours.limits.manifestsize,
        delete_enabled=storage.delete.enabled,
        read_only=storage.maintenance.readonly.enabled,
        reserve=ours.storage.reserve,
        redirect=not storage.redirect.disable,
        sparse_indexes=rules is None or rules.indexes.platforms != "all",
        sparse_platforms=_platforms(rules.indexes) if rules else frozenset(),
        urls_allow=tuple(map(re.compile, rules.urls.allow)) if rules else (),
        urls_deny=tuple(map(re.compile, rules.urls.deny)) if rules else (),
    )


def _longest_redirect(config: Config) -> timedelta:
    """How long a client may still read what it was sent to."""
    redirects = config.storage.objects and not config.storage.redirect.disable
    return config.stackyard.redirect.lifetime if redirects else timedelta()


def policy(config: Config) -> Sequence[tuple[str, Mapping[str, Any], str]]:
    """The rules of the file, as (kind, detail, name): the name is the key where one stands."""
    ours = config.stackyard
    return [
        *_rules(rules.RETENTION, "stackyard.retention.rules", ours.retention.rules),
        *_rules(rules.IMMUTABLE, "stackyard.tags.immutable", ours.tags.immutable),
        *_rules(rules.FORM, "stackyard.tags.forms", ours.tags.forms),
    ]


def quotas(config: Config) -> Sequence[quotas_.Limits]:
    """The quotas of the file. Raises BadRequest for a prefix that no repository's name can begin with."""
    return [quotas_.check(each.prefix, each.bytes, each.repositories) for each in config.stackyard.quotas]


def _rules(
    kind: str, key: str, written: Sequence[RetentionRule | ImmutableTags | TagForm]
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    for number, rule in enumerate(written):
        detail = {name: _json(value) for name, value in rule}
        yield kind, {name: value for name, value in detail.items() if value}, f"{key}[{number}]"


def _json(value: object) -> Any:
    """As `registry.rules.read` takes it: what is not asked for is left out."""
    if isinstance(value, Keep):
        return {name: found for name, one in value if (found := _json(one))}
    if isinstance(value, timedelta):
        return spans.text_of(value) if value else None
    return list(value) if isinstance(value, tuple) else value


def _platforms(indexes: Indexes) -> frozenset[str]:
    listed = indexes.platformlist if indexes.platforms == "list" else ()
    return frozenset(f"{one.os}/{one.architecture}" for one in listed)


def server(config: Config) -> ServerSettings:
    """What the supervisor takes."""
    http, limits = config.http, config.stackyard.limits
    return ServerSettings(
        main=Listen(address=http.addr, unix=http.net == "unix", tls=_tls(http)),
        debug=Listen(address=http.debug.addr, key="http.debug.addr") if http.debug.addr else None,
        # What is in memory is in one process only.
        background=config.storage.inmemory is None,
        local=local_socket(config),
        workers=config.stackyard.workers or (1 if config.storage.inmemory is not None else None),
        limits=Limits(
            header_timeout=limits.headertimeout,
            idle_timeout=limits.idletimeout,
            minimum_rate=limits.minimumrate,
            rate_window=limits.ratewindow,
            header_size=limits.headersize,
        ),
        drain=http.draintimeout,
    )


def local_socket(config: Config) -> LocalSocket | None:
    """Where the running server is administered; None: nowhere."""
    named = config.stackyard.api.socket
    if named == "none":
        return None
    if named:
        return LocalSocket(Path(named).absolute(), required=True)
    if config.storage.filesystem is None:
        return None
    return LocalSocket(Path(config.storage.filesystem.rootdirectory).absolute() / layout.SOCKET)


def _tls(http: Http) -> TlsSettings | None:
    tls = http.tls
    if not tls.certificate:
        return None
    return TlsSettings(
        certificate=Path(tls.certificate),
        key=Path(tls.key),
        minimum=tls.minimumtls.removeprefix("tls"),
        client_authorities=tuple(map(Path, tls.clientcas)),
        client_certificates=_CLIENT_CERTIFICATES[tls.clientauth] if tls.clientcas else ClientCertificates.NONE,
    )


def origins(config: Config) -> Origins:
    """What Locations start with and which proxies are believed."""
    http = config.http
    return Origins(
        host=http.host or None,
        prefix=http.prefix,
        relative=http.relativeurls,
        trusted=tuple(map(ipaddress.ip_network, config.stackyard.trustedproxies)),
    )


def headers(config: Config) -> Sequence[Header]:
    """`http.headers`, as they stand on every answer."""
    return [
        (name.lower().encode("ascii"), value.encode("latin-1"))
        for name, values in config.http.headers.items()
        for value in values
    ]


def authorization(config: Config, cpus: int) -> access.Settings:
    """What the auth room takes."""
    ours = config.stackyard
    return access.Settings(
        provider=_provider(config.auth),
        rules=tuple(map(_rule, ours.access.rules)),
        groups={name: frozenset(users) for name, users in ours.access.groups.items()},
        admins=frozenset(ours.admins),
        issuer=access.IssuerSettings(service=ours.token.service, lifetime=ours.token.lifetime),
        cpus=cpus,
    )


def _provider(
    auth: auth_config.Auth,
) -> access.SillySettings | access.HtpasswdSettings | access.TokenSettings | None:
    if auth.silly:
        return access.SillySettings(auth.silly.realm, auth.silly.service)
    if auth.htpasswd:
        return access.HtpasswdSettings(Path(auth.htpasswd.path), auth.htpasswd.realm)
    if (token := auth.token) is None:
        return None
    return access.TokenSettings(
        realm=token.realm,
        service=token.service,
        issuer=token.issuer,
        root_cert_bundle=Path(token.rootcertbundle) if token.rootcertbundle else None,
        jwks=Path(token.jwks) if token.jwks else None,
        signing_algorithms=frozenset(token.signingalgorithms) or access.ASYMMETRIC,
        autoredirect=token.autoredirect,
        autoredirect_path=token.autoredirectpath,
    )


def _rule(rule: AccessRule) -> Rule:
    return Rule(_subject(rule), rule.repositories, frozenset(map(Action, rule.actions)))


def _subject(rule: AccessRule) -> Subject:
    if rule.user:
        return Subject("user", rule.user)
    if rule.group:
        return Subject("group", rule.group)
    return Subject("authenticated" if rule.authenticated else "anonymous")


def database_url(config: Config) -> str:
    """The configured database, else a SQLite file on the volume, beside the blobs."""
    url = config.stackyard.database.url.get_secret_value()
    if url or config.storage.filesystem is None:
        return url
    return f"sqlite:///{Path(config.storage.filesystem.rootdirectory).absolute() / layout.DATABASE}"


def ballast(config: Config, database_url: str) -> Ballast | None:
    """What the embedded database gives back when the disk is full; None: it is not on a disk of ours."""
    if config.storage.filesystem is None or not database_url.startswith("sqlite:"):
        return None
    return Ballast(sqlite.path_of(database_url), config.stackyard.storage.ballast)


def secrets(config: Config) -> list[Path]:
    """Files that may be readable by root alone."""
    named = [config.http.tls.certificate, config.http.tls.key]
    if config.auth.htpasswd:
        named.append(config.auth.htpasswd.path)
    if config.auth.token:
        named += [config.auth.token.rootcertbundle, config.auth.token.jwks]
    return [Path(name) for name in named if name]
