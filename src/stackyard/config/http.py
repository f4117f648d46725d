"""`http`: where the server listens and what it says of itself."""

import re
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from stackyard.config.section import EACH_MANY, LOWER, Duration, Section, Texts, option, section

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)
_NAMED_PORTS = {"http": 80, "https": 443}


def split_address(address: str) -> tuple[str, int]:
    """The host ("" for every address of the machine) and port of Go's `host:port`. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    number = _NAMED_PORTS.get(port, int(port) if re.fullmatch(r"\d{1,5}", port, re.ASCII) else -1)
    if not colon or not 0 <= number <= 65535:
        raise ValueError(f"{address[:80]!r} is not host:port; write for instance :5000 or 127.0.0.1:5000")
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]", host)
    if bracketed is None and (":" in host or "[" in host or "]" in host):
        raise ValueError(f"{address[:80]!r} is not host:port; write an IPv6 address in brackets, [::1]:5000")
    return (bracketed[1] if bracketed else host), number


def _address(address: str) -> str:
    if address:
        split_address(address)
    return address


def _host(host: str) -> str:
    parts = urlsplit(host)  # raises ValueError itself when brackets do not match
    if host and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment):
        raise ValueError("is not an absolute address such as https://registry.example.com")
    if not host.isprintable() or " " in host or parts.username is not None:
        raise ValueError("may hold no spaces, control characters or login")
    return host.rstrip("/")


def _prefix(prefix: str) -> str:
    """Distribution wants a slash at both ends; we want none at the end, and take either."""
    trimmed = prefix.strip("/")
    if not _PREFIX.fullmatch(f"/{trimmed}" if trimmed else ""):
        raise ValueError("is not a path such as /my/registry/")
    return f"/{trimmed}" if trimmed else ""


def _headers(headers: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for name, values in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("has a name that is no HTTP header name")
        if not all(_HEADER_VALUE.fullmatch(value) for value in values):
            raise ValueError(f"{name[:60]} has a value with characters a header cannot carry")
    return headers


class Tls(Section):
    """`http.tls`. On when `certificate` is set."""

    certificate: str = option("", "The PEM file of the certificate and those between it and its root.")
    key: str = option("", "The PEM file of the certificate's private key.")
    clientcas: Texts = option((), "PEM files of the authorities whose client certificates are accepted.")
    clientauth: Annotated[
        Literal[
            "request-client-cert",
            "require-any-client-cert",
            "verify-client-cert-if-given",
            "require-and-verify-client-cert",
        ],
        LOWER,
    ] = option(
        "require-and-verify-client-cert",
        "Whether a client must show a certificate, or only that one it shows must be valid. Without clientcas nobody "
        "is asked. The two modes that take a certificate without verifying it are refused.",
    )
    minimumtls: Annotated[Literal["tls1.2", "tls1.3"], LOWER] = option("tls1.2", "The oldest TLS version spoken.")

    @model_validator(mode="after")
    def _complete(self) -> "Tls":
        if bool(self.certificate) != bool(self.key):
            missing, given = ("key", "certificate") if self.certificate else ("certificate", "key")
            raise ValueError(f".{missing}: is missing while http.tls.{given} is set; TLS needs both")
        if self.clientcas and not self.certificate:
            raise ValueError(
                ".clientcas: without a certificate would serve everybody over plain HTTP; set certificate and key"
            )
        if self.clientcas and self.clientauth in ("request-client-cert", "require-any-client-cert"):
            raise ValueError(
                f".clientauth: {self.clientauth} takes certificates unverified, which this server cannot do; "
                "use verify-client-cert-if-given or require-and-verify-client-cert"
            )
        return self


class Debug(Section):
    """`http.debug`."""

    addr: Annotated[str, AfterValidator(_address)] = option(
        "", "host:port of the debug server, which has no login: keep it private. Empty: none."
    )


class Http(Section):
    """`http`."""

    addr: str = option(":5000", "host:port to listen on, or the path of the socket when net is unix.")
    net: Annotated[Literal["tcp", "unix"], LOWER] = option("tcp", "The kind of address in addr.")
    host: Annotated[str, AfterValidator(_host)] = option(
        "", "The address clients know us by, absolute. Empty: taken from each request."
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = option("", "The path before /v2/, as in /my/registry/.")
    secret: SecretStr = option(SecretStr(""), "Accepted and not needed: the state of uploads lies in the database.")
    relativeurls: bool = option(False, "Whether Location headers hold only a path.")
    draintimeout: Duration = option(
        timedelta(0),
        "How long requests may still run after a stop signal; 0: 30 seconds, where Distribution stops at once.",
    )
    headers: Annotated[dict[str, tuple[str, ...]], EACH_MANY, AfterValidator(_headers)] = option(
        {}, "Headers added to every answer, each a list of values."
    )
    tls: Tls = section(Tls)
    debug: Debug = section(Debug)

    @model_validator(mode="after")
    def _listenable(self) -> "Http":
        if self.net == "tcp":
            try:
                split_address(self.addr)
            except ValueError as error:
                raise ValueError(f".addr: {error}") from None
        return self
