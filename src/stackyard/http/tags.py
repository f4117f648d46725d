"""end-8: tags."""

from urllib.parse import quote

from stackyard.http.answer import JSON, Answer, document, next_page
from stackyard.http.request import Request
from stackyard.oci.endpoints import ListTags
from stackyard.registry.registry import Registry


async def list_tags(registry: Registry, call: ListTags, request: Request) -> Answer:
    """200 with the tags in byte order, `[]` where there are none, never null; without `n`, all of them."""
    if call.n is None:
        tags = await registry.tags.all_as_json(call.repository, after=call.last)
        # A name of the grammar needs no escape.
        return Answer(200, [JSON], f'{{"name":"{call.repository}","tags":{tags}}}'.encode())
    page, more = await registry.tags.page(call.repository, after=call.last, limit=call.n)
    link = f"/v2/{call.repository}/tags/list?n={len(page)}&last={quote(page[-1])}" if page and more else ""
    return document({"name": call.repository, "tags": page}, more=[next_page(request.prefix + link)] if link else ())
