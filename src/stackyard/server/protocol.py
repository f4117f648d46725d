"""HTTP/1.1 on one connection: a parser finds the requests, an `Exchange` answers each, a tick looks after slow clients.

Parser and loop are those of uvicorn, whose protocol was read and measured first. Early answers, body and write rates,
sendfile, bounds on pipelining and on the header would have replaced nearly each of its methods; what was left of it
cost a third more CPU per request and twice as much per byte of a body.
"""

import asyncio
import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import IPv6Address
from typing import Any, Final

import structlog

from stackyard.oci.errors import BadRequest
from stackyard.server.exchange import STATUS_LINES, Exchange
from stackyard.server.pace import Pace, acknowledged, unsent
from stackyard.server.phases import Phase
from stackyard.server.requests import Refused, RequestParser
from stackyard.server.roster import Roster
from stackyard.server.sendfile import SideDoor

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
"""May have a method `is_prompt`, see `Exchange.begin`."""
IsPrompt = Callable[[MutableMapping[str, Any]], bool]

_log = structlog.get_logger("server")

HIGH_WATER = 256 * 1024  # bytes of a body kept for an application that is busy; then the client is made to wait
MOST_PIPELINED = 64  # requests sent ahead; clients that do so at all send a handful


class Connection(asyncio.Protocol):
    """One client, one request at a time, in the order they came."""

    def __init__(self, roster: Roster, application: Application) -> None:
        self.roster: Final = roster
        self.loop: Final = roster.loop
        self.application: Final = application
        self.is_prompt: Final[IsPrompt] = getattr(application, "is_prompt", _never)
        self.parser = RequestParser(self, roster.limits.header_size)
        self.transport: Any = None
        self.secure = False

        self.phase = Phase.HEADER
        self.is_fresh = True
        self.since = roster.now
        self.moved_at = roster.now
        self.pace = Pace(roster.limits)

        self.running: Exchange | None = None
        self.arriving: Exchange | None = None
        self.first = True
        self.prompt = False
        self.pipeline: deque[Exchange] = deque()
        self.deaf = False
        self.ended = False
        self.read_paused = False
        self.write_waiter: asyncio.Future[None] | None = None
        self.write_paused = False
        self.side_door = SideDoor()

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.secure = transport.get_extra_info("sslcontext") is not None
        self.parser.scheme = "https" if self.secure else "http"
        self.parser.client, self.parser.server = _addresses(transport.get_extra_info("socket"))
        self.roster.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.phase = Phase.CLOSING
        self.roster.forget(self)
        self.pipeline.clear()
        for exchange in (self.running, self.arriving):
            if exchange is not None:
                exchange.disconnect()
        self.resume_writing()
        self.side_door.close()
        self.parser.close()

    def eof_received(self) -> bool:
        """Keep a half-closed connection open as long as there is something to answer; TLS cannot."""
        if self.secure or self.running is None:
            return False
        self.deaf = self.ended = True
        self.running.keep_alive = False
        if self.arriving is not None:
            self.arriving.truncate()
        return True

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.write_waiter is not None:
            waiter, self.write_waiter = self.write_waiter, None
            if not waiter.done():
                waiter.set_result(None)

    async def written(self) -> None:
        """Wait until the transport takes more, or is gone."""
        while self.write_paused:
            self.write_waiter = self.loop.create_future()
            await self.write_waiter

    def pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase >= Phase.SKIPPING:
            self.moved_at = self.roster.now
            if phase is not Phase.SKIPPING:
                return
        if not self.deaf:
            self._parse(data)
        elif phase is Phase.BUSY:
            self.pause_reading()

    def _parse(self, data: bytes) -> None:
        self.first = True
        try:
            self.parser.feed(data)
        except Refused as refused:
            self._refuse(refused)

    # -- the parser's side

    def request_begun(self) -> None:
        """The first byte of a request is there."""
        if self.phase is Phase.IDLE:
            self.phase, self.since = Phase.HEADER, self.roster.now

    def request_received(self, scope: dict[str, Any], head: RequestParser) -> None:
        """Answer the request now, or after those before it. Raises Refused when those are too many."""
        self.is_fresh = False
        exchange = Exchange(
            self,
            scope,
            keep_alive=head.keep_alive and not self.roster.draining,
            expects=head.expects,
            length=head.length,
        )
        self.arriving = exchange
        # Of those that arrive together only the first: between the others, other connections have their turn.
        first, self.first = self.first, False
        if self.running is None:
            self.prompt = first and not head.has_body and self.is_prompt(scope)
            self._start(exchange)
            return
        if len(self.pipeline) >= MOST_PIPELINED:
            raise Refused(400, "too many requests were sent ahead of their answers")
        self.pipeline.append(exchange)
        self.pause_reading()

    def body_received(self, body: bytes) -> None:
        """Keep the next bytes of the body for the application; when it has enough, the client waits."""
        exchange = self.arriving
        if exchange is None or exchange.complete:
            return
        self.pace.moved += len(body)
        if exchange.feed(body) > HIGH_WATER:
            self.pause_reading()

    def request_ended(self) -> None:
        """The body is complete."""
        exchange, self.arriving = self.arriving, None
        if exchange is not None:
            exchange.end()
            if self.prompt:
                self.prompt = False
                exchange.begin(self.application)
        if self.phase is Phase.SKIPPING:
            self._wait_for_next()

    # -- from one request to the next

    def _start(self, exchange: Exchange) -> None:
        self.phase = Phase.BUSY
        self.running = exchange
        if not self.prompt:  # otherwise it begins in a moment, when its end is known
            exchange.start(self.application)

    def answered(self, exchange: Exchange) -> None:
        """The answer's last byte was handed over: go on to the next request, or close."""
        self.running = None
        if self.transport.is_closing():
            return
        if not exchange.keep_alive or self.deaf:
            self._close(swallow=exchange.more_body or self.deaf)
        elif exchange.more_body:
            self.phase, self.since, self.moved_at = Phase.SKIPPING, self.roster.now, self.roster.now
            self.resume_reading()
        else:
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        if self.pipeline:
            self._start(self.pipeline.popleft())
        elif self.roster.draining:
            self._close(swallow=False)
        else:
            self.phase = Phase.HEADER if self.parser.in_header else Phase.IDLE
            self.since = self.roster.now
            self.resume_reading()

    def _close(self, *, swallow: bool) -> None:
        """Close; with `swallow` only after the client had time to read the answer while still sending.

        Closing with unread bytes in the kernel's buffer sends a reset, and a reset makes the client's kernel throw
        away the answer that lies there unread.
        """
        self.since = self.moved_at = self.roster.now
        if self.ended or not swallow:
            self.phase = Phase.CLOSING
            self.transport.close()
            return
        self.phase = Phase.LINGERING
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def abort(self) -> None:
        """Let go of the client without another word."""
        if self.running is not None:
            self.running.disconnect()
        self.phase, self.since = Phase.CLOSING, self.roster.now
        self.transport.abort()

    def drain(self, *, idle: bool) -> None:
        """See `Watched`."""
        if self.phase is Phase.BUSY and self.running is not None:
            self.running.keep_alive = False
            self.pipeline.clear()
        elif idle and self.phase <= Phase.IDLE:
            self._close(swallow=False)

    def _refuse(self, refused: Refused) -> None:
        """Answer a request that never became one, unless an earlier one is still being answered.

        No access line tells of it: that needs a method and a path. So the log of events does.
        """
        self.deaf = True
        client = self.parser.client[0] if self.parser.client else ""
        _log.info("a request was refused unread", client=client, status=refused.status, reason=refused.message)
        running = self.running
        if running is not None and (running.started or not running.more_body):
            running.keep_alive = False
            self.pipeline.clear()
            return
        if running is not None:
            running.disconnect()
            self.running = None
        self.transport.write(self.refusal_bytes(refused.status, refused.message))
        self._close(swallow=True)

    def refusal_bytes(self, status: int, message: str, code: str = BadRequest.code) -> bytes:
        """A whole answer in the specification's error format, after which the connection is closed."""
        error = {"code": code, "message": message}
        body = json.dumps({"errors": [error]}).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        return b"".join((STATUS_LINES[status], self.roster.date, head, body))

    # -- slow clients

    def check(self, now: float) -> None:
        """Let go of a client that took too long; see `Limits` for what is too long."""
        limits, phase, waited = self.roster.limits, self.phase, now - self.since
        if phase is Phase.BUSY:
            self._check_pace(now)
        elif phase is Phase.IDLE:
            self.side_door.close()  # a client that rests needs one descriptor, not two
            if waited > limits.idle_timeout.total_seconds():
                self._close(swallow=False)
        elif phase is Phase.HEADER:
            if waited > limits.header_timeout.total_seconds():
                self._give_up_waiting()
        elif phase is Phase.CLOSING:
            if waited > limits.rate_window.total_seconds():
                self.transport.abort()
        elif max(waited - limits.linger.total_seconds(), now - self.moved_at - limits.linger_idle.total_seconds()) > 0:
            self.abort()

    def _give_up_waiting(self) -> None:
        if self.parser.in_header:
            self._refuse(Refused(408, "the request's header did not arrive in time"))
        else:
            self._close(swallow=False)

    def _check_pace(self, now: float) -> None:
        exchange = self.running
        if exchange is None:
            return
        if exchange.waiting and exchange.more_body:
            too_slow = self.pace.too_slow(now, self.pace.moved)
        elif self.write_paused:
            too_slow = self.pace.too_slow(now, self._delivered(exchange))
        else:
            self.pace.forgive()
            return
        if too_slow:
            exchange.delivery.too_slow = True
            self.abort()

    def _delivered(self, exchange: Exchange) -> int:
        """Bytes that have reached the client's kernel, counted from any beginning."""
        taken = acknowledged(self.transport.get_extra_info("socket")) if self.secure else None
        return exchange.delivery.sent - unsent(self.transport) if taken is None else taken


def _never(scope: MutableMapping[str, Any]) -> bool:
    return False


def _addresses(peer: socket.socket | None) -> tuple[tuple[str, int] | None, tuple[str, int | None] | None]:
    """The client's and our own address; None for the client of a unix socket."""
    if peer is None:
        return None, None
    try:
        client, server = peer.getpeername(), peer.getsockname()
    except OSError:  # already gone
        return None, None
    if isinstance(server, str):
        return None, (server, None)
    return (client_address(client), client[1]), (client_address(server), server[1])


def client_address(name: Any) -> str:
    """The address in a socket's name, IPv4 as IPv4 also where it arrived on an IPv6 socket; "" for unix sockets."""
    address: str = name[0] if name else ""
    if address.startswith("::ffff:") and (mapped := IPv6Address(address.partition("%")[0]).ipv4_mapped):
        return str(mapped)
    return address
