"""Whether this server lives and is ready, for load balancers and orchestrators; without login."""

from stackyard.http.answer import Answer
from stackyard.http.request import Request
from stackyard.oci.errors import Unsupported
from stackyard.registry.registry import Registry

PATHS = frozenset({"/", "/healthz", "/readyz"})


async def answer(registry: Registry, path: str, request: Request) -> Answer:
    """200, empty: whoever asks only reads the status.

    `/healthz`: the process answers. `/readyz`: its database and its store answer it, too; else 503. `/` is what
    Distribution's load balancers ask. Configured health checks that fail were answered 503 before this.
    """
    if request.scope["method"] not in ("GET", "HEAD"):
        raise Unsupported(headers={"Allow": "GET, HEAD"})
    if path == "/readyz":
        await registry.check()
    return Answer(200, [(b"cache-control", b"no-cache"), (b"content-type", b"text/plain; charset=utf-8")])
