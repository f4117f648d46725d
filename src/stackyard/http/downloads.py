"""The bytes of a blob on their way out."""

from collections.abc import AsyncIterator
from typing import Protocol

from stackyard.http.asgi import Scope, Send

# Our server's own extension of ASGI: this many bytes of this open file are the whole body.
SENDFILE = "stackyard.sendfile"


class Reader(Protocol):
    """What is read from: the registry's open blobs have this form."""

    def fileno(self) -> int | None: ...

    def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Download:
    """Bytes `start` up to `stop` of an open blob."""

    __slots__ = ("_reader", "_start", "size")

    def __init__(self, reader: Reader, start: int, stop: int) -> None:
        """Take over the reader; it is closed with the download."""
        self._reader = reader
        self._start = start
        self.size = stop - start

    async def send(self, scope: Scope, send: Send) -> None:
        """Send by sendfile(2) where the connection can, else in chunks. Raises OSError when the client left."""
        descriptor = self._reader.fileno()
        if descriptor is not None and self.size and SENDFILE in scope.get("extensions", ()):
            await send({"type": SENDFILE, "file": descriptor, "offset": self._start, "count": self.size})
            return
        left = self.size
        async for chunk in self._reader.chunks(self._start, self._start + self.size):
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
        if not self.size:
            await send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """Let go of the blob."""
        self._reader.close()
