"""Starting `program.py`, and speaking to it byte by byte."""

import json
import os
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ports
from tests.support.processes import Child

PROGRAM = Path(__file__).with_name("program.py")


class Server:
    """One running server; its workers' pids are what `/proc` says."""

    def __init__(
        self,
        folder: Path,
        env: dict[str, str] | None = None,
        namespace: bool = False,
        context: ssl.SSLContext | None = None,
        **told: Any,
    ) -> None:
        """`context` is how `wire` and `get` speak to it, when it was told to serve TLS."""
        self.port = 0
        self.context = context
        if "address" not in told:
            self.port = ports.free()
            told["address"] = f"127.0.0.1:{self.port}"
        self.address: str = told["address"]
        before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if namespace else []
        command: list[str | Path] = [*before, sys.executable, PROGRAM, json.dumps(told)]
        self.child = Child(command, log=folder / "server.log", env=env)

    def ready(self) -> "Server":
        self.child.wait_line("READY")
        return self

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def wire(self, *, timeout: float = 30) -> "Wire":
        return Wire(self.port, context=self.context, timeout=timeout)

    def get(self, path: str, *, port: int | None = None, timeout: float = 30) -> "Answer":
        with Wire(port or self.port, context=self.context, timeout=timeout) as wire:
            return wire.request("GET", path)

    def told(self, path: str = "/tell") -> Any:
        return json.loads(self.get(path).body)

    def stop(self) -> int:
        return self.child.stop()

    def __enter__(self) -> "Server":
        return self.ready()

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass
class Answer:
    """One whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Wire:
    """One connection, spoken to in bytes."""

    def __init__(
        self,
        where: int | str,
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        timeout: float = 30,
        host: str = "127.0.0.1",
    ) -> None:
        if isinstance(where, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(where)
        else:
            self.socket = socket.create_connection((host, where), timeout=timeout)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost", session=session)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer, and not a byte more of the next."""
        status = int(self._line().split()[1])
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if method == "HEAD" else self._body(headers)
        return Answer(status, headers, body)

    def _line(self) -> str:
        line = self.file.readline()
        assert line.endswith(b"\r\n"), f"closed within a line: {line!r}"
        return line[:-2].decode("latin-1")

    def _body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" not in headers:
            size = int(headers["content-length"])
            body = self.file.read(size)
            assert len(body) == size, f"closed after {len(body)} of {size} bytes"
            return body
        parts = []
        while size := int(self._line(), 16):
            parts.append(self.file.read(size))
            self._line()
        self._line()
        return b"".join(parts)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        return self.file.read()

    def closed(self) -> bool:
        """Whether the server lets go, by end or by reset, without another byte."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def random_file(path: Path, size: int) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    return content
