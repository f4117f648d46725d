"""Taking connections from a listening socket that several workers share, so that each gets its part.

The event loop's own server accepts whatever waits in one go: of eight connections opened at once one worker got all,
and its neighbour's CPU lay idle. Here a worker takes one connection per turn, and one that has more connections than
another lets that one go first.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from OpenSSL import SSL

from stackyard.server.balance import FAR
from stackyard.server.protocol import Application, Connection, client_address
from stackyard.server.roster import Roster
from stackyard.server.tls import Certificate, reason
from stackyard.server.tls_transport import TlsTransport, handshake

MOST_PASSES = 20  # turns of the loop in which a worker with fewer connections may take the next one; some 10 us each
STEP_BACK = 0.001  # seconds after these, once, when it has far fewer: it may be waiting for a CPU
EXHAUSTED_PAUSE = 0.1  # seconds before accept is tried again when descriptors or memory ran out
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PLAIN_ON_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)
_TLS_ONLY = b'{"errors":[{"code":"UNSUPPORTED","message":"this port speaks HTTPS, and the request was plain HTTP"}]}'

ApplicationFor = Callable[[socket.socket], Application]

_log = structlog.get_logger("server")


class Acceptor:
    """Takes connections from one listening socket until closed."""

    def __init__(
        self,
        listening: socket.socket,
        roster: Roster,
        application_for: ApplicationFor,
        *,
        ahead: Callable[[], int],
        certificate: Certificate | None = None,
        patience: float,
    ) -> None:
        """Start taking connections.

        Args:
            listening: Non-blocking; shared with other processes.
            roster: Keeps the connections.
            application_for: What answers on a new connection.
            ahead: How far this worker is ahead of the others in connections, see `Balance`.
            certificate: For TLS; asked for its context at each connection.
            patience: Seconds a TLS handshake may take.
        """
        self._loop = roster.loop
        self._listening = listening
        self._roster = roster
        self._application_for = application_for
        self._ahead = ahead
        self._certificate = certificate
        self._patience = patience
        self._passed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(listening.fileno(), self._ready)

    def close(self) -> None:
        """Take those that wait, whose clients may have sent a request already, and then no more.

        Those being opened become connections yet, which the roster, draining, then closes. Cancelling them would be
        wrong: uvloop then closes the socket of a connection that was made already and never says so.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._listening.fileno())
        with suppress(OSError):  # no more wait, or there are no more descriptors
            while True:
                self._take(*self._listening.accept())
        self._listening.close()

    def _ready(self) -> None:
        if self._pass_on():
            return  # called again in the next turn of the loop, if nobody took it
        try:
            peer, address = self._listening.accept()
        except BlockingIOError:  # another worker took it
            return
        except OSError as error:
            if error.errno in _EXHAUSTED:
                _log.error("cannot take more connections", reason=error.strerror)
                self._pause(EXHAUSTED_PAUSE)
            return
        self._take(peer, address)

    def _take(self, peer: socket.socket, address: Any) -> None:
        peer.setblocking(False)
        self._roster.expect(1)
        task = self._loop.create_task(self._open(peer, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pass_on(self) -> bool:
        """Whether to leave the next connection to a worker that has fewer, which it cannot be left to for ever."""
        ahead = self._ahead()
        if ahead and self._passed < MOST_PASSES:
            self._passed += 1
            os.sched_yield()
            return True
        if ahead == FAR and self._passed == MOST_PASSES:
            self._passed += 1
            self._pause(STEP_BACK)
            return True
        self._passed = 0
        return False

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listening.fileno(), self._ready)

    async def _open(self, peer: socket.socket, address: Any) -> None:
        try:
            if self._certificate is None:
                await self._loop.connect_accepted_socket(self._connect(peer), peer)
            else:
                await self._open_tls(peer, self._certificate)
        except (OSError, TimeoutError, SSL.SysCallError) as error:  # came and went: a probe, most often
            _log.debug("a connection was not opened", reason=str(error) or type(error).__name__)
            peer.close()
        except SSL.Error as error:
            _log.info("TLS failed", client=client_address(address), reason=reason(error))
            peer.close()
        except asyncio.CancelledError:
            peer.close()
            raise
        finally:
            self._roster.expect(-1)

    def _connect(self, peer: socket.socket) -> Callable[[], Connection]:
        return partial(Connection, self._roster, self._application_for(peer))

    async def _open_tls(self, peer: socket.socket, certificate: Certificate) -> None:
        async with asyncio.timeout(self._patience):
            first = await self._first_byte(peer)
        if first.isalpha():  # a TLS record begins with 0x16, an HTTP method with a letter
            await self._tell_plain(peer)
            return
        if not first:
            peer.close()
            return
        async with asyncio.timeout(self._patience):
            session = await handshake(self._loop, peer, certificate.context)
        TlsTransport(self._loop, peer, session, self._connect(peer)())

    async def _first_byte(self, peer: socket.socket) -> bytes:
        """The first byte the client sends, which stays there to be read."""
        arrived = asyncio.Event()
        self._loop.add_reader(peer.fileno(), arrived.set)
        try:
            await arrived.wait()
            return peer.recv(1, socket.MSG_PEEK)
        finally:
            self._loop.remove_reader(peer.fileno())

    async def _tell_plain(self, peer: socket.socket) -> None:
        """Answer in the language that was spoken, rather than break off without a word."""
        with peer, suppress(OSError, TimeoutError):
            async with asyncio.timeout(min(self._patience, 1)):
                await self._loop.sock_sendall(peer, _PLAIN_ON_TLS % (len(_TLS_ONLY), _TLS_ONLY))
                peer.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(peer, 4096):
                    pass  # what is left unread would reset the answer away
