"""What the honoured keys mean, section by section."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.config.conftest import LoadText

from stackyard.config.http import split_address

Refusals = Callable[..., list[str]]


def test_log_is_honoured(loaded: LoadText) -> None:
    text = "log: {level: WARN, formatter: logstash, fields: {service: hub, shard: 3}, accesslog: {disabled: true}}"

    log = loaded(text).config.log

    assert (log.level, log.formatter, log.accesslog.disabled) == ("warn", "logstash", True)
    assert log.fields == {"service": "hub", "shard": "3"}


@pytest.mark.parametrize(
    ("text", "level"),
    [("loglevel: error", "error"), ("loglevel: error\nlog: {level: debug}", "debug"), ("loglevel:", "info")],
)
def test_loglevel_is_an_old_name_that_the_new_one_overrules(loaded: LoadText, text: str, level: str) -> None:
    assert loaded(text).config.log.level == level


def test_maxthreads_below_the_least_is_raised_and_says_so(loaded: LoadText) -> None:
    result = loaded("storage: {filesystem: {maxthreads: 10}}")

    assert result.config.storage.filesystem is not None
    assert result.config.storage.filesystem.maxthreads == 25
    assert result.warnings == ("storage.filesystem.maxthreads: 10 is below 25; 25 is used",)


@pytest.mark.parametrize("threads", ["many", "-1", "1.5", "99999999"])
def test_maxthreads_that_makes_no_sense_is_refused(refusals: Refusals, threads: str) -> None:
    assert refusals(f"storage: {{filesystem: {{maxthreads: {threads}}}}}")[0].startswith(
        "storage.filesystem.maxthreads: "
    )


@pytest.mark.parametrize("text", ["storage: inmemory", "storage: {inmemory: }", "storage: {inmemory: {}}"])
def test_driver_may_be_a_word_or_a_map(loaded: LoadText, text: str) -> None:
    storage = loaded(text).config.storage

    assert storage.inmemory is not None
    assert storage.filesystem is None


def test_two_drivers_are_refused(refusals: Refusals) -> None:
    (problem,) = refusals("storage: {inmemory: {}, filesystem: {}}")

    assert problem.startswith("storage: has two drivers")


def test_uploadpurging_may_be_partial(loaded: LoadText) -> None:
    purging = loaded("storage: {maintenance: {uploadpurging: {age: 24h}}}").config.storage.maintenance.uploadpurging

    assert (purging.enabled, purging.dryrun) == (True, False)
    assert (purging.age, purging.interval) == (timedelta(days=1), timedelta(days=1))


def test_readonly_delete_and_redirect_are_honoured(loaded: LoadText) -> None:
    text = "storage: {delete: {enabled: true}, redirect: {disable: true}, maintenance: {readonly: {enabled: yes}}}"

    storage = loaded(text).config.storage

    assert storage.delete.enabled
    assert storage.redirect.disable
    assert storage.maintenance.readonly.enabled
    assert storage.filesystem is not None


@pytest.mark.parametrize("text", ["", "auth: none", "auth: {none: }", "auth: {}"])
def test_no_auth_is_no_auth_however_it_is_said(loaded: LoadText, text: str) -> None:
    auth = loaded(text).config.auth

    assert [auth.htpasswd, auth.token, auth.silly] == [None, None, None]


def test_htpasswd_needs_realm_and_path(loaded: LoadText, refusals: Refusals) -> None:
    htpasswd = loaded("auth: {htpasswd: {realm: Registry Realm, path: /auth/htpasswd}}").config.auth.htpasswd

    assert htpasswd is not None
    assert (htpasswd.realm, htpasswd.path) == ("Registry Realm", "/auth/htpasswd")
    assert refusals("auth: htpasswd") == ["auth.htpasswd.realm: is missing", "auth.htpasswd.path: is missing"]
    assert refusals("auth: {htpasswd: {realm: '', path: x}}") == ["auth.htpasswd.realm: is missing"]


def test_two_ways_to_log_in_are_refused(refusals: Refusals) -> None:
    (problem,) = refusals("auth: {silly: {realm: a, service: b}, htpasswd: {realm: a, path: b}}")

    assert problem.startswith("auth: has silly, htpasswd; keep exactly one")


@pytest.mark.parametrize("text", ["auth: {htpaswd: {realm: a, path: b}}", "auth: ldap", "auth: {Htpasswd: {}}"])
def test_unknown_way_to_log_in_never_means_no_login(refusals: Refusals, text: str) -> None:
    assert "unknown key" in refusals(text)[0]


@pytest.mark.parametrize("text", ["storage: {filesytem: {}}", "storage: ceph", "storage: {rootdirectory: /data}"])
def test_unknown_driver_never_means_the_default_folder(refusals: Refusals, text: str) -> None:
    assert "unknown key" in refusals(text)[0]


def test_realm_with_a_quote_is_refused(refusals: Refusals) -> None:
    problems = refusals("auth: {htpasswd: {realm: 'a\"b', path: x}}")

    assert problems[0].startswith("auth.htpasswd.realm: may hold neither quotes")


def test_token_of_the_second_dialect_is_honoured(loaded: LoadText) -> None:
    text = (
        "auth: {token: {realm: 'https://auth/token', service: s, issuer: i, rootcertbundle: /b.pem, autoredirect: on}}"
    )

    token = loaded(text).config.auth.token

    assert token is not None
    assert (token.realm, token.service, token.issuer) == ("https://auth/token", "s", "i")
    assert (token.rootcertbundle, token.jwks, token.autoredirect) == ("/b.pem", "", True)
    assert token.autoredirectpath == "/auth/token"
    assert token.signingalgorithms == ()


def test_token_of_the_third_dialect_is_honoured(loaded: LoadText) -> None:
    result = loaded(
        "auth:\n  token:\n    realm: r\n    service: s\n    issuer: i\n    jwks: /keys.json\n"
        "    signingalgorithms: [EdDSA, HS256, ES256]\n    autoredirectpath: /other/"
    )

    token = result.config.auth.token
    assert token is not None
    assert (token.jwks, token.autoredirectpath) == ("/keys.json", "/other/")
    assert token.signingalgorithms == ("EdDSA", "ES256")
    assert result.warnings == ("auth.token.signingalgorithms: HS algorithms are not accepted; the others are used",)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("{service: s, issuer: i, jwks: k}", "auth.token.realm: is missing"),
        ("{realm: r, service: s, issuer: i}", "auth.token.rootcertbundle: is missing"),
        ("{realm: r, jwks: k}", "auth.token.service: is missing"),
        ("{realm: r, service: s, issuer: i, jwks: 'https://x/k'}", "auth.token.jwks: must be a file"),
        (
            "{realm: r, service: s, issuer: i, jwks: k, signingalgorithms: [HS256]}",
            "auth.token.signingalgorithms: names",
        ),
        ("{realm: r, service: s, issuer: i, jwks: k, signingalgorithms: none}", "auth.token.signingalgorithms[0]: "),
        ("{realm: r, service: s, issuer: i, jwks: k, autoredirectpath: x}", "auth.token.autoredirectpath: "),
    ],
)
def test_incomplete_token_settings_say_what_is_missing(refusals: Refusals, keys: str, problem: str) -> None:
    assert refusals(f"auth: {{token: {keys}}}")[0].startswith(problem)


def test_http_is_honoured(loaded: LoadText) -> None:
    http = loaded(
        "http:\n  addr: localhost:5000\n  net: tcp\n  prefix: /my/nested/registry/\n  host: https://r.example.com:5000\n"
        "  secret: s\n  relativeurls: true\n  draintimeout: 60s\n  debug: {addr: 'localhost:5001'}\n"
        "  headers: {X-Content-Type-Options: [nosniff], X-One: single}"
    ).config.http

    assert (http.addr, http.net, http.prefix) == ("localhost:5000", "tcp", "/my/nested/registry")
    assert (http.host, http.relativeurls) == ("https://r.example.com:5000", True)
    assert http.draintimeout == timedelta(minutes=1)
    assert http.secret.get_secret_value() == "s"
    assert http.debug.addr == "localhost:5001"
    assert http.headers == {"X-Content-Type-Options": ("nosniff",), "X-One": ("single",)}


def test_unix_socket_takes_a_path(loaded: LoadText, refusals: Refusals) -> None:
    assert loaded("http: {net: unix, addr: /run/registry.sock}").config.http.addr == "/run/registry.sock"
    assert refusals("http: {addr: /run/registry.sock}")[0].startswith(
        "http.addr: '/run/registry.sock' is not host:port"
    )


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        (":5000", "", 5000),
        ("localhost:80", "localhost", 80),
        ("[::1]:5000", "::1", 5000),
        ("0.0.0.0:0", "0.0.0.0", 0),
        (":https", "", 443),
    ],
)
def test_address_is_split_as_go_splits_it(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)


@pytest.mark.parametrize("address", ["", "5000", "::1:5000", "[::1]", ":65536", ":-1", "a:b", "[a:1", ":٣"])
def test_what_is_no_address_is_a_value_error(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(address)


@pytest.mark.parametrize(("prefix", "kept"), [("/", ""), ("a/b", "/a/b"), ("/a/b/", "/a/b"), ("/a", "/a")])
def test_prefix_is_kept_without_its_last_slash(loaded: LoadText, prefix: str, kept: str) -> None:
    assert loaded(f"http: {{prefix: {prefix}}}").config.http.prefix == kept


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ("{host: registry.example.com}", "http.host: is not an absolute address"),
        ("{host: 'https://user:pw@x'}", "http.host: may hold no"),
        ("{prefix: '/a b/'}", "http.prefix: is not a path"),
        ("{prefix: '//a//b'}", "http.prefix: is not a path"),
        ("{net: udp}", "http.net: 'udp' is none of"),
        ("{draintimeout: soon}", "http.draintimeout: is not a duration"),
        ("{draintimeout: -1s}", "http.draintimeout: is negative"),
        ("{headers: {'X Y': [a]}}", "http.headers: has a name"),
        ('{headers: {X: ["a\\r\\nSet-Cookie: b"]}}', "http.headers: X has a value"),
        ("{debug: {addr: 5001}}", "http.debug.addr: '5001' is not host:port"),
        ("{relativeurls: sometimes}", "http.relativeurls: 'sometimes' is neither true nor false"),
    ],
)
def test_what_http_cannot_be_is_said_by_key(refusals: Refusals, http: str, problem: str) -> None:
    assert refusals(f"http: {http}")[0].startswith(problem)


def test_tls_is_honoured(loaded: LoadText) -> None:
    tls = loaded(
        "http: {tls: {certificate: /c, key: /k, clientcas: [/a, /b], "
        "clientauth: Verify-Client-Cert-If-Given, minimumtls: tls1.3}}"
    ).config.http.tls

    assert (tls.certificate, tls.key, tls.clientcas) == ("/c", "/k", ("/a", "/b"))
    assert (tls.clientauth, tls.minimumtls) == ("verify-client-cert-if-given", "tls1.3")


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ("{certificate: c}", "http.tls.key: is missing"),
        ("{key: k}", "http.tls.certificate: is missing"),
        ("{clientcas: [a]}", "http.tls.clientcas: without a certificate"),
        ("{certificate: c, key: k, minimumtls: tls1.0}", "http.tls.minimumtls: 'tls1.0' is none of"),
        ("{certificate: c, key: k, clientauth: sometimes}", "http.tls.clientauth: 'sometimes' is none of"),
        (
            "{certificate: c, key: k, clientcas: a, clientauth: request-client-cert}",
            "http.tls.clientauth: request-client",
        ),
        (
            "{certificate: c, key: k, clientcas: a, clientauth: require-any-client-cert}",
            "http.tls.clientauth: require-any-client-cert takes certificates unverified",
        ),
    ],
)
def test_what_tls_cannot_be_is_said_by_key(refusals: Refusals, tls: str, problem: str) -> None:
    assert refusals(f"http: {{tls: {tls}}}")[0].startswith(problem)


def test_clientauth_without_clientcas_asks_nobody_and_is_let_be(loaded: LoadText) -> None:
    tls = loaded("http: {tls: {certificate: c, key: k, clientauth: request-client-cert}}").config.http.tls

    assert tls.clientcas == ()


def test_validation_is_honoured(loaded: LoadText) -> None:
    manifests = loaded(
        "validation: {manifests: {urls: {allow: ['^https://a/'], deny: ^b}, "
        "indexes: {platforms: List, platformlist: [{os: linux, architecture: amd64}]}}}"
    ).config.validation.manifests

    assert (manifests.urls.allow, manifests.urls.deny) == (("^https://a/",), ("^b",))
    assert manifests.indexes.platforms == "list"
    assert [(one.os, one.architecture) for one in manifests.indexes.platformlist] == [("linux", "amd64")]


@pytest.mark.parametrize(
    ("text", "active"),
    [
        ("", True),
        ("validation: {disabled: true}", False),
        ("validation: {enabled: false}", True),
        ("validation: {enabled: true, disabled: true}", True),
    ],
)
def test_validation_is_on_unless_disabled(loaded: LoadText, text: str, *, active: bool) -> None:
    assert loaded(text).config.validation.active is active


@pytest.mark.parametrize(
    ("manifests", "problem"),
    [
        ("{urls: {allow: ['(']}}", "validation.manifests.urls.allow[0]: '(' is not a regular expression"),
        ("{urls: {deny: '^[[:alpha:]]'}}", "validation.manifests.urls.deny[0]: '^[[:alpha:]]' is not a regular"),
        ("{indexes: {platforms: list}}", "validation.manifests.indexes.platformlist: is empty"),
        ("{indexes: {platforms: some}}", "validation.manifests.indexes.platforms: 'some' is none of"),
        (
            "{indexes: {platformlist: [{os: a}]}}",
            "validation.manifests.indexes.platformlist[0].architecture: is missing",
        ),
    ],
)
def test_what_validation_cannot_be_is_said_by_key(refusals: Refusals, manifests: str, problem: str) -> None:
    assert refusals(f"validation: {{manifests: {manifests}}}")[0].startswith(problem)


@pytest.mark.parametrize(("given", "kept"), [("5", 5), ("0", 1000), ("-3", 1000)])
def test_page_sizes_are_honoured_and_nothing_means_a_thousand(loaded: LoadText, given: str, kept: int) -> None:
    config = loaded(f"catalog: {{maxentries: {given}}}\ntags: {{maxtags: {given}}}").config

    assert config.catalog.maxentries == config.tags.maxtags == kept


def test_health_is_honoured(loaded: LoadText) -> None:
    health = loaded(
        "health:\n  storagedriver: {enabled: true, interval: 5s, threshold: 2}\n  file: [{file: /down}]\n"
        "  http: [{uri: 'http://x/', headers: {Authorization: [Basic eA==]}, statuscode: 204, timeout: 3s}]\n"
        "  tcp: [{addr: 'redis:6379', timeout: 0, threshold: 4}]"
    ).config.health

    assert (health.storagedriver.interval, health.storagedriver.threshold) == (timedelta(seconds=5), 2)
    assert (health.file[0].file, health.file[0].interval) == ("/down", timedelta(seconds=10))
    assert (health.http[0].uri, health.http[0].statuscode) == ("http://x/", 204)
    assert health.http[0].headers["Authorization"][0].get_secret_value() == "Basic eA=="
    assert (health.tcp[0].addr, health.tcp[0].timeout, health.tcp[0].threshold) == (
        "redis:6379",
        timedelta(seconds=5),
        4,
    )


def test_purging_always_pauses_between_two_looks(loaded: LoadText) -> None:
    result = loaded("storage: {maintenance: {uploadpurging: {interval: 0s}}}")

    assert result.config.storage.maintenance.uploadpurging.interval == timedelta(seconds=1)
    assert result.warnings == ("storage.maintenance.uploadpurging.interval: is below 1s; 1s is used",)


def test_number_without_a_unit_is_nanoseconds_and_warned_about(loaded: LoadText) -> None:
    result = loaded("http: {draintimeout: 60}")

    assert result.config.http.draintimeout == timedelta(0)
    assert result.warnings == ("http.draintimeout: a number without a unit is nanoseconds; write for instance 30s",)


@pytest.mark.parametrize("text", ["storage: {filesystem: {maxthreads: [1]}}", "http: {tls: {certificate: {a: b}}}"])
def test_value_of_the_wrong_shape_is_said_by_key(refusals: Refusals, text: str) -> None:
    (problem,) = refusals(text)

    assert problem.endswith(("must be a whole number", "must be text"))


def test_single_map_where_a_list_is_meant_is_said_by_key(refusals: Refusals) -> None:
    assert refusals("health: {tcp: {addr: 'a:1'}}") == ["health.tcp: must be a list"]
