"""One request: what arrived, read lazily."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from stackyard.auth.access import Access
from stackyard.auth.principals import ANONYMOUS, Action, Principal
from stackyard.http.asgi import Receive, Scope
from stackyard.http.origin import Origins
from stackyard.oci.errors import RegistryError, SizeInvalid
from stackyard.registry.chunks import BodyCut

_DRAINED = 1 << 30  # bytes
_DRAIN_SECONDS = 10.0


class Request:
    """What a handler may know of the request it answers."""

    __slots__ = (
        "_access",
        "_body_ended",
        "_headers",
        "_origins",
        "_receive",
        "head",
        "principal",
        "repository",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, origins: Origins, access: Access) -> None:
        """Wrap an ASGI request; nothing of it is read yet."""
        self.scope = scope
        self._receive = receive
        self._origins = origins
        self._access = access
        self._headers: dict[bytes, bytes] | None = None
        self._body_ended = False
        self.head: bool = scope["method"] == "HEAD"
        self.principal: Principal = ANONYMOUS
        self.repository = ""

    @property
    def actor(self) -> str:
        """Who asks, as history keeps it: `kind:name`."""
        return self.principal.actor

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator, also where it shows a token that was given for this."""
        return self._access.administers(self.principal)

    @property
    def address(self) -> str:
        """The client's address, as far as trusted proxies tell it."""
        return self._origins.address(self.scope)

    @property
    def base(self) -> str:
        """What a Location starts with: scheme, host and prefix, or only the prefix where relative is asked for."""
        return self._origins.base(self.scope)

    @property
    def absolute_base(self) -> str:
        """As `base`, never relative."""
        return self._origins.absolute(self.scope)

    @property
    def prefix(self) -> str:
        """What a relative link starts with."""
        return self._origins.prefix

    def may(self, action: Action, repository: str) -> bool:
        """Whether the caller has this right."""
        return self._access.allows(self.principal, action, repository)

    def sees(self) -> Callable[[str], bool] | None:
        """Which repositories belong on the caller's list of them; None: all."""
        if self._access.sees_all(self.principal):
            return None
        return lambda repository: self._access.lists(self.principal, repository)

    def header(self, name: bytes) -> str | None:
        """One header by its lower-case name; the last, should there be several. Bytes outside ASCII are Latin-1."""
        if self._headers is None:
            self._headers = dict(self.scope["headers"])
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1").strip(" \t")

    def content_length(self) -> int | None:
        """Bytes that the body was announced to have, None when it was not. The server has checked the form."""
        text = self.header(b"content-length")
        return int(text) if text and text.isdigit() and len(text) < 19 else None

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises BodyCut when the client goes away before its end."""
        more = True
        while more:
            message = await self._receive()
            more = message.get("more_body", False)
            self._body_ended = not more
            if message["type"] == "http.disconnect":
                raise BodyCut
            if chunk := message.get("body"):
                yield chunk

    async def drain(self) -> None:
        """Let the client send what is left of the body, if that is not much, so that it reads the answer.

        Some stop at the first byte that nobody takes any more, and never look at what they were told, or wait for
        ever (containerd 1.6).
        """
        left = _DRAINED
        if self._body_ended or (self.content_length() or 0) > left:
            return
        with contextlib.suppress(TimeoutError, BodyCut):
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for chunk in self.body():
                    left -= len(chunk)
                    if left < 0:
                        return

    async def read(self, limit: int, too_large: type[RegistryError]) -> bytes:
        """The whole body, of at most `limit` bytes, else `too_large` is raised without reading on."""
        announced = self.content_length()
        if announced is not None and announced > limit:
            raise too_large()
        parts: list[bytes] = []
        size = 0
        async for chunk in self.body():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise too_large()
        if announced is not None and size != announced:
            raise SizeInvalid()
        return b"".join(parts)
