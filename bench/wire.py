"""A client that costs little: HTTP/1.1 with keep-alive on raw sockets, no more of it than registries answer."""

import asyncio
import base64
import socket
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from bench.servers import PASSWORD, USER, Server

ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}

Body = Sequence[bytes | memoryview]


@dataclass(frozen=True)
class Answer:
    """An answer read to its end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unexpected(Exception):
    """A server answered what it should not have: the measurement means nothing."""


class Connection:
    """One connection to a server that speaks plain HTTP."""

    def __init__(self, server: Server) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = f"127.0.0.1:{server.port}"
        self._address = ("127.0.0.1", server.port)
        self._socket: socket.socket | None = None

    async def request(
        self, method: str, path: str, body: Body = (), *, expect: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            Unexpected: The status is not `expect`.
        """
        if self._socket is None:
            self._socket = await self._connect()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {sum(map(len, body))}")
        await self._send("\r\n".join([*lines, "\r\n"]).encode(), body)
        answer = await self._receive()
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        if answer.status != expect:
            raise Unexpected(f"{method} {path}: {answer.status} {answer.body[:500]!r}")
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.sock_connect(connection, self._address)
        return connection

    async def _send(self, head: bytes, body: Body) -> None:
        assert self._socket is not None
        # A small body leaves with the head, in one packet, as every real client sends it.
        if body and sum(map(len, body)) < 65536:
            head, body = b"".join([head, *body]), ()
        for part in (head, *body):
            await self._loop.sock_sendall(self._socket, part)

    async def _receive(self) -> Answer:
        assert self._socket is not None
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += await self._more()
        status, _, rest = data[:end].decode("latin-1").partition("\r\n")
        pairs = (line.partition(":") for line in rest.split("\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0"))
        parts, got = [data[end + 4 :]], len(data) - end - 4
        while got < length:
            parts.append(await self._more())
            got += len(parts[-1])
        return Answer(int(status.split()[1]), headers, b"".join(parts))

    async def _more(self) -> bytes:
        assert self._socket is not None
        data = await self._loop.sock_recv(self._socket, 65536)
        if not data:
            raise Unexpected("the server closed the connection")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
