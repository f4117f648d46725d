"""end-4, 5, 6, 11, 13 and 14: uploads and mounts."""

from stackyard.auth.principals import Action
from stackyard.http.answer import Answer, Header, header
from stackyard.http.request import Request
from stackyard.oci import ranges
from stackyard.oci.digests import Digest
from stackyard.oci.endpoints import AppendUpload, CancelUpload, FinishUpload, GetUpload, StartUpload
from stackyard.oci.errors import SizeInvalid, UploadOutOfOrder
from stackyard.registry.chunks import Chunk
from stackyard.registry.registry import Registry
from stackyard.registry.uploads import progress


async def start_upload(registry: Registry, call: StartUpload, request: Request) -> Answer:
    """202 with a session; 201 when a mount or the request's own body made the blob already."""
    if call.digest is not None:
        blob = await registry.uploads.push(call.repository, call.digest, _chunk(request), actor=request.actor)
        return _created(request, call.repository, blob.digest)
    if call.mount is not None:
        mounted = await registry.blobs.mount(
            call.repository,
            call.mount,
            source=call.source,
            may_pull=lambda source: request.may(Action.PULL, source),
            actor=request.actor,
        )
        if mounted:
            return _created(request, call.repository, mounted.digest)
    upload = await registry.uploads.start(call.repository, algorithm=call.algorithm, actor=request.actor)
    return Answer(202, _session(request, call.repository, upload.id, upload.offset))


async def get_upload(registry: Registry, call: GetUpload, request: Request) -> Answer:
    """204 with how far it is."""
    upload = await registry.uploads.find(call.repository, call.upload_id)
    return Answer(204, _session(request, call.repository, upload.id, upload.offset))


async def append_upload(registry: Registry, call: AppendUpload, request: Request) -> Answer:
    """202 with how far it is now."""
    try:
        upload = await registry.uploads.append(call.repository, call.upload_id, _chunk(request))
    except UploadOutOfOrder as error:
        error.headers["Location"] = _location(request, call.repository, call.upload_id)
        raise
    return Answer(202, _session(request, call.repository, upload.id, upload.offset))


async def finish_upload(registry: Registry, call: FinishUpload, request: Request) -> Answer:
    """201 once the blob is durable."""
    try:
        blob = await registry.uploads.finish(
            call.repository, call.upload_id, call.digest, _chunk(request), actor=request.actor
        )
    except UploadOutOfOrder as error:
        error.headers["Location"] = _location(request, call.repository, call.upload_id)
        raise
    return _created(request, call.repository, blob.digest)


async def cancel_upload(registry: Registry, call: CancelUpload, request: Request) -> Answer:
    """204."""
    await registry.uploads.cancel(call.repository, call.upload_id)
    return Answer(204)


def _chunk(request: Request) -> Chunk:
    """The request's body, with its place. A length that contradicts the range is refused before a byte is read."""
    window = ranges.chunk(request.header(b"content-range"))
    length = request.content_length()
    if window and length is not None and length != window[1] - window[0]:
        raise SizeInvalid("Content-Length is not the length of Content-Range")
    return Chunk(None if length == 0 else request.body(), window, length)


def _location(request: Request, repository: str, upload_id: str) -> str:
    return f"{request.base}/v2/{repository}/blobs/uploads/{upload_id}"


def _session(request: Request, repository: str, upload_id: str, offset: int) -> list[Header]:
    return [
        header("location", _location(request, repository, upload_id)),
        header("range", progress(offset)),
        header("docker-upload-uuid", upload_id),
    ]


def _created(request: Request, repository: str, digest: Digest) -> Answer:
    location = f"{request.base}/v2/{repository}/blobs/{digest}"
    return Answer(201, [header("location", location), header("docker-content-digest", digest)])
