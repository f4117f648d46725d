"""end-12: referrers."""

from urllib.parse import urlencode

from stackyard.http.answer import Answer, document, header, next_page
from stackyard.http.request import Request
from stackyard.oci import manifests
from stackyard.oci.endpoints import ListReferrers
from stackyard.registry.referrers import Referrer
from stackyard.registry.registry import Registry


async def list_referrers(registry: Registry, call: ListReferrers, request: Request) -> Answer:
    """200 with an index, also when nothing refers to the subject or nothing has its digest."""
    found, more = await registry.referrers.page(
        call.repository, call.subject, artifact_type=call.artifact_type, after=call.last
    )
    index = {
        "schemaVersion": 2,
        "mediaType": manifests.OCI_INDEX,
        "manifests": [_descriptor(one) for one in found],
    }
    answer = document(index)
    # oras-go compares the whole string, so the type stands alone.
    answer.headers[0] = header("content-type", manifests.OCI_INDEX)
    if call.artifact_type:
        answer.headers.append(header("oci-filters-applied", "artifactType"))
    if more:
        query = {"last": found[-1].digest} | ({"artifactType": call.artifact_type} if call.artifact_type else {})
        path = f"{request.prefix}/v2/{call.repository}/referrers/{call.subject}?{urlencode(query)}"
        answer.headers.append(next_page(path))
    return answer


def _descriptor(one: Referrer) -> dict[str, object]:
    """An artifact type only where there is one: it is omitted for an index without (spec, end-12)."""
    descriptor: dict[str, object] = {"mediaType": one.media_type, "digest": one.digest, "size": one.size}
    if one.artifact_type:
        descriptor["artifactType"] = one.artifact_type
    if one.annotations:
        descriptor["annotations"] = one.annotations
    return descriptor
