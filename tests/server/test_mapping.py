"""What the rooms are told, from what the operator wrote."""

from datetime import timedelta
from pathlib import Path

import pytest

from stackyard.auth.principals import Action
from stackyard.auth.settings import HtpasswdSettings, TokenSettings
from stackyard.config.load import load
from stackyard.config.model import Config
from stackyard.server import mapping
from stackyard.server.settings import ClientCertificates


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yml"


def read(file: Path, text: str) -> Config:
    file.write_text(f"version: 0.1\n{text}\n")
    return load(str(file), {}).config


LISTED = "platformlist: [{os: linux, architecture: amd64}]"


@pytest.mark.parametrize(
    ("text", "sparse", "platforms", "urls"),
    [
        ("{}", False, set(), False),
        ("{manifests: {urls: {allow: [^https]}}}", False, set(), True),
        (f"{{manifests: {{indexes: {{platforms: list, {LISTED}}}}}}}", True, {"linux/amd64"}, False),
        (f"{{manifests: {{indexes: {{platforms: none, {LISTED}}}}}}}", True, set(), False),
        (
            f"{{disabled: true, manifests: {{urls: {{allow: [x]}}, indexes: {{platforms: list, {LISTED}}}}}}}",
            True,
            set(),
            False,
        ),
        ("{disabled: true, enabled: true, manifests: {urls: {deny: [y]}}}", False, set(), True),
    ],
)
def test_validation_is_about_foreign_urls_and_the_children_of_an_index(
    file: Path, text: str, sparse: bool, platforms: set[str], urls: bool
) -> None:
    settings = mapping.registry(read(file, f"validation: {text}"), workers=1)

    assert settings.sparse_indexes is sparse
    assert set(settings.sparse_platforms) == platforms
    assert bool(settings.urls_allow or settings.urls_deny) is urls


def test_limits_of_the_registry_reach_it(file: Path) -> None:
    config = read(
        file,
        "storage: {delete: {enabled: true}, redirect: {disable: true}, maintenance: {readonly: {enabled: true}}}\n"
        "catalog: {maxentries: 7}\ntags: {maxtags: 8}\n"
        "stackyard: {limits: {manifestsize: 1MiB, uploads: 10}, gc: {promise: 2h, undo: 1h}}",
    )

    settings = mapping.registry(config, workers=4)

    assert (settings.delete_enabled, settings.read_only, settings.redirect) == (True, True, False)
    assert (settings.max_catalog, settings.max_tags, settings.max_manifest) == (7, 8, 2**20)
    assert settings.max_writers == 2
    assert (settings.promise, settings.undo) == (timedelta(hours=2), timedelta(hours=1))


def test_limits_of_the_server_reach_it(file: Path) -> None:
    config = read(
        file,
        "http: {addr: ':1', draintimeout: 9s, debug: {addr: ':2'}}\n"
        "stackyard: {workers: 3, limits: {headertimeout: 2s, idletimeout: 3s, minimumrate: 4, ratewindow: 5s,"
        " headersize: 6KiB}}",
    )

    settings = mapping.server(config)

    assert settings.debug is not None
    assert (settings.main.address, settings.debug.address, settings.debug.key) == (":1", ":2", "http.debug.addr")
    assert (settings.workers, settings.drain) == (3, timedelta(seconds=9))
    limits = settings.limits
    assert (limits.header_timeout, limits.idle_timeout) == (timedelta(seconds=2), timedelta(seconds=3))
    assert (limits.minimum_rate, limits.rate_window, limits.header_size) == (4, timedelta(seconds=5), 6 * 1024)


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ("", ClientCertificates.NONE),
        (", clientcas: [/ca]", ClientCertificates.REQUIRED),
        (", clientcas: [/ca], clientauth: verify-client-cert-if-given", ClientCertificates.VERIFIED_IF_GIVEN),
    ],
)
def test_client_certificates_are_asked_for_where_authorities_are_named(
    file: Path, more: str, asked: ClientCertificates
) -> None:
    tls = mapping.server(read(file, f"http: {{tls: {{certificate: /c, key: /k, minimumtls: tls1.3{more}}}}}")).main.tls

    assert tls is not None
    assert (tls.certificate, tls.key, tls.minimum) == (Path("/c"), Path("/k"), "1.3")
    assert tls.client_certificates is asked


def test_every_file_that_may_be_closed_to_others_is_a_secret(file: Path) -> None:
    config = read(
        file,
        "http: {tls: {certificate: /c, key: /k}}\n"
        "auth: {token: {realm: r, service: s, issuer: i, rootcertbundle: /b, jwks: /j}}",
    )

    assert mapping.secrets(config) == [Path(name) for name in ("/c", "/k", "/b", "/j")]
    assert mapping.secrets(read(file, "auth: {htpasswd: {realm: r, path: /h}}")) == [Path("/h")]


def test_way_to_log_in_and_the_rules_reach_the_room_of_access(file: Path) -> None:
    config = read(
        file,
        "auth: {htpasswd: {realm: r, path: /h}}\n"
        "stackyard:\n  admins: [root]\n  token: {service: hub, lifetime: 5m}\n  access:\n    groups: {devs: [bob]}\n"
        "    rules:\n"
        "      - {anonymous: true, repositories: 'a/**', actions: [pull]}\n"
        "      - {authenticated: true, repositories: b, actions: [push]}\n"
        "      - {group: devs, repositories: c, actions: []}\n"
        "      - {user: bob, repositories: d, actions: [delete]}",
    )

    settings = mapping.authorization(config, cpus=3)

    assert settings.provider == HtpasswdSettings(Path("/h"), "r")
    assert [(rule.subject.kind, rule.subject.name, rule.glob) for rule in settings.rules] == [
        ("anonymous", "", "a/**"),
        ("authenticated", "", "b"),
        ("group", "devs", "c"),
        ("user", "bob", "d"),
    ]
    assert [rule.actions for rule in settings.rules] == [
        frozenset(actions) for actions in ({Action.PULL}, {Action.PUSH}, (), {Action.DELETE})
    ]
    assert settings.admins == frozenset({"root"})
    assert settings.groups == {"devs": frozenset({"bob"})}
    assert settings.cpus == 3
    assert (settings.issuer.service, settings.issuer.lifetime) == ("hub", timedelta(minutes=5))


def test_token_server_reaches_the_room_of_access(file: Path) -> None:
    text = "realm: r, service: s, issuer: i, jwks: /j, signingalgorithms: [ES256], autoredirect: true"

    provider = mapping.authorization(read(file, f"auth: {{token: {{{text}}}}}"), cpus=1).provider

    assert isinstance(provider, TokenSettings)
    assert (provider.realm, provider.service, provider.issuer) == ("r", "s", "i")
    assert (provider.jwks, provider.root_cert_bundle) == (Path("/j"), None)
    assert provider.signing_algorithms == frozenset({"ES256"})
    assert provider.autoredirect


def test_headers_and_origins_are_those_of_the_file(file: Path) -> None:
    config = read(
        file,
        "http: {host: 'https://hub.example.com/', prefix: /my/hub/, relativeurls: true, headers: {X-A: [b, c]}}\n"
        "stackyard: {trustedproxies: [192.0.2.1]}",
    )

    origins = mapping.origins(config)

    assert mapping.headers(config) == [(b"x-a", b"b"), (b"x-a", b"c")]
    assert (origins.host, origins.prefix, origins.relative) == ("https://hub.example.com", "/my/hub", True)
    assert [str(network) for network in origins.trusted] == ["192.0.2.1/32"]


def test_rules_about_tags_become_what_the_api_would_be_sent(file: Path) -> None:
    config = read(
        file,
        "stackyard:\n  retention: {rules: [{repositories: team/**, keep: {last: 10, pulled: 30d, matching: v*}}]}\n"
        "  tags: {immutable: [{repositories: a, tags: v*}], forms: [{repositories: a, pattern: v*, excluding: x}]}",
    )

    assert mapping.policy(config) == [
        (
            "retention",
            {"repositories": "team/**", "tags": ["*"], "keep": {"last": 10, "pulled": "30d", "matching": ["v*"]}},
            "stackyard.retention.rules[0]",
        ),
        ("immutable", {"repositories": "a", "tags": ["v*"]}, "stackyard.tags.immutable[0]"),
        ("form", {"repositories": "a", "pattern": "v*", "excluding": ["x"]}, "stackyard.tags.forms[0]"),
    ]
