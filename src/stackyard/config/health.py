"""`health`: checks whose failure makes the server answer 503."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from stackyard.config.http import split_address
from stackyard.config.section import EACH_MANY, Duration, Section, option, section

_EVERY = timedelta(seconds=10)
_PATIENCE = timedelta(seconds=5)


def _or_every(span: timedelta) -> timedelta:
    return span or _EVERY


def _or_patience(span: timedelta) -> timedelta:
    """Distribution would wait for ever; a check that never ends never fails."""
    return span or _PATIENCE


def _address(address: str) -> str:
    split_address(address)
    return address


def _uri(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("is not an http or https address")
    return uri


Interval = Annotated[Duration, AfterValidator(_or_every)]
Timeout = Annotated[Duration, AfterValidator(_or_patience)]


class StorageDriver(Section):
    """`health.storagedriver`."""

    enabled: bool = option(False, "Whether the store is looked at.")
    interval: Interval = option(_EVERY, "How often.")
    threshold: int = option(0, "How many failures in a row it takes; 0 and 1: the first one counts.", ge=0)


class FileCheck(Section):
    """One of `health.file`: unhealthy while the file exists."""

    file: str = option(meaning="The path of the file.")
    interval: Interval = option(_EVERY, "How often.")
    threshold: int = option(0, "How many failures in a row it takes; 0 and 1: the first one counts.", ge=0)


class HttpCheck(Section):
    """One of `health.http`: healthy while a HEAD request gets the status."""

    uri: Annotated[str, AfterValidator(_uri)] = option(meaning="The address asked.")
    headers: Annotated[dict[str, tuple[SecretStr, ...]], EACH_MANY] = option({}, "Headers sent with it.")
    statuscode: int = option(200, "The status a healthy server answers.", ge=100, le=599)
    timeout: Timeout = option(_PATIENCE, "How long an answer may take.")
    interval: Interval = option(_EVERY, "How often.")
    threshold: int = option(0, "How many failures in a row it takes; 0 and 1: the first one counts.", ge=0)


class TcpCheck(Section):
    """One of `health.tcp`: healthy while the address accepts connections."""

    addr: Annotated[str, AfterValidator(_address)] = option(meaning="host:port to connect to.")
    timeout: Timeout = option(_PATIENCE, "How long connecting may take.")
    interval: Interval = option(_EVERY, "How often.")
    threshold: int = option(0, "How many failures in a row it takes; 0 and 1: the first one counts.", ge=0)


class Health(Section):
    """`health`."""

    storagedriver: StorageDriver = section(StorageDriver)
    file: tuple[FileCheck, ...] = option((), "Files that must not exist.")
    http: tuple[HttpCheck, ...] = option((), "Servers that must answer.")
    tcp: tuple[TcpCheck, ...] = option((), "Servers that must accept connections.")
