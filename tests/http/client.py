"""A client that speaks ASGI to an application in this process, with nothing in between."""

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from stackyard.http.asgi import Message, Scope


@dataclass(frozen=True)
class Got:
    """An answer. Header names are in lower case; of several lines the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The codes of an error body, which must have the form the spec gives it."""
        errors = self.json()["errors"]
        assert all(isinstance(one["code"], str) and isinstance(one["message"], str) for one in errors)
        return [one["code"] for one in errors]


@dataclass(frozen=True)
class Cut:
    """A body whose sender goes away after these chunks."""

    chunks: Iterable[bytes]


class Client:
    """Sends requests to `app` from `address`."""

    def __init__(self, app: Any, address: str = "192.0.2.1", headers: Mapping[str, str] | None = None) -> None:
        self.app = app
        self.address = address
        self.headers = dict(headers or {})

    async def __call__(
        self, method: str, url: str, body: "bytes | AsyncIterable[bytes] | Cut" = b"", /, **headers: str
    ) -> Got:
        """One request. Keyword names are header names with `_` for `-`; a bytes body has a Content-Length."""
        parts = urlsplit(url)
        given = {"host": "registry.test", **self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if isinstance(body, bytes) and (body or method in ("POST", "PUT", "PATCH")):
            given.setdefault("content-length", str(len(body)))
        scope: Scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "http_version": "1.1",
            "path": unquote(parts.path),
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": (self.address, 50000),
        }
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, _receiver(body), send)
        if not sent:
            return Got(0, {}, b"")
        start, *parts_sent = sent
        lines = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        content = b"".join(message.get("body", b"") for message in parts_sent)
        if method != "HEAD" and "content-length" in lines:
            assert int(lines["content-length"]) == len(content)
        return Got(start["status"], lines, b"" if method == "HEAD" else content)


def _receiver(body: "bytes | AsyncIterable[bytes] | Cut") -> Any:
    async def messages() -> Any:
        if isinstance(body, bytes):
            yield {"type": "http.request", "body": body, "more_body": False}
        elif isinstance(body, Cut):
            for chunk in body.chunks:
                yield {"type": "http.request", "body": chunk, "more_body": True}
        else:
            async for chunk in body:
                yield {"type": "http.request", "body": chunk, "more_body": True}
            yield {"type": "http.request", "body": b"", "more_body": False}
        while True:
            yield {"type": "http.disconnect"}

    iterator = messages()

    async def receive() -> Message:
        message: Message = await anext(iterator)
        return message

    return receive
