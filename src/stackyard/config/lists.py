"""Distribution's keys that have no effect here, and those a start is refused for.

Every key of Distribution 2.x and 3.x is honoured (it has a place in a section), harmless or refused (it stands here,
by itself or under a key that does). A refused key that asks for nothing, such as a hook that is disabled, is harmless.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stackyard.config.document import Tree

Idle = Callable[[Tree, Mapping[str, Tree]], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One key, with everything under it."""

    path: str
    sentence: str
    refused: bool = False
    idle: Idle | None = None
    """Whether a refused key's value, in the whole file, asks for nothing."""


def _empty(value: Tree, _: Mapping[str, Tree]) -> bool:
    return not value


def _false(value: Tree, _: Mapping[str, Tree]) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("", "false", "no", "off", "n", "0", "f"))


def _is_disabled(entry: Tree) -> bool:
    value = entry.get("disabled") if isinstance(entry, dict) else None
    return isinstance(value, str) and value.lower() in ("true", "yes", "on", "y", "1", "t")


def _all_disabled(value: Tree, _: Mapping[str, Tree]) -> bool:
    return not value or (isinstance(value, list) and all(map(_is_disabled, value)))


def _has_certificate(value: Tree, tree: Mapping[str, Tree]) -> bool:
    """Distribution does not look at letsencrypt when there is a certificate."""
    http = tree.get("http")
    tls = http.get("tls") if isinstance(http, dict) else None
    nothing = not value or (isinstance(value, dict) and not any(value.values()))
    return nothing or (isinstance(tls, dict) and bool(tls.get("certificate")))


def _harmless(path: str, sentence: str) -> Rule:
    return Rule(path, sentence)


def _refused(path: str, sentence: str, idle: Idle | None = None) -> Rule:
    return Rule(path, sentence, refused=True, idle=idle)


def _true(value: Tree, _: Mapping[str, Tree]) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("", "true", "yes", "on", "y", "1", "t"))


def _private(value: Tree, _: Mapping[str, Tree]) -> bool:
    return value in (None, "", "private")


_COPIES = "not needed: what is copied within the store, and how, is not left to the configuration"
_CLIENTS = "not needed: the connections to the store are looked after by themselves"
_RETRIES = "not needed: what fails in passing at the store is tried again by itself"
# Distribution's driver goes by either name, and so do its keys.
_S3 = ("storage.s3", "storage.s3aws")

HARMLESS = (
    _harmless("log.reportcaller", "log lines never name the source line"),
    _harmless("storage.cache", "not needed: what is looked up is in the database"),
    _harmless("storage.tag", "not needed: deleting a manifest finds its tags in the database"),
    *(
        _harmless(f"{driver}.{name}", _COPIES)
        for driver in _S3
        for name in ("multipartcopychunksize", "multipartcopymaxconcurrency", "multipartcopythresholdsize")
    ),
    *(
        _harmless(f"{driver}.{name}", "see loglevel: debug logs each request to the store")
        for driver in _S3
        for name in ("logs3apirequests", "logs3apiresponseheaders")
    ),
    _harmless("storage.gcs.maxconcurrency", _CLIENTS),
    _harmless("storage.gcs.disablekeepalives", _CLIENTS),
    _harmless("storage.azure.connectionstring", "not read, as in Distribution: accountname and accountkey are"),
    _harmless("storage.azure.max_retries", _RETRIES),
    _harmless("storage.azure.retry_delay", _RETRIES),
    _harmless("storage.azure.copy_status_poll_max_retry", _RETRIES),
    _harmless("storage.azure.copy_status_poll_delay", _RETRIES),
    _harmless("http.debug.prometheus", "there are no metrics to serve at the debug address yet"),
    _harmless("http.http2", "HTTP/1.1 is spoken, which every registry client does"),
    _harmless("http.h2c", "HTTP/1.1 is spoken, which every registry client does"),
    _harmless("notifications", "no events are sent"),
    _harmless("notifications.events", "no events are sent"),
    _harmless("redis", "not used: the database is shared by all workers"),
    _harmless("proxy", "without remoteurl nothing is proxied"),
    _harmless("proxy.username", "without remoteurl nothing is proxied"),
    _harmless("proxy.password", "without remoteurl nothing is proxied"),
    _harmless("proxy.ttl", "without remoteurl nothing is proxied"),
    _harmless("proxy.exec", "without remoteurl nothing is proxied"),
    _harmless("proxy.cachewritetimeout", "without remoteurl nothing is proxied"),
    _harmless("proxy.remotenamespace", "without remoteurl nothing is proxied"),
    _harmless("policy", "repository classes are not told apart"),
    _harmless("compatibility", "schema 1 manifests are always refused, as in Distribution 3"),
    _harmless("reporting", "errors are reported in the log only"),
)

REFUSED = (
    _refused(
        "log.hooks", "no mail is sent; remove the hook or set disabled: true, and watch the log instead", _all_disabled
    ),
    *(
        _refused(
            f"{driver}.v4auth",
            "requests are signed by version 4 only, which every S3 service of today takes; remove the key or set it to "
            "true",
            _true,
        )
        for driver in _S3
    ),
    *(
        _refused(
            f"{driver}.objectacl",
            "objects are written without an ACL; remove the key, and where the bucket is another account's let it own "
            "them by the bucket's setting for object ownership",
            _private,
        )
        for driver in _S3
    ),
    _refused(
        "storage.oss",
        "Alibaba's own protocol is not spoken; set storage.s3 instead, with OSS's S3-compatible address in "
        "regionendpoint and forcepathstyle: false",
    ),
    _refused(
        "storage.swift",
        "Swift's own protocol is not spoken; set storage.s3 instead, with the address of Swift's S3 API in "
        "regionendpoint and EC2 credentials in accesskey and secretkey",
    ),
    _refused(
        "middleware.registry",
        "registry middleware is not supported; remove the entries or set disabled: true",
        _all_disabled,
    ),
    _refused(
        "middleware.repository",
        "repository middleware is not supported; remove the entries or set disabled: true",
        _all_disabled,
    ),
    _refused(
        "middleware.storage",
        "no CDN and no redirect stands before the store; remove the entries or set disabled: true",
        _all_disabled,
    ),
    _refused(
        "http.tls.letsencrypt",
        "certificates are not fetched; let an ACME client renew them, name the files in http.tls.certificate and "
        "http.tls.key, and send SIGHUP after each renewal",
        _has_certificate,
    ),
    _refused(
        "http.tls.ciphersuites",
        "cipher suites cannot be chosen; remove the list, only modern ones are offered (minimumtls sets the version)",
        _empty,
    ),
    _refused(
        "notifications.endpoints",
        "no events are sent; remove the endpoints or set disabled: true on each",
        _all_disabled,
    ),
    _refused(
        "proxy.remoteurl",
        "this server is no pull-through cache; remove the proxy section, or keep the cache on Distribution",
        _empty,
    ),
)

RULES = HARMLESS + REFUSED
