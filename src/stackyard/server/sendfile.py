"""Files straight from the page cache to the client's socket: the ASGI extension `stackyard.sendfile`.

After `http.response.start` with a content-length the application may send
`{"type": "stackyard.sendfile", "file": descriptor, "offset": bytes, "count": bytes, "more_body": False}`.
Over TLS, which has to see the bytes, `mapped.py` does it.

Beside the transport, not through it: the event loop's transports have no sendfile that would tell how many bytes
left, so while nothing is in the transport's buffer its socket is written to directly.
"""

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stackyard.server.delivery import Delivery
    from stackyard.server.protocol import Connection

SENDFILE: Final = "stackyard.sendfile"
STEP: Final = 1024 * 1024  # bytes; then other connections have their turn
_DEFAULT_HIGH: Final = 64 * 1024  # bytes; the transports' own limit
_probe: Final = bytearray(1)


class FileTooShort(RuntimeError):
    """The file ended before the count that was announced."""


class SideDoor:
    """A descriptor of our own for a connection's socket, opened by the first file that is sent.

    It can be watched while the transport watches its own, and lives until nobody uses it any more. Kept from one
    answer to the next: opening and closing it takes as many calls of the kernel as sending a file.
    """

    __slots__ = ("_is_shut", "_is_used", "_socket")

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._is_used = False
        self._is_shut = False

    def take(self, transport: Any) -> socket.socket | None:
        """The socket, to be given back; None when the connection is closing."""
        if transport.is_closing():
            return None
        if self._socket is None:
            peer = transport.get_extra_info("socket")
            if peer.fileno() < 0:
                return None
            self._socket = socket.socket(peer.family, peer.type, peer.proto, fileno=os.dup(peer.fileno()))
        self._is_used = True
        return self._socket

    def give_back(self) -> None:
        """It is not used any more."""
        self._is_used = False
        if self._is_shut:
            self.close()

    def close(self) -> None:
        """Let go of the descriptor, which keeps the connection open; if it is in use, as soon as it is given back."""
        self._is_shut = self._is_used
        if self._socket is not None and not self._is_used:
            self._socket.close()
            self._socket = None


async def send_file(connection: "Connection", delivery: "Delivery", head: bytes, span: tuple[int, int, int]) -> None:
    """Send `head` and then bytes of a file; returns when the kernel has taken them, or the client is gone.

    Args:
        connection: A plain one.
        delivery: Counts the file's bytes as they leave.
        head: The answer's header, or nothing.
        span: Descriptor, offset and count of bytes.
    """
    if connection.transport.get_write_buffer_size():
        await _flush(connection)
    out = connection.side_door.take(connection.transport)
    if out is None:
        return
    try:
        await _send_head(connection, out, head)
        await _send_span(connection, delivery, out, span)
    except (BrokenPipeError, ConnectionResetError):
        connection.abort()
    finally:
        connection.side_door.give_back()


async def _flush(connection: "Connection") -> None:
    """Wait until the transport has nothing left to write."""
    transport = connection.transport
    transport.set_write_buffer_limits(high=0)
    try:
        await connection.written()
    finally:
        if not transport.is_closing():
            transport.set_write_buffer_limits(high=_DEFAULT_HIGH)


async def _send_head(connection: "Connection", out: socket.socket, head: bytes) -> None:
    while head and not connection.transport.is_closing():
        try:
            head = head[out.send(head, socket.MSG_MORE) :]
        except BlockingIOError:
            await _writable(connection, out)


async def _send_span(
    connection: "Connection", delivery: "Delivery", out: socket.socket, span: tuple[int, int, int]
) -> None:
    file, offset, count = span
    target, stop, turn = out.fileno(), offset + count, offset + STEP
    while offset < stop and not connection.transport.is_closing():
        step = min(stop - offset, STEP)
        if not cached(file, offset + step - 1):
            await asyncio.to_thread(read_in, file, offset, step)
        try:
            sent = os.sendfile(target, file, offset, step)
        except BlockingIOError:
            await _writable(connection, out)
            continue
        if not sent:
            raise FileTooShort(f"{stop - offset} bytes are missing")
        offset += sent
        delivery.sent += sent
        if sent < step:
            await _writable(connection, out)
        elif stop > offset >= turn:
            turn = offset + STEP
            await asyncio.sleep(0)


async def _writable(connection: "Connection", out: socket.socket) -> None:
    """Wait until the socket takes more, or the connection is lost."""
    connection.pause_writing()
    connection.loop.add_writer(out.fileno(), connection.resume_writing)
    try:
        await connection.written()
    finally:
        connection.loop.remove_writer(out.fileno())


def cached(file: int, offset: int) -> bool:
    """Whether this byte, and so most likely those before it, can be had without waiting for the disk."""
    try:
        return os.preadv(file, (_probe,), offset, os.RWF_NOWAIT) == 1
    except OSError:  # not cached, or a file system that cannot say
        return False


def read_in(file: int, offset: int, count: int) -> None:
    """Bring bytes into the page cache, copying none. In a thread: it waits for the disk, the loop must not."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.sendfile(null, file, offset, count)
    except OSError:
        os.pread(file, count, offset)
    finally:
        os.close(null)
