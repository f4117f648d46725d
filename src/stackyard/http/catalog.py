"""Docker's catalogue."""

from urllib.parse import quote

from stackyard.http.answer import Answer, document, header, next_page
from stackyard.http.request import Request
from stackyard.oci.endpoints import Catalog
from stackyard.registry.registry import Registry

# distribution-spec, "Warnings": code 299, agent "-" and no date.
_STILL_READING = header("warning", '299 - "the volume is still being read; repositories may be missing"')


async def list_repositories(registry: Registry, call: Catalog, request: Request) -> Answer:
    """200 with the names that the caller may pull."""
    if registry.imports.pending:
        await registry.imports.listed()
    names, more = await registry.repositories.page(after=call.last, limit=call.n, may_see=request.sees())
    more_headers = (
        [next_page(f"{request.prefix}/v2/_catalog?n={len(names)}&last={quote(names[-1])}")] if names and more else []
    )
    if registry.imports.pending:
        more_headers.append(_STILL_READING)
    return document({"repositories": names}, more=more_headers)
