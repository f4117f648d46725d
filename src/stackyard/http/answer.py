"""One answer, and how it goes out."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stackyard.http.asgi import Scope, Send
from stackyard.oci.errors import RegistryError

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")


class Stream(Protocol):
    """A body that is sent piece by piece."""

    size: int
    """Bytes it will send."""

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it. Raises OSError when the client left."""
        ...

    def close(self) -> None:
        """Let go of what it reads from; also when it was never sent."""
        ...


@dataclass(slots=True)
class Answer:
    """Status, headers and body of one answer. `content-length` is written for every body."""

    status: int = 200
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    stream: Stream | None = None
    length: int | None = None
    """`content-length` where the body itself is not sent: answers to HEAD."""

    @property
    def size(self) -> int:
        """Bytes of the body that a GET is sent."""
        return len(self.body) if self.stream is None else self.stream.size

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it all. Raises OSError when the client left."""
        headers = self.headers
        if self.status != 204 and self.status != 304:
            headers.append((b"content-length", b"%d" % (self.size if self.length is None else self.length)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.stream is not None and scope["method"] != "HEAD":
            await self.stream.send(scope, send)
        else:
            await send({"type": "http.response.body", "body": self.body})


def header(name: str, value: str) -> Header:
    """A header as ASGI wants it. Values come from parsed grammar or from settings, never raw from a client."""
    return name.lower().encode("ascii"), value.encode("latin-1")


def headers(values: Mapping[str, str]) -> list[Header]:
    """Several headers."""
    return [header(name, value) for name, value in values.items()]


def document(value: object, *, status: int = 200, more: Iterable[Header] = ()) -> Answer:
    """A JSON answer. Non-ASCII stays readable; lone surrogates, which UTF-8 cannot hold, are escaped."""
    try:
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, [JSON, *more], body)


def refusal(error: RegistryError) -> Answer:
    """The error body of distribution-spec 1.1.1, "Error Codes"."""
    return document({"errors": error.entries()}, status=error.status, more=headers(error.headers))


def next_page(path: str) -> Header:
    """RFC 8288; relative, and without `;`, where docker's own client would cut it."""
    return header("link", f'<{path}>; rel="next"')
