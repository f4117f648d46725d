"""The socket on which the running server is administered: a file that only its own user, and root, may open."""

import os
import socket
import struct
from pathlib import Path

import structlog

from stackyard.server import sockets
from stackyard.server.errors import StartError
from stackyard.server.settings import Listen, LocalSocket

_KEY = "stackyard.api.socket"
_MODE = 0o600
_LONGEST = 107  # bytes of a path in a socket's address, see unix(7)
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid

_log = structlog.get_logger("server")


def open_local(local: LocalSocket) -> list[socket.socket]:
    """The listening socket; none where it cannot be had and nobody asked for it.

    The file of a server that is no more is replaced. That of a running one, another node on the same volume, is left.
    To be called as the volume's owner, whose file it shall be.

    Raises:
        StartError: It was asked for and cannot be had.
    """
    try:
        return sockets.open_listener(Listen(_name(local.path), unix=True, mode=_MODE, key=_KEY))
    except StartError as error:
        if local.required:
            raise
        _log.warning("this server has no local socket to be administered by", reason=str(error), setting=_KEY)
        return []


def _name(path: Path) -> str:
    try:
        return short_name(path)
    except OSError as error:
        raise StartError(f"cannot listen on the unix socket {path}: {error.strerror}") from error


def short_name(path: Path) -> str:
    """A name of the file that fits into a socket's address, good as long as this process lives. Raises OSError."""
    if len(os.fsencode(path)) <= _LONGEST:
        return str(path)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # stays open: the name goes through it
    return f"/proc/self/fd/{folder}/{path.name}"


def peer_of(connected: socket.socket) -> int:
    """The uid of the process at the other end of a unix socket, when it connected."""
    given = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(given)[1]
    return uid
