"""Things to push, and the pushing of them in the shortest way."""

import json
from typing import Any

from tests.http.client import Client, Got

from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_INDEX, OCI_MANIFEST

CONFIG = b"{}"
LAYER = b"the bytes of a layer"
MISSING = Digest.of(b"nobody pushed this")


def descriptor(content: bytes, media_type: str = "application/vnd.test.layer") -> dict[str, Any]:
    """What names these bytes."""
    return {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}


def image(**members: Any) -> bytes:
    """An image manifest of CONFIG and LAYER, changed by `members`."""
    config = descriptor(CONFIG, "application/vnd.oci.image.config.v1+json")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [descriptor(LAYER)]}
    return json.dumps(document | members, indent=3).encode()


def index(*children: bytes, **members: Any) -> bytes:
    """An index of these manifests."""
    manifests = [descriptor(child, OCI_MANIFEST) for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests} | members).encode()


async def push_blob(client: Client, repository: str, content: bytes, algorithm: str = "sha256") -> Digest:
    """One POST."""
    digest = Digest.of(content, algorithm)
    got = await client("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", content)
    assert got.status == 201, got
    return digest


async def put_manifest(client: Client, repository: str, reference: str, manifest: bytes) -> Got:
    """With the Content-Type that its own mediaType says."""
    media_type = json.loads(manifest).get("mediaType", OCI_MANIFEST)
    return await client("PUT", f"/v2/{repository}/manifests/{reference}", manifest, content_type=media_type)


async def push_image(client: Client, repository: str, reference: str, manifest: bytes | None = None) -> bytes:
    """CONFIG, LAYER and the manifest."""
    for content in (CONFIG, LAYER):
        await push_blob(client, repository, content)
    manifest = manifest or image()
    got = await put_manifest(client, repository, reference, manifest)
    assert got.status == 201, got
    return manifest


async def start(client: Client, repository: str = "a", query: str = "") -> str:
    """The location of a new session."""
    got = await client("POST", f"/v2/{repository}/blobs/uploads/{query}")
    assert got.status == 202, got
    return got.headers["location"]
