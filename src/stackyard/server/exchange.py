"""One request and its answer: the ASGI side of a connection."""

import asyncio
from collections.abc import Coroutine, MutableMapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import structlog

from stackyard.oci.errors import SizeInvalid
from stackyard.server import prompt
from stackyard.server.delivery import Delivery
from stackyard.server.mapped import send_encrypted
from stackyard.server.sendfile import SENDFILE, send_file

if TYPE_CHECKING:
    from stackyard.server.protocol import Application, Connection

Message = MutableMapping[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

BIG = 64 * 1024  # bytes; a larger body is not copied behind its header
SMALL_REST = 64 * 1024  # bytes of an unread body worth swallowing to keep the connection

_log = structlog.get_logger("server")


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())


STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}


class ClientDisconnected(OSError):
    """The client is gone: nobody reads what the application sends (ASGI 2.4: `send` raises an OSError)."""


class Exchange:
    """One request and its answer.

    The answer's header waits for the first piece of its body, so that both leave in one write.
    """

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_chunks",
        "_ended",
        "_head",
        "_length",
        "_queued",
        "_received",
        "_rest",
        "_task",
        "_waiter",
        "complete",
        "connection",
        "delivery",
        "disconnected",
        "expects",
        "keep_alive",
        "method",
        "more_body",
        "scope",
        "started",
        "truncated",
    )

    def __init__(
        self,
        connection: "Connection",
        scope: dict[str, Any],
        *,
        keep_alive: bool,
        expects: bool,
        length: int | None,
    ) -> None:
        self.connection: Final = connection
        self.scope: Final = scope
        self.method: Final[str] = scope["method"]
        self.delivery: Final = Delivery()
        scope["extensions"] = {"stackyard.delivery": self.delivery, SENDFILE: {}}
        self.keep_alive = keep_alive
        self.expects = expects
        self._length = length
        self.disconnected = False
        self.truncated = False
        self._task: asyncio.Task[None] | None = None

        self.more_body = True
        self._chunks: list[bytes] = []
        self._queued = 0
        self._received = 0
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

        self.started = False
        self.complete = False
        self._head = b""
        self._chunked = False
        self._bodiless = False
        self._rest: int | None = None

    def start(self, application: "Application") -> None:
        """Run the application on this request."""
        self._go_on(self._run(application))

    def begin(self, application: "Application") -> None:
        """As `start`, but at once, and in a task only from where it first waits.

        Most answers to GET never wait: what they need is in memory or in the page cache. A task for each, with its way
        through the loop, costs a fifth of all that they cost. Only for applications that say that they can do without.
        """
        rest = prompt.begin(self._run(application))
        if rest is not None:
            self._go_on(rest)

    def _go_on(self, coroutine: Coroutine[Any, Any, None]) -> None:
        connection = self.connection
        self._task = connection.loop.create_task(coroutine)
        connection.roster.tasks.add(self._task)

    # -- the connection's side

    @property
    def waiting(self) -> bool:
        """Whether the application waits for more of the body."""
        return self._waiter is not None

    def feed(self, body: bytes) -> int:
        """Take the next bytes of the body; returns how many bytes now wait for the application."""
        self._chunks.append(body)
        self._queued += len(body)
        self._received += len(body)
        if self._waiter is not None:
            self._wake()
        return self._queued

    def end(self) -> None:
        """The body is complete."""
        self.more_body = False
        if self._waiter is not None:
            self._wake()

    def disconnect(self) -> None:
        """The client is gone."""
        self.disconnected = True
        if not self.complete:
            self.delivery.cut_off = True
        self._wake()

    def truncate(self) -> None:
        """The body will not be completed, but the client still reads."""
        self.truncated = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(None)

    # -- the application's side

    async def receive(self) -> Message:
        """The next bytes of the body, as soon as there are any; then `http.disconnect` once the client is gone."""
        if self.expects and self.more_body and not self.started:
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.expects = False
        while not (self._chunks or self._over()):
            self.connection.resume_reading()
            self._waiter = self.connection.loop.create_future()
            await self._waiter
        return self._next()

    def _over(self) -> bool:
        return self.disconnected or self.truncated or self.complete or not (self.more_body or self._ended)

    def _next(self) -> Message:
        if self._chunks:
            chunks, self._chunks, self._queued = self._chunks, [], 0
            self._ended = not self.more_body
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            return {"type": "http.request", "body": body, "more_body": self.more_body}
        if self.more_body or self._ended:
            return {"type": "http.disconnect"}
        self._ended = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        """Hand over the next part of the answer.

        Raises:
            ClientDisconnected: Nobody is there to read it.
        """
        connection = self.connection
        if connection.write_paused:
            await connection.written()
        if self.disconnected:
            raise ClientDisconnected
        kind = message["type"]
        if kind == "http.response.body":
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start":
            self._send_start(message["status"], message.get("headers", ()))
        elif kind == SENDFILE:
            span = (message["file"], message["offset"], message["count"])
            await self._send_file(span, more=message.get("more_body", False))
        else:
            raise RuntimeError(f"an application may not send {kind!r}")

    def _send_start(self, status: int, headers: Headers) -> None:
        if self.started:
            raise RuntimeError("the answer was started already")
        if self.more_body:
            self._leave_body()
        lines = [STATUS_LINES[status], self.connection.roster.date]
        length: int | None = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        self._frame(lines, status, length)
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        head = b"".join(lines)
        # Values may hold what a client sent (a media type, a name): no line may come of them that we did not write.
        count = len(lines) + (not self.keep_alive)
        if head.count(b"\n") != count or head.count(b"\r") != count or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        self._head, self.started = head, True

    def _leave_body(self) -> None:
        """Decide, as the answer starts before the body was read, whether the connection is worth keeping."""
        if self.expects or self._length is None or self._length - self._received > SMALL_REST:
            self.keep_alive = False

    def _frame(self, lines: list[bytes], status: int, length: int | None) -> None:
        """Decide how the client sees where the body ends (RFC 9112, 6.3)."""
        if self.method == "HEAD" or status in (204, 304):
            self._bodiless = True
        elif length is not None:
            self._rest = length
        elif self.scope["http_version"] == "1.0":
            self.keep_alive = False
        else:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")

    def _send_body(self, body: bytes, *, more: bool) -> None:
        self._account(len(body), more=more)
        if self._bodiless:
            body = b""
        self.delivery.sent += len(body)
        if self._chunked:
            body = b"%b%b" % (b"%x\r\n%b\r\n" % (len(body), body) if body else b"", b"" if more else b"0\r\n\r\n")
        self._write(body)
        if not more:
            self._finish()

    def _account(self, size: int, *, more: bool) -> None:
        """Hold the application to what its header announced."""
        if not self.started or self.complete:
            raise RuntimeError("a body was sent before its header, or after the answer's end")
        if self._rest is None or self._bodiless:
            return
        self._rest -= size
        if self._rest < 0 or (self._rest and not more):
            raise RuntimeError("the answer's body is not as long as its content-length says")

    def _write(self, body: bytes) -> None:
        transport = self.connection.transport
        if head := self._head:
            self._head = b""
            if len(body) < BIG:
                transport.write(head + body)
            else:
                transport.writelines((head, body))
        elif body:
            transport.write(body)

    async def _send_file(self, span: tuple[int, int, int], *, more: bool) -> None:
        if self._chunked:
            raise RuntimeError(f"{SENDFILE} needs a content-length")
        self._account(span[2], more=more)
        if not self._bodiless:
            head, self._head = self._head, b""
            send = send_encrypted if self.connection.secure else send_file
            await send(self.connection, self.delivery, head, span)
        else:
            self._write(b"")
        if self.disconnected or self.connection.transport.is_closing():
            self.disconnect()  # the transport may not have told yet
            raise ClientDisconnected
        if not more:
            self._finish()

    def _finish(self) -> None:
        self.complete = True
        self._wake()
        self.connection.answered(self)

    # -- the application itself

    async def _run(self, application: "Application") -> None:
        try:
            await application(self.scope, self.receive, self.send)
            if not self.complete and not self.disconnected:
                self._incomplete()
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            self.connection.abort()
            raise
        except Exception:
            _log.exception("a request failed", method=self.method, path=self.scope["path"])
            self._fail(500, "internal error", "UNKNOWN")
        finally:
            if self._task is not None:
                self.connection.roster.tasks.discard(self._task)
                self._task = None

    def _incomplete(self) -> None:
        if self.truncated:
            self._fail(400, "the body is shorter than announced", SizeInvalid.code)
        else:
            _log.error("a request was not answered", method=self.method, path=self.scope["path"])
            self._fail(500, "internal error", "UNKNOWN")

    def _fail(self, status: int, message: str, code: str) -> None:
        """Answer in the application's place, or where its answer is under way already, break it off visibly."""
        if self.complete or self.disconnected:
            return
        if self.started and not self._head:
            self.connection.abort()
            return
        self.complete = True
        self.keep_alive = False
        self.connection.transport.write(self.connection.refusal_bytes(status, message, code))
        self.connection.answered(self)
