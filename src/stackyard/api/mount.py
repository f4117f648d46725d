"""The door of the admin API, and the API behind it, which is loaded when somebody who may enters for the first time.

Over the network only admins enter, never everybody because login is off. On the local socket the kernel says who is
there: the server's own user and root may do everything. FastAPI costs 30 MiB and a quarter of a second, so a worker
that nobody asks does not have it.
"""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from stackyard.api import problems
from stackyard.auth.access import Access
from stackyard.auth.challenges import InsufficientScope
from stackyard.auth.principals import Kind, Principal
from stackyard.oci.errors import BadRequest, Denied, RegistryError, RouteUnknown, Unauthorized
from stackyard.oci.names import is_repository
from stackyard.registry import failures
from stackyard.registry.registry import Registry

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/api/v1"
_SAFE = frozenset({"GET", "HEAD"})
log = structlog.get_logger("stackyard.api")


@dataclass(slots=True)
class Mount:
    """The admin API of one process, as an ASGI application.

    Who passes requests on says in `scope["state"]` whence they come: `peer`, the uid at the other end of the local
    socket, or None for the network; then also `address` and `base`, the client's address and the URL by which it
    knows us. It finds the caller there afterwards, as `principal`.
    """

    registry: Registry
    access: Access
    _app: Application | None = None
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens. Raises OSError when the client left."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._admit(scope)
            if self.registry.imports.pending:
                await self._import(scope["path"].partition(f"{PREFIX}/repositories/")[2])
            app = self._app or await self._load()
            await app(scope, receive, watched)
        except OSError as error:
            if started:  # the client left
                raise
            await _refuse(error, scope, watched)
        except Exception as error:
            if started:
                _tell(error, scope)
            else:
                await _refuse(error, scope, watched)

    async def _load(self) -> Application:
        """In a thread: requests go on being answered meanwhile."""
        async with self._loading:
            if self._app is None:
                self._app = await asyncio.to_thread(_make, self.registry)
        return self._app

    async def _admit(self, scope: Scope) -> None:
        """Find out who asks and whether they may. Raises Unauthorized, Denied, TooManyRequests or RouteUnknown."""
        state = scope["state"]
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if state["peer"] is None:
            await self._admit_admin(state, headers.get(b"authorization"))
            _check_sender(scope["method"], headers)
        else:
            _admit_peer(state)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith(PREFIX + "/"):
            raise RouteUnknown()

    async def _import(self, rest: str) -> None:
        """Whatever repository a path may mean is imported first; which one it means is known only further on."""
        parts = rest.split("/")
        for length in range(1, len(parts) + 1):
            name = "/".join(parts[:length])
            if not is_repository(name):
                return
            await self.registry.imports.ensure(name)

    async def _admit_admin(self, state: MutableMapping[str, Any], authorization: str | None) -> None:
        access = self.access
        if not access.admins:
            raise Denied(
                "the admin API answers over the network to admins only, and there are none: set stackyard.admins, and "
                "auth.htpasswd for them to log in, or call it through the local socket on the server itself"
            )
        try:
            principal = access.recall(authorization) or await access.identify(authorization, state["address"])
            state["principal"] = principal
            if access.may_use_api(principal):
                return
            if principal.grants is not None:
                raise InsufficientScope()
            if not principal.identified:
                raise Unauthorized()
        except Unauthorized as error:
            if access.takes_passwords:
                error.headers["WWW-Authenticate"] = 'Basic realm="stackyard", charset="UTF-8"'
            raise access.challenged(error, realm_base=state["base"], needed="administration") from None
        raise Denied("only admins may use the admin API: their names stand in stackyard.admins")


def _admit_peer(state: MutableMapping[str, Any]) -> None:
    uid: int = state["peer"]
    if uid not in (0, os.geteuid()):
        raise Denied("only root and the server's own user may use its local socket")
    state["principal"] = local_principal(uid)


def local_principal(uid: int) -> Principal:
    """Who acts on the machine itself, without a login."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container knows few
        name = str(uid)
    return Principal(Kind.LOCAL, name)


def _check_sender(method: str, headers: dict[bytes, str]) -> None:
    """Refuse what a foreign page may have made a browser send, which adds the login by itself.

    Such a page can send neither JSON nor a header of its own choice without asking first (Fetch, "CORS-safelisted"),
    and the answer to that question is no.
    """
    if method in _SAFE:
        return
    kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    foreign = headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if foreign or not (kind == "application/json" or kind.endswith("+json") or b"x-requested-with" in headers):
        raise BadRequest("send `Content-Type: application/json`, or an X-Requested-With header with any value")


def _make(registry: Registry) -> Application:
    from stackyard.api.app import make

    return make(registry)


def _tell(error: Exception, scope: Scope) -> None:
    if failures.refusal(error) is None:
        log.error("unexpected error", method=scope["method"], path=scope["path"], exc_info=error)


async def _refuse(error: Exception, scope: Scope, send: Send) -> None:
    refused: RegistryError | None = failures.refusal(error)
    headers = {"content-type": problems.MEDIA_TYPE}
    if refused is None:
        _tell(error, scope)
        document = problems.problem(500, "unexpected error: the server's log tells more", code="UNKNOWN")
    else:
        document = problems.of(refused)
        headers |= refused.headers
    body = problems.body(document)
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    lines.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": document["status"], "headers": lines})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
