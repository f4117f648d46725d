"""end-2 and end-10: blobs."""

from stackyard.http.answer import Answer, header
from stackyard.http.downloads import Download
from stackyard.http.request import Request
from stackyard.oci import ranges
from stackyard.oci.endpoints import DeleteBlob, GetBlob
from stackyard.registry.registry import Registry

# Cache-Control as Distribution's: what a digest names never changes.
_FIXED = [
    (b"content-type", b"application/octet-stream"),
    (b"accept-ranges", b"bytes"),
    (b"cache-control", b"max-age=31536000"),
]


async def get_blob(registry: Registry, call: GetBlob, request: Request) -> Answer:
    """200 with the bytes, 206 with a part, 304, 307 to the store; for HEAD 200 or 304."""
    find = registry.blobs.promise if request.head else registry.blobs.find
    blob = await find(call.repository, call.digest)
    digest = blob.digest.encode()
    etag = b'"%s"' % digest
    headers = [*_FIXED, (b"docker-content-digest", digest), (b"etag", etag)]
    if matches(request.header(b"if-none-match"), call.digest):
        return Answer(304, headers)
    if request.head:
        return Answer(200, headers, length=blob.size)
    if url := await registry.blobs.redirect(blob):
        return Answer(307, [header("location", url), (b"docker-content-digest", digest)])

    wanted = None
    if (asked := request.header(b"range")) and request.header(b"if-range") in (None, etag.decode()):
        wanted = ranges.requested(asked, blob.size)
    start, stop = wanted or (0, blob.size)
    if wanted:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, blob.size)))
    download = Download(await registry.blobs.open(blob), start, stop)
    return Answer(206 if wanted else 200, headers, stream=download)


async def delete_blob(registry: Registry, call: DeleteBlob, request: Request) -> Answer:
    """202."""
    await registry.blobs.delete(call.repository, call.digest, actor=request.actor, admin=request.is_admin)
    return Answer(202)


def matches(if_none_match: str | None, digest: str) -> bool:
    """Whether a client holds this digest already; Docker clients send it bare as well as quoted."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")]
    return digest in tags or "*" in tags
