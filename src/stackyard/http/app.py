"""The registry as an ASGI application: who asks, may they, which handler, and one line in the log.

Handlers answer or raise. What they raise becomes an answer here and nowhere else.
"""

import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from stackyard.auth.access import Access
from stackyard.auth.principals import ANONYMOUS
from stackyard.http import blobs, catalog, manifests, permissions, probes, referrers, tags, tokens, uploads
from stackyard.http.answer import Answer, Header, document, refusal
from stackyard.http.asgi import Message, Receive, Scope, Send
from stackyard.http.origin import Origins
from stackyard.http.request import Request
from stackyard.oci import endpoints
from stackyard.oci.endpoints import Endpoint
from stackyard.oci.errors import LowSpace, QuotaExceeded, RouteUnknown, Unauthorized, Unavailable, Unsupported
from stackyard.registry import failures
from stackyard.registry.chunks import BodyCut
from stackyard.registry.registry import Registry
from stackyard.telemetry.access import AccessLog

log = structlog.get_logger("stackyard.http")

Beside: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An application beside this one. It answers whatever happens, and raises OSError when the client left."""
Handler: TypeAlias = Callable[[Registry, Any, Request], Awaitable[Answer]]

HANDLERS: Mapping[type[Endpoint], Handler] = {
    endpoints.Catalog: catalog.list_repositories,
    endpoints.ListTags: tags.list_tags,
    endpoints.ListReferrers: referrers.list_referrers,
    endpoints.GetManifest: manifests.get_manifest,
    endpoints.PutManifest: manifests.put_manifest,
    endpoints.DeleteManifest: manifests.delete_manifest,
    endpoints.GetBlob: blobs.get_blob,
    endpoints.DeleteBlob: blobs.delete_blob,
    endpoints.StartUpload: uploads.start_upload,
    endpoints.GetUpload: uploads.get_upload,
    endpoints.AppendUpload: uploads.append_upload,
    endpoints.FinishUpload: uploads.finish_upload,
    endpoints.CancelUpload: uploads.cancel_upload,
}
_READS = frozenset(("GET", "HEAD"))
_API_VERSION: Header = (b"docker-distribution-api-version", b"registry/2.0")
# nginx's number for «the client went away before it was answered»; nobody receives it, the log shows it.
_CLIENT_GONE = 499


@dataclass(slots=True)
class App:
    """One worker's application."""

    registry: Registry
    access: Access
    origins: Origins
    log: AccessLog
    failing: Mapping[str, str]
    """The health checks that fail now, by name. While there are any, everything answers 503, as Distribution does."""
    headers: Sequence[Header] = ()
    """`http.headers`, on every answer."""
    api: Beside | None = None
    """What answers below `/api/`."""
    # Unique over workers and restarts, and cheap: a random start, then counting.
    _request_ids: Iterator[str] = field(
        default_factory=lambda: map("{:016x}".format, itertools.count(secrets.randbits(63)))
    )

    def is_prompt(self, scope: Scope) -> bool:
        """Whether the answer will hardly wait for anything, and can do without a task until it does."""
        return (
            scope["method"] in _READS
            and self.registry.reads_in_place
            and scope["path"].startswith(f"{self.origins.prefix}/v2/")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, and log it."""
        started = time.perf_counter()
        request = Request(scope, receive, self.origins, self.access)
        path: str = scope["path"]
        prefix = self.origins.prefix
        if prefix and path.startswith(prefix + "/"):
            path = path[len(prefix) :]
            scope["root_path"] = prefix
        if self.api is not None and path.startswith("/api/"):
            await self._administer(self.api, request, receive, send)
            return
        try:
            answer = await self._answer(request, path)
        except BodyCut:
            self._line(request, Answer(_CLIENT_GONE), started, cut=True)
            return
        except Exception as error:
            answer = self._refuse(error, request)
            if isinstance(error, QuotaExceeded | LowSpace):
                await request.drain()
        if path.startswith("/v2"):
            answer.headers.append(_API_VERSION)
        answer.headers.extend(self.headers)
        await self._send(answer, request, send, started)

    async def local(self, uid: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that came by the local socket from a process of the user `uid`: administration only."""
        assert self.api is not None
        await self._administer(self.api, Request(scope, receive, self.origins, self.access), receive, send, peer=uid)

    async def _administer(
        self, api: Beside, request: Request, receive: Receive, send: Send, *, peer: int | None = None
    ) -> None:
        started = time.perf_counter()
        answer = Answer(_CLIENT_GONE)

        async def passed_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                message["headers"] = [*message["headers"], *filter(_is_harmless, self.headers)]
            await send(message)

        state: dict[str, Any] = {"peer": peer, "address": request.address, "base": request.absolute_base}
        request.scope["state"] = state
        cut = False
        try:
            await api(request.scope, receive, passed_on)
        except OSError:
            cut = True
        finally:
            request.principal = state.get("principal", ANONYMOUS)
            self._line(request, answer, started, cut=cut)

    async def _answer(self, request: Request, path: str) -> Answer:
        method: str = request.scope["method"]
        if method == "OPTIONS":
            return Answer(200)
        if self.failing and path != "/healthz":
            raise Unavailable("a health check fails; see /debug/health", headers={"Retry-After": "10"})
        if path.startswith("/v2/") or path == "/v2":
            return await self._call(endpoints.parse(method, path, request.scope["query_string"]), request)
        if path == tokens.PATH and self.access.issues_tokens:
            return await tokens.issue(self.access, request)
        if path in probes.PATHS:
            return await probes.answer(self.registry, path, request)
        raise RouteUnknown()

    async def _call(self, call: Endpoint, request: Request) -> Answer:
        request.repository = getattr(call, "repository", "")
        try:
            await self._admit(call, request)
        except Unauthorized as error:
            needed = permissions.scopes(call)
            raise self.access.challenged(error, realm_base=request.absolute_base, needed=needed) from None
        kind = type(call)
        if kind is endpoints.Base:
            return document({})
        if self.registry.settings.read_only and kind in permissions.WRITES:
            raise Unsupported("the registry is in read-only mode")
        if kind in permissions.PUSHES:
            await self.registry.space.check(request.content_length())
        if self.registry.imports.pending:
            await self._import(call)
        return await HANDLERS[kind](self.registry, call, request)

    async def _import(self, call: Endpoint) -> None:
        """What the call is about may still be as another registry left it on the volume."""
        await self.registry.imports.ensure(getattr(call, "repository", ""))
        if source := getattr(call, "source", None):
            await self.registry.imports.ensure(source)

    async def _admit(self, call: Endpoint, request: Request) -> None:
        """Find out who asks and whether they may. Raises Unauthorized, Denied or TooManyRequests."""
        access, authorization = self.access, request.header(b"authorization")
        principal = access.recall(authorization) or await access.identify(authorization, request.address)
        request.principal = principal
        actions = permissions.ACTIONS.get(type(call))
        if actions is None:
            check = access.check_base if isinstance(call, endpoints.Base) else access.check_catalog
            check(principal)
            return
        if request.head and authorization is None and access.issues_tokens:
            # containerd 1.6 hangs for ever when the first 401 it meets answers a request with a body. So strangers are
            # asked to fetch a token with the HEAD that comes before, also where they may pull without one.
            raise access.refusal(principal)
        for action in actions:
            if not access.allows(principal, action, request.repository):
                raise access.refusal(principal)

    def _refuse(self, error: Exception, request: Request) -> Answer:
        refused = failures.refusal(error)
        if refused is None:
            log.exception("unexpected error", method=request.scope["method"], path=request.scope["path"])
            return document({"errors": [{"code": "UNKNOWN", "message": "unknown error"}]}, status=500)
        if refused.status >= 500:
            log.error(refused.text, reason=str(error.__cause__ or error), path=request.scope["path"])
        return refusal(refused)

    async def _send(self, answer: Answer, request: Request, send: Send, started: float) -> None:
        cut = False
        try:
            await answer.send(request.scope, send)
        except OSError:  # the client left (ASGI 2.4): its right, and no error of ours
            cut = True
        finally:
            if answer.stream is not None:
                answer.stream.close()
            self._line(request, answer, started, cut=cut)

    def _line(self, request: Request, answer: Answer, started: float, *, cut: bool) -> None:
        if not self.log.enabled:
            return
        scope, principal = request.scope, request.principal
        query = scope["query_string"].decode("latin-1")
        delivery = scope.get("extensions", {}).get("stackyard.delivery")
        self.log.line(
            method=scope["method"],
            target=f"{scope['path']}?{query}" if query else scope["path"],
            status=answer.status,
            sent=delivery.sent if delivery else 0 if request.head else answer.size,
            seconds=time.perf_counter() - started,
            client=request.address,
            request_id=next(self._request_ids),
            repository=request.repository,
            user=principal.name,
            agent=request.header(b"user-agent") or "",
            referer=request.header(b"referer") or "",
            version=scope["http_version"],
            cut_off=cut or bool(delivery and delivery.cut_off),
        )


def _is_harmless(header: Header) -> bool:
    """Whether a header of `http.headers` may stand on an answer of the admin API: no page of another site reads those,
    also where registry data is shared with a user interface elsewhere."""
    return not header[0].startswith(b"access-control-")
