"""What the server is told: plain values, made from the configuration by `server.assembly`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path


class ClientCertificates(StrEnum):
    """What is asked of the client's side of a TLS handshake."""

    NONE = "none"
    VERIFIED_IF_GIVEN = "verified-if-given"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """One certificate with its key, and what is asked of clients."""

    certificate: Path
    """PEM: the server's own certificate first, then the chain."""
    key: Path
    minimum: str = "1.2"
    """Lowest protocol version: "1.2" or "1.3"."""
    client_authorities: Sequence[Path] = ()
    """PEM files of the authorities that client certificates must come from."""
    client_certificates: ClientCertificates = ClientCertificates.NONE


@dataclass(frozen=True, slots=True)
class Listen:
    """Where one listener waits."""

    address: str = ":5000"
    """`host:port`, `:port` for every address of the machine, or the path of a unix socket."""
    unix: bool = False
    mode: int = 0o660
    """Permissions of the unix socket's file."""
    tls: TlsSettings | None = None
    key: str = "http.addr"
    """What the configuration calls the address, for people to whom it is refused."""


@dataclass(frozen=True, slots=True)
class LocalSocket:
    """Where the server's own user and root administer it."""

    path: Path
    required: bool = False
    """Whether somebody asked for it: then a server that cannot have it does not start."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a client may keep a connection without getting anywhere. None limits a whole request."""

    header_timeout: timedelta = timedelta(seconds=30)
    """From a request's first byte (or the connection) to the end of its header; also a TLS handshake."""
    idle_timeout: timedelta = timedelta(seconds=120)
    """Between two requests. Longer than clients keep theirs (Go: 90 s), so that they close and not we."""
    minimum_rate: int = 1024
    """Bytes per second that a body must move, averaged over `rate_window`, while the client is waited for."""
    rate_window: timedelta = timedelta(seconds=60)
    header_size: int = 64 * 1024
    """Bytes of one request's header."""
    linger: timedelta = timedelta(seconds=30)
    """How long a body nobody wants is read, and dropped, after an early answer, so that the answer arrives."""
    linger_idle: timedelta = timedelta(seconds=5)
    """The same, once no more of it arrives."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything the supervisor needs to serve."""

    main: Listen = field(default_factory=Listen)
    debug: Listen | None = None
    local: LocalSocket | None = None
    workers: int | None = None
    """Processes that answer; None: one per usable CPU, four at most."""
    background: bool = False
    """Whether one more process does the background work, so that no answer waits for it. Else the first worker does."""
    limits: Limits = field(default_factory=Limits)
    drain: timedelta = timedelta(0)
    """How long running requests may go on after SIGTERM. Zero stands for `DEFAULT_DRAIN`."""


DEFAULT_DRAIN = timedelta(seconds=30)
