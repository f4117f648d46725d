"""Bytes into requests: httptools parses, what it leaves to its caller is checked here.

The parser itself refuses what smuggles requests past proxies: a Content-Length beside a Transfer-Encoding, two of one,
a bare line feed, a folded header, a space before a colon, control characters.
"""

from typing import Any, Final, NoReturn, Protocol
from urllib.parse import unquote

import httptools

_FRAMING: Final = frozenset((b"host", b"content-length", b"expect", b"transfer-encoding"))
_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_HEADER_TOO_LARGE: Final = "the request's header is too large"
_SPACE: Final = b" \t"


class Refused(Exception):
    """These bytes are no request that could be answered otherwise."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Receiver(Protocol):
    """Whom requests are told to, piece by piece."""

    def request_begun(self) -> None:
        """The first byte of a request is there."""
        ...

    def request_received(self, scope: dict[str, Any], head: "RequestParser") -> None:
        """A request's header is complete; `head` holds what the scope does not. May raise Refused."""
        ...

    def body_received(self, body: bytes) -> None:
        """The next bytes of its body."""
        ...

    def request_ended(self) -> None:
        """Its body is complete."""
        ...


class RequestParser:
    """The requests of one connection, in order."""

    __slots__ = (
        "_fed",
        "_framing",
        "_headers",
        "_hosts",
        "_limit",
        "_moved",
        "_parser",
        "_receiver",
        "_refusal",
        "_url",
        "chunked",
        "client",
        "expects",
        "in_header",
        "keep_alive",
        "length",
        "scheme",
        "server",
    )

    def __init__(self, receiver: Receiver, limit: int) -> None:
        """Tell requests to `receiver`; a header may have `limit` bytes."""
        self._receiver: Receiver | None = receiver
        self._limit = limit
        self._parser: Any = httptools.HttpRequestParser(self)
        self._refusal: Refused | None = None
        self._fed = 0
        self._framing = 0
        self._moved = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._hosts = 0
        self.in_header = False
        """A header has begun and is not complete."""
        self.expects = False
        """The client waits for 100 before it sends its body."""
        self.length: int | None = None
        """Bytes of the body, where the client says so."""
        self.chunked = False
        """The client does not say how long the body will be."""
        self.keep_alive = False
        self.scheme = "http"
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None

    @property
    def has_body(self) -> bool:
        """Whether something follows the header; if not, the request ends with it."""
        return bool(self.length or self.chunked)

    def close(self) -> None:
        """Tell nobody any more."""
        self._parser = self._receiver = None

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raises Refused, and is of no use after that."""
        size = len(data)
        self._fed += size
        self._moved = False
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError as error:
            raise self._refusal or Refused(400, f"malformed request: {error}") from None
        if self.in_header and self._fed > self._limit:
            raise Refused(431, _HEADER_TOO_LARGE)
        self._framing = 0 if self._moved else self._framing + size
        if self._framing > self._limit:
            # A chunk's extension or a trailer without end; the parser keeps what it has of one until it is whole.
            raise Refused(431, _HEADER_TOO_LARGE)

    def _feed(self, data: bytes) -> bytes:
        """Parse; returns what follows a request to upgrade, which is answered as the HTTP/1.1 it is."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        return b""

    # -- called by httptools

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._hosts = 0
        self.expects = False
        self.length = None
        self.chunked = False
        self.in_header = True
        self._receiver.request_begun()  # type: ignore[union-attr]

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_header:
            return  # a trailer: none may pass for a header (RFC 9110, 6.5.1), and nothing here asks for one
        name = name.lower()
        if name in _FRAMING:
            self._note(name, value.lower().rstrip(_SPACE))
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_header = False
        if self._fed > self._limit:
            self._check_size()
        parser = self._parser
        self._moved = True
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(505, "HTTP/1.1 and 1.0 are spoken here")
        method = parser.get_method().decode("ascii")
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            self._refuse(400, "a request needs one Host header")
        path, _, query = self._target(method).partition(b"?")
        text = path.decode("ascii")
        self.keep_alive = version != "1.0" and parser.should_keep_alive()
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": self.scheme,
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "client": self.client,
            "server": self.server,
            "state": {},
        }
        try:
            self._receiver.request_received(scope, self)  # type: ignore[union-attr]
        except Refused as refused:
            self._refusal = refused  # httptools hides what its callbacks raise
            raise

    def on_body(self, body: bytes) -> None:
        self._moved = True
        self._receiver.body_received(body)  # type: ignore[union-attr]

    def on_message_complete(self) -> None:
        self._fed = 0
        self._receiver.request_ended()  # type: ignore[union-attr]

    # -- what httptools leaves to its caller

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self.length = int(value)
        elif name == b"expect":
            self.expects = value == b"100-continue"
        elif value == b"chunked":
            self.chunked = True
        else:
            self._refuse(400, "no transfer-encoding but chunked is understood")

    def _target(self, method: str) -> bytes:
        """Path and query of the request target, in any of its forms (RFC 9112, 3.2)."""
        url = self._url
        if url.startswith(b"/") or url == b"*":
            return url
        if method == "CONNECT":
            self._refuse(400, "this is not a proxy")
        parsed = httptools.parse_url(url)
        path: bytes = parsed.path or b"/"
        return path + b"?" + parsed.query if parsed.query else path

    def _check_size(self) -> None:
        """Count the header alone: what was fed may hold a body too."""
        size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > self._limit:
            self._refuse(431, _HEADER_TOO_LARGE)

    def _refuse(self, status: int, message: str) -> NoReturn:
        self._refusal = Refused(status, message)
        raise self._refusal
