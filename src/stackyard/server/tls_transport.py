"""TLS on one connection, as an asyncio transport: OpenSSL reads and writes the socket itself.

The event loop's own TLS passes all bytes through buffers in memory, two more copies of each, and it can use but the
OpenSSL that Python was built with. pyOpenSSL speaks to the one that comes with `cryptography`, which knows newer
instructions of the processor.

OpenSSL's rule for all of it: a write that the socket could not take whole has been begun, and until it is done the
same bytes have to be presented again, and nothing else may be written.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from OpenSSL import SSL

RECORD: Final = 16 * 1024  # bytes that a record holds at most
MOST_RECORDS: Final = 16  # read at once; then other connections have their turn
SHORT: Final = 1024  # bytes; after a record below it most likely nothing follows, and asking would cost a system call
HIGH: Final = 64 * 1024  # bytes waiting; beyond it the protocol is told to pause, as by asyncio's own transports

Bytes: TypeAlias = bytes | bytearray | memoryview


async def handshake(loop: asyncio.AbstractEventLoop, peer: socket.socket, context: SSL.Context) -> SSL.Connection:
    """Agree on keys with a client.

    Raises:
        SSL.Error: The two cannot agree, or (SysCallError) the client left.
    """
    session = SSL.Connection(context, peer)
    session.set_accept_state()
    while True:
        try:
            session.do_handshake()
        except SSL.WantReadError:
            await _ready(loop.add_reader, loop.remove_reader, peer.fileno())
        except SSL.WantWriteError:
            await _ready(loop.add_writer, loop.remove_writer, peer.fileno())
        else:
            return session


async def _ready(add: Callable[..., None], remove: Callable[[int], Any], file: int) -> None:
    event = asyncio.Event()
    add(file, event.set)
    try:
        await event.wait()
    finally:
        remove(file)


class TlsTransport(asyncio.Transport):
    """Takes what a protocol writes, encrypted, to a socket, and what arrives, decrypted, to the protocol."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, peer: socket.socket, session: SSL.Connection, protocol: asyncio.Protocol
    ) -> None:
        """Begin.

        Args:
            loop: Watches the socket.
            peer: Connected, non-blocking; ours from now on.
            session: The result of the handshake on it.
            protocol: Told at once that the connection is made.
        """
        super().__init__({"socket": peer, "sslcontext": session.get_context()})
        self._loop: Final = loop
        self._peer: Final = peer
        self._file: Final = peer.fileno()
        self._session = session
        self._receive = session.recv
        self._send = session.send
        self._protocol: Final = protocol
        self._pending: deque[bytes] = deque()
        self._waiting = 0
        self._begun = False
        self._high, self._low = HIGH, HIGH // 4
        self._paused = False
        self._reading = False
        self._watching = False
        self._read_needs_write = False
        self._closing = False
        self._lost = False
        if peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol.connection_made(self)
        self.resume_reading()

    # -- reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._file)

    def resume_reading(self) -> None:
        if not (self._reading or self._closing):
            self._reading = True
            self._loop.add_reader(self._file, self._readable)

    def is_reading(self) -> bool:
        return self._reading

    def _readable(self) -> None:
        try:
            data = self._receive(RECORD)
        except SSL.Error as error:
            self._not_received(error)
            return
        if len(data) >= SHORT:
            data = self._with_more(data)
        self._protocol.data_received(data)

    def _with_more(self, data: bytes) -> bytes:
        """Put the next records behind a first one."""
        pieces = [data]
        try:
            while len(pieces) < MOST_RECORDS and len(pieces[-1]) >= SHORT:
                pieces.append(self._receive(RECORD))
        except SSL.WantReadError:
            pass
        except SSL.Error:  # told again, when what came before it is dealt with
            self._loop.call_soon(self._look_again)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _look_again(self) -> None:
        if not self._closing:
            self._readable()

    def _not_received(self, error: SSL.Error) -> None:
        """Wait, or end. An end without TLS's word for it is one as well: HTTP says itself where a message ends."""
        if isinstance(error, SSL.WantWriteError):
            self._read_needs_write = True
            self._loop.remove_reader(self._file)
            self._watch()
        elif isinstance(error, SSL.ZeroReturnError | SSL.SysCallError):
            if not self._protocol.eof_received():
                self.close()
        elif not isinstance(error, SSL.WantReadError):  # no valid record
            self._lose(error)

    # -- writing

    def write(self, data: Bytes) -> None:
        if self._closing or not data:
            return
        if not (self._pending or self._begun) and self.put(data):
            return
        self._keep(bytes(data))
        self._watch()
        if self._waiting > self._high:
            self._pause()

    def _keep(self, data: bytes) -> None:
        self._waiting += len(data)
        # Small pieces become one record, but the first, which may have been begun.
        if len(self._pending) > 1 and len(self._pending[-1]) + len(data) <= RECORD:
            data = self._pending.pop() + data
        self._pending.append(data)

    def put(self, data: Bytes) -> bool:
        """Write now, past what waits, which must be nothing; False: put the same bytes again once `wait` is over.

        True also when the connection is lost; it is closing then.
        """
        if self._lost:
            return True
        try:
            self._send(data)
        except SSL.WantWriteError:
            self._begun = True
            return False
        except SSL.Error as error:  # WantReadError too: without renegotiation no write waits for the client
            self._lose(error)
        self._begun = False
        return True

    def wait(self) -> None:
        """Pause the protocol's writing until the socket takes more, or the connection is lost."""
        if not self._lost:
            self._watch()
            self._pause()

    def _writable(self) -> None:
        if self._read_needs_write:
            self._read_needs_write = self._reading = False
            self.resume_reading()
            self._readable()
        while self._pending:
            if not self.put(self._pending[0]):
                return
            if not self._lost:
                self._waiting -= len(self._pending.popleft())
        self._unwatch()
        if self._closing:
            self._end()
        elif self._waiting <= self._low:
            self._resume()

    def _watch(self) -> None:
        if not (self._watching or self._lost):
            self._watching = True
            self._loop.add_writer(self._file, self._writable)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_writer(self._file)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        return False

    # -- the end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Take nothing more, write what waits, say that it was all, and let go."""
        if self._closing:
            return
        self.pause_reading()
        self._closing = True
        if not self._pending:
            self._end()

    def abort(self) -> None:
        """Let go at once."""
        self._lose(None)

    def _end(self) -> None:
        # After a record that was only begun nothing may be said; nor would it be true that it was all.
        if not (self._begun or self._lost):
            try:
                self._session.shutdown()
            except SSL.WantWriteError:
                self._watch()
                return
            except SSL.Error:  # gone already
                pass
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self.pause_reading()
        self._unwatch()
        self._lost = self._closing = True
        self._pending.clear()
        self._waiting = 0
        self._loop.call_soon(self._let_go, error)

    def _let_go(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            with suppress(OSError):
                self._peer.close()
            # The connection refers to us, and OpenSSL's memory is not to wait for the collector.
            del self._session, self._receive, self._send
