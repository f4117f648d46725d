"""Listening sockets, opened once by the supervisor and shared by every worker.

Never with SO_REUSEPORT: two servers would share a port, and its connections, without a word.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

from stackyard.server.errors import StartError
from stackyard.server.settings import Listen

Where = tuple[Any, ...]

BACKLOG = 4096  # connections; the kernel cuts it to net.core.somaxconn
FIRST_INHERITED = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


def open_listener(listen: Listen) -> list[socket.socket]:
    """The sockets of one listener, listening: several where a name has several addresses.

    Raises:
        StartError: The address is taken, not ours, not allowed or not an address.
    """
    return [_open_unix(listen)] if listen.unix else _open_tcp(listen)


def inherited(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets systemd opened for this process, by name; none when it opened none.

    The variables are removed, so that no child takes them for its own. See sd_listen_fds(3).
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "0")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        opened = _adopt(FIRST_INHERITED + index)
        name = names[index] if index < len(names) else ""
        found.setdefault("debug" if name == "debug" else "main", []).append(opened)
    return found


def describe(opened: socket.socket, *, tls: bool) -> str:
    """Where a socket listens, as one would type it: `http://[::]:5000`, `unix:/run/stackyard.sock`."""
    name = opened.getsockname()
    if opened.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"


def close(opened: Sequence[socket.socket]) -> None:
    """Stop listening. The files of unix sockets go first, so that nobody takes them for a running server.

    May be called twice.
    """
    for each in opened:
        if each.family == socket.AF_UNIX and each.fileno() >= 0 and isinstance(path := each.getsockname(), str):
            with _ignoring(errno.ENOENT, errno.EACCES, errno.EPERM):
                os.unlink(path)
        each.close()


def _adopt(fd: int) -> socket.socket:
    try:
        opened = socket.socket(fileno=fd)
    except OSError as error:
        raise StartError(f"LISTEN_FDS names descriptor {fd}, which is not a socket: {error.strerror}") from error
    opened.set_inheritable(False)
    opened.setblocking(False)
    return opened


def _open_tcp(listen: Listen) -> list[socket.socket]:
    host, port = _split(listen.address)
    if not host:
        return [_open_everywhere(listen, port)]
    opened: list[socket.socket] = []
    for family, where in _resolve(listen.address, host, port):
        if opened and port == "0":  # one free port for all addresses of the name, not one each
            where = (where[0], opened[0].getsockname()[1], *where[2:])
        opened.append(_bind(listen, family, where))
    return opened


def _split(address: str) -> tuple[str, str]:
    host, colon, port = address.rpartition(":")
    if not colon or not port or (":" in host and not host.startswith("[")):
        raise StartError(f"{address!r} is not an address to listen on; write host:port, [ipv6]:port or :port")
    return host.strip("[]"), port


def _resolve(address: str, host: str, port: str) -> list[tuple[socket.AddressFamily, Where]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {address!r}: {error.strerror}") from error
    return [(family, where) for family, _, _, _, where in found if family != socket.AF_INET6 or _has_ipv6()]


def _open_everywhere(listen: Listen, port: str) -> socket.socket:
    """One IPv6 socket that takes IPv4 too, or an IPv4 socket where the machine has IPv6 switched off."""
    if _has_ipv6():
        return _bind(listen, socket.AF_INET6, ("::", _number(listen.address, port)), dual=True)
    return _bind(listen, socket.AF_INET, ("0.0.0.0", _number(listen.address, port)))  # noqa: S104 - asked for


def _number(address: str, port: str) -> int:
    try:
        number = int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")
    except OSError as error:
        raise StartError(f"cannot listen on {address!r}: no service is called {port!r}") from error
    if number > 65535:
        raise StartError(f"cannot listen on {address!r}: ports end at 65535")
    return number


def _has_ipv6() -> bool:
    """Whether an IPv6 socket can be bound here; the kernel may lack it, or have it switched off."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(listen: Listen, family: socket.AddressFamily, where: Where, *, dual: bool = False) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    try:
        opened.bind(where)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise StartError(_refusal(listen, error)) from error
    opened.setblocking(False)
    return opened


def _refusal(listen: Listen, error: OSError) -> str:
    address, variable = listen.address, f"REGISTRY_{listen.key.replace('.', '_').upper()}"
    choose = f"set {listen.key} in the config file, or {variable}=:5001"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{address} is taken by another process; to choose another address {choose}"
        case errno.EACCES | errno.EPERM:
            return f"{address} needs root or CAP_NET_BIND_SERVICE; to choose a port above 1023 {choose}"
        case errno.EADDRNOTAVAIL:
            return f"{address} is not an address of this machine; to choose another {choose}"
        case _:
            return f"cannot listen on {address}: {error.strerror}"


def _open_unix(listen: Listen) -> socket.socket:
    path = listen.address
    _remove_stale(listen)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mask, not a chmod afterwards: nobody connects in between. Only the supervisor's one thread runs now.
    mask = os.umask(0o777 & ~listen.mode)
    try:
        opened.bind(path)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise StartError(f"cannot listen on the unix socket {path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    opened.setblocking(False)
    return opened


def _remove_stale(listen: Listen) -> None:
    """Remove the socket file of a server that is no more. Raises StartError when one still answers."""
    path = listen.address
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise StartError(f"{path} exists and is not a socket; choose another {listen.key} or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise StartError(f"another process listens on the unix socket {path}; choose another {listen.key}")
    os.unlink(path)


@contextmanager
def _ignoring(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
