"""How fast a client takes or gives bytes while it alone is waited for."""

import fcntl
import socket
import struct
import sys
import termios
from typing import Any, Final

from stackyard.server.settings import Limits

_BYTES_ACKED: Final = slice(120, 128)  # in struct tcp_info, linux/tcp.h


class Pace:
    """One connection's progress, looked at once per tick."""

    __slots__ = ("_least", "_mark", "_since", "_window", "moved")

    def __init__(self, limits: Limits) -> None:
        self._window = limits.rate_window.total_seconds()
        self._least = limits.minimum_rate * self._window
        self._since: float | None = None
        self._mark = 0
        self.moved = 0
        """Bytes of bodies received on this connection."""

    def forgive(self) -> None:
        """The client is not what we wait for."""
        self._since = None

    def too_slow(self, now: float, moved: int) -> bool:
        """Whether a whole window has passed in which fewer bytes moved than the minimum rate asks.

        Args:
            now: Seconds on the loop's clock.
            moved: Bytes moved so far, in the direction that is waited for.
        """
        if self._since is None:
            self._since, self._mark = now, moved
            return False
        if now - self._since < self._window:
            return False
        progress = moved - self._mark
        self._since, self._mark = now, moved
        return progress < self._least


def acknowledged(peer: socket.socket) -> int | None:
    """Bytes that the client's kernel has acknowledged since the connection began; None: nobody counts them.

    For TLS, which may hold a megabyte of which none or nearly all has left.
    """
    if peer.family not in (socket.AF_INET, socket.AF_INET6) or peer.fileno() < 0:
        return None
    known = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    return int.from_bytes(known[_BYTES_ACKED], sys.byteorder)


def unsent(transport: Any) -> int:
    """Bytes handed over that the client's kernel has not acknowledged: ours and those in the socket's queue.

    Without the kernel's part a slow but honest reader seems to stand still: a send buffer of some MiB takes more
    only after a third of it has left.
    """
    buffered: int = transport.get_write_buffer_size()
    peer = transport.get_extra_info("socket")
    if peer is None or peer.fileno() < 0:
        return buffered
    (queued,) = struct.unpack("i", fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return buffered + int(queued)
