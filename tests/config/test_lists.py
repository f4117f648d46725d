"""Every key of Distribution 2.x and 3.x is on exactly one of the three lists."""

from collections.abc import Callable

import pytest
from tests.config.conftest import LoadText

from stackyard.config.describe import describe, verdict_of
from stackyard.config.lists import RULES
from stackyard.config.shape import ROOT

Refusals = Callable[..., list[str]]

S3 = (
    "accesskey secretkey region regionendpoint forcepathstyle bucket encrypt keyid secure skipverify chunksize "
    "rootdirectory storageclass useragent usedualstack accelerate usefipsendpoint loglevel redirectendpoint"
)
S3_HARMLESS = (
    "multipartcopychunksize multipartcopymaxconcurrency multipartcopythresholdsize logs3apirequests "
    "logs3apiresponseheaders"
)
REDIS = (
    "addr addrs username password db clientname protocol sentinelusername sentinelpassword mastername maxretries "
    "minretrybackoff maxretrybackoff dialtimeout readtimeout writetimeout pool.maxidle pool.maxactive pool.idletimeout "
    "poolfifo poolsize pooltimeout minidleconns maxidleconns maxactiveconns connmaxidletime connmaxlifetime "
    "maxredirects readonly routebylatency routerandomly contexttimeoutenabled disableidentity identitysuffix "
    "unstableresp3 tls.certificate tls.key tls.rootcas tls.clientcas"
)


def keys(text: str) -> list[str]:
    return text.split()


def s3_keys(text: str) -> list[str]:
    """Under both names of the driver."""
    return [f"storage.{driver}.{name}" for name in keys(text) for driver in ("s3", "s3aws")]


HONOURED = [
    *keys("""
version loglevel log.level log.formatter log.fields log.accesslog.disabled storage.filesystem.rootdirectory
storage.filesystem.maxthreads storage.inmemory storage.delete.enabled storage.redirect.disable
storage.maintenance.uploadpurging.enabled storage.maintenance.uploadpurging.age
storage.maintenance.uploadpurging.interval storage.maintenance.uploadpurging.dryrun
storage.maintenance.readonly.enabled auth.none auth.silly.realm auth.silly.service auth.htpasswd.realm
auth.htpasswd.path auth.token.realm auth.token.service auth.token.issuer auth.token.rootcertbundle auth.token.jwks
auth.token.signingalgorithms auth.token.autoredirect auth.token.autoredirectpath http.addr http.net http.prefix
http.host http.secret http.relativeurls http.draintimeout http.headers http.debug.addr http.tls.certificate
http.tls.key http.tls.clientcas http.tls.clientauth http.tls.minimumtls validation.enabled validation.disabled
validation.manifests.urls.allow validation.manifests.urls.deny validation.manifests.indexes.platforms
validation.manifests.indexes.platformlist[].os validation.manifests.indexes.platformlist[].architecture
catalog.maxentries tags.maxtags health.storagedriver.enabled health.storagedriver.interval
health.storagedriver.threshold health.file[].file health.file[].interval health.http[].uri health.http[].headers
health.http[].statuscode health.http[].timeout health.http[].interval health.http[].threshold health.tcp[].addr
health.tcp[].timeout health.tcp[].interval health.tcp[].threshold
storage.gcs.bucket storage.gcs.keyfile storage.gcs.credentials.private_key storage.gcs.rootdirectory
storage.gcs.chunksize storage.gcs.useragent
storage.azure.accountname storage.azure.accountkey storage.azure.container storage.azure.realm storage.azure.serviceurl
storage.azure.rootdirectory storage.azure.skipverify storage.azure.credentials.type storage.azure.credentials.clientid
storage.azure.credentials.tenantid storage.azure.credentials.secret
"""),
    *s3_keys(S3),
]

HARMLESS = [
    *keys("""
log.reportcaller storage.cache.blobdescriptor storage.cache.layerinfo storage.cache.blobdescriptorsize
storage.tag.concurrencylimit http.debug.prometheus.enabled http.debug.prometheus.path http.http2.disabled
http.h2c.enabled notifications.events.includereferences proxy.username proxy.password proxy.ttl proxy.exec.command
proxy.exec.lifetime proxy.cachewritetimeout policy.repository.classes compatibility.schema1.enabled
compatibility.schema1.signingkeyfile reporting.bugsnag.apikey reporting.newrelic.licensekey
storage.gcs.maxconcurrency storage.gcs.disablekeepalives storage.azure.connectionstring storage.azure.max_retries
storage.azure.retry_delay storage.azure.copy_status_poll_max_retry storage.azure.copy_status_poll_delay
"""),
    *s3_keys(S3_HARMLESS),
    *(f"redis.{name}" for name in keys(REDIS)),
]

REFUSED = [
    *keys("""
log.hooks[].type log.hooks[].disabled log.hooks[].levels log.hooks[].options.smtp.addr
log.hooks[].options.smtp.password log.hooks[].options.from log.hooks[].options.to
storage.oss.bucket storage.swift.container middleware.registry[].name
middleware.repository[].disabled middleware.storage[].options http.tls.ciphersuites http.tls.letsencrypt.cachefile
http.tls.letsencrypt.email http.tls.letsencrypt.hosts http.tls.letsencrypt.directoryurl
notifications.endpoints[].name notifications.endpoints[].url notifications.endpoints[].headers
notifications.endpoints[].timeout notifications.endpoints[].threshold notifications.endpoints[].backoff
notifications.endpoints[].disabled notifications.endpoints[].ignoredmediatypes
notifications.endpoints[].ignore.mediatypes notifications.endpoints[].ignore.actions proxy.remoteurl
"""),
    *s3_keys("v4auth objectacl"),
]


@pytest.mark.parametrize(
    ("listed", "verdict"),
    [(HONOURED, "honoured"), (HARMLESS, "harmless"), (REFUSED, "refused")],
    ids=lambda it: str(it)[:9],
)
def test_every_key_of_distribution_is_on_its_list(listed: list[str], verdict: str) -> None:
    assert {key: verdict_of(key) for key in listed} == dict.fromkeys(listed, verdict)


def test_no_key_is_on_two_lists() -> None:
    honoured = {row.key for row in describe() if row.verdict == "honoured"}
    ruled = [rule.path for rule in RULES]

    assert len(set(ruled)) == len(ruled)
    assert not [key for key in honoured for path in ruled if f"{key}.".startswith(f"{path}.")]


def test_unknown_key_is_on_no_list() -> None:
    assert verdict_of("http.adress") is None
    assert verdict_of("cluster") is None


def test_no_key_has_an_underscore_since_the_environment_could_not_set_it() -> None:
    assert not [node.path for node in ROOT.walk() if "_" in node.path and node.rule is None]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("log: {reportcaller: true}", "log.reportcaller"),
        ("storage: {cache: {blobdescriptor: redis, blobdescriptorsize: 5}}", "storage.cache"),
        ("storage: {tag: {concurrencylimit: 8}}", "storage.tag"),
        ("http: {debug: {prometheus: {enabled: true, path: /metrics}}}", "http.debug.prometheus"),
        ("http: {http2: {disabled: false}}", "http.http2"),
        ("http: {h2c: {enabled: true}}", "http.h2c"),
        ("notifications: {events: {includereferences: true}}", "notifications"),
        ("notifications: {endpoints: []}", "notifications"),
        ("notifications: {endpoints: [{name: a, url: 'http://x', disabled: true}]}", "notifications"),
        ("notifications:", "notifications"),
        ("redis: {addr: 'x:1', pool: {maxidle: 16}}", "redis"),
        ("redis: {addrs: ['x:1'], tls: {certificate: c}}", "redis"),
        ("proxy: {}", "proxy"),
        ("proxy: {remoteurl: '', username: a, password: b, ttl: 168h, exec: {command: c}}", "proxy"),
        ("policy: {repository: {classes: [image]}}", "policy"),
        ("compatibility: {schema1: {enabled: true}}", "compatibility"),
        ("reporting: {bugsnag: {apikey: k}}", "reporting"),
        ("log: {hooks: [{type: mail, disabled: true}]}", "log.hooks"),
        ("middleware: {storage: [{name: cloudfront, disabled: true}]}", "middleware.storage"),
        ("http: {tls: {ciphersuites: []}}", "http.tls.ciphersuites"),
        ("http: {tls: {certificate: c, key: k, letsencrypt: {cachefile: f}}}", "http.tls.letsencrypt"),
        ("http: {tls: {letsencrypt: {cachefile: '', hosts: []}}}", "http.tls.letsencrypt"),
    ],
)
def test_harmless_key_is_accepted_with_one_notice(loaded: LoadText, text: str, key: str) -> None:
    result = loaded(text)

    assert [notice.partition(":")[0] for notice in result.notices] == [key]
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("storage: oss", "storage.oss"),
        ("storage: swift", "storage.swift"),
        ("log: {hooks: [{type: mail, disabled: true}, {type: mail}]}", "log.hooks"),
        ("middleware: {registry: [{name: a}]}", "middleware.registry"),
        ("middleware: {repository: [{name: a}]}", "middleware.repository"),
        ("middleware: {storage: [{name: redirect, options: {baseurl: x}}]}", "middleware.storage"),
        ("http: {tls: {ciphersuites: [TLS_AES_128_GCM_SHA256]}}", "http.tls.ciphersuites"),
        ("http: {tls: {letsencrypt: {cachefile: f, email: a@b}}}", "http.tls.letsencrypt"),
        ("notifications: {endpoints: [{name: a, url: 'http://x'}]}", "notifications.endpoints"),
        ("proxy: {remoteurl: 'https://registry-1.docker.io', username: u}", "proxy.remoteurl"),
    ],
)
def test_refused_key_is_refused_with_one_sentence(refusals: Refusals, text: str, key: str) -> None:
    (problem,) = refusals(text)

    assert problem.startswith(f"{key}: ")
    assert problem.count(".\n") == 0


@pytest.mark.parametrize(
    ("text", "unknown", "meant"),
    [
        ("http: {adress: x}", "http.adress", "http.addr"),
        ("htpp: {addr: x}", "htpp", "http"),
        ("HTTP: {addr: x}", "HTTP", "http"),
        ("log: {maxthreads: 25}", "log.maxthreads", "storage.filesystem.maxthreads"),
        ("health: {tcp: [{addr: 'a:1', treshold: 3}]}", "health.tcp[0].treshold", "health.tcp[].threshold"),
        ("proxy: {remoturl: x}", "proxy.remoturl", "proxy.remoteurl"),
    ],
)
def test_unknown_key_warns_and_names_the_nearest(loaded: LoadText, text: str, unknown: str, meant: str) -> None:
    assert loaded(text).warnings == (f"{unknown}: unknown key, ignored; did you mean {meant}?",)


def test_unknown_key_that_resembles_nothing_only_warns(loaded: LoadText) -> None:
    assert loaded("zzz: 1").warnings == ("zzz: unknown key, ignored",)
