"""Docker's catalogue."""

from urllib.parse import quote

from stackyard.http.answer import Answer, document, next_page
from stackyard.http.request import Request
from stackyard.oci.endpoints import Catalog
from stackyard.registry.registry import Registry


async def list_repositories(registry: Registry, call: Catalog, request: Request) -> Answer:
    """200 with the names that the caller may pull."""
    names, more = await registry.repositories.page(after=call.last, limit=call.n, may_see=request.sees())
    link = [next_page(f"{request.prefix}/v2/_catalog?n={len(names)}&last={quote(names[-1])}")] if names and more else []
    return document({"repositories": names}, more=link)
