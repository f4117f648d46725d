"""end-3, end-7 and end-9: manifests. Whatever the Accept header says, what was stored is served (spec: exact bytes)."""

from stackyard.http.answer import Answer, Header, header
from stackyard.http.blobs import matches
from stackyard.http.request import Request
from stackyard.oci.digests import Digest
from stackyard.oci.endpoints import DeleteManifest, GetManifest, PutManifest
from stackyard.oci.errors import ManifestTooLarge
from stackyard.registry.registry import Registry


async def get_manifest(registry: Registry, call: GetManifest, request: Request) -> Answer:
    """200 with the stored bytes, or 304."""
    stored = await registry.manifests.find(call.repository, call.reference)
    if not request.head or not isinstance(call.reference, Digest):
        # By digest clients often only ask whether it is here.
        registry.pulls.record(call.repository, call.reference, request.principal)
    digest = stored.digest.encode()
    headers: list[Header] = [(b"docker-content-digest", digest), (b"etag", b'"%s"' % digest)]
    if matches(request.header(b"if-none-match"), stored.digest):
        return Answer(304, headers)
    headers.append((b"content-type", stored.media_type.encode()))
    if request.head:
        return Answer(200, headers, length=stored.size)
    return Answer(200, headers, await registry.manifests.payload(call.repository, stored))


async def put_manifest(registry: Registry, call: PutManifest, request: Request) -> Answer:
    """201 once it is durable, with `OCI-Subject` and `OCI-Tag` where they apply."""
    payload = await request.read(registry.settings.max_manifest, ManifestTooLarge)
    content_type = request.header(b"content-type")
    manifest = await registry.manifests.put(
        call.repository,
        call.reference,
        call.tags,
        payload,
        content_type,
        actor=request.actor,
        admin=request.is_admin,
    )
    reference = manifest.digest if isinstance(call.reference, Digest) else call.reference
    headers = [
        header("location", f"{request.base}/v2/{call.repository}/manifests/{reference}"),
        header("docker-content-digest", manifest.digest),
    ]
    if manifest.subject:
        headers.append(header("oci-subject", manifest.subject))
    headers += [header("oci-tag", tag) for tag in call.tags]
    return Answer(201, headers)


async def delete_manifest(registry: Registry, call: DeleteManifest, request: Request) -> Answer:
    """202."""
    await registry.manifests.delete(call.repository, call.reference, actor=request.actor, admin=request.is_admin)
    return Answer(202)
