"""A wire between a client and a registry that can be watched, and cut."""

import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 16
_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Seen:
    """One request that went through."""

    method: str
    path: str
    range: str | None
    status: int


class Link:
    """Forwards HTTP to the registry on `upstream`, whole bodies at a time, and notes what it saw.

    After `cut_next_blob(n)` the next answer to a blob's GET that is longer
    than `n` bytes ends there, with the connection.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.seen: list[Seen] = []
        self._cut: int | None = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"link": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"localhost:{self._server.server_address[1]}"

    def cut_next_blob(self, after: int) -> None:
        """Let `after` bytes of the next long blob through, and no more."""
        with self._lock:
            self._cut = after

    def take_cut(self, length: int) -> int | None:
        """Where to cut an answer of this length; whoever is told so is the only one."""
        with self._lock:
            if self._cut is None or length <= self._cut:
                return None
            cut, self._cut = self._cut, None
            return cut

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    link: Link
    protocol_version = "HTTP/1.1"
    timeout = 60

    def _forward(self) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.link.upstream, timeout=60)
        body = b"".join(self._chunks()) if "chunked" in self.headers.get("Transfer-Encoding", "") else self._whole()
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # a name may come several times: docker sends six Accept lines
            if name.lower() not in _HOP | {"content-length"}:
                upstream.putheader(name, value)
        if body is not None:
            upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        answer = upstream.getresponse()
        self.link.seen.append(Seen(self.command, self.path, self.headers.get("Range"), answer.status))
        self._answer(answer)
        upstream.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

    def _whole(self) -> bytes | None:
        length = self.headers.get("Content-Length")
        return None if length is None else self.rfile.read(int(length))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or answer.status in (204, 304):
            return
        left = self._allowed(answer)
        while left > 0 and (piece := answer.read(min(PIECE, left))):
            self.wfile.write(piece)
            left -= len(piece)
        self.close_connection = self.close_connection or (left == 0 and answer.length != 0)

    def _allowed(self, answer: http.client.HTTPResponse) -> int:
        length = int(answer.getheader("Content-Length", "0"))
        cut = self.link.take_cut(length) if self.command == "GET" and "/blobs/" in self.path else None
        return length if cut is None else cut

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the tests read `seen`."""
