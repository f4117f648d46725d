"""Pushing over HTTP to whatever registry, with nothing but the standard library."""

import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

from tests.support.running import Running

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

Descriptor = dict[str, Any]


def of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def blob(server: Running, repository: str, content: bytes, media_type: str = LAYER, digest: str = "") -> Descriptor:
    """A blob in two requests, as docker pushes."""
    digest = digest or of(content)
    started = server.request("POST", f"/v2/{repository}/blobs/uploads/")
    assert started.status == 202, started
    place = urlsplit(started.headers["Location"])
    octets = {"Content-Type": "application/octet-stream"}
    sent = server.request("PATCH", f"{place.path}?{place.query}", headers=octets, body=content)
    assert sent.status == 202, sent
    place = urlsplit(sent.headers["Location"])
    query = f"{place.query}&" if place.query else ""
    done = server.request("PUT", f"{place.path}?{query}digest={digest}", headers=octets, body=b"")
    assert done.status == 201, done
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def manifest(server: Running, repository: str, reference: str, body: dict[str, Any]) -> Descriptor:
    """Under a tag, or with '' under its digest."""
    payload = json.dumps(body).encode()
    path = f"/v2/{repository}/manifests/{reference or of(payload)}"
    done = server.request("PUT", path, headers={"Content-Type": body["mediaType"]}, body=payload)
    assert done.status == 201, done
    return {"mediaType": body["mediaType"], "digest": of(payload), "size": len(payload)}


def image(server: Running, repository: str, reference: str, *layers: Descriptor, config: bytes = b"{}") -> Descriptor:
    """An image of these layers, which must be there."""
    described = blob(server, repository, config, CONFIG)
    body = {"schemaVersion": 2, "mediaType": IMAGE, "config": described, "layers": layers}
    return manifest(server, repository, reference, body)


def index(server: Running, repository: str, reference: str, *children: Descriptor) -> Descriptor:
    """An index of these manifests."""
    return manifest(server, repository, reference, {"schemaVersion": 2, "mediaType": INDEX, "manifests": children})


def served(server: Running) -> dict[str, tuple[str, str, bytes]]:
    """Everything that can be reached from the catalogue: by URL, digest, media type and bytes."""
    found: dict[str, tuple[str, str, bytes]] = {}
    for repository in json.loads(server.request("GET", "/v2/_catalog?n=1000").body)["repositories"]:
        tags = json.loads(server.request("GET", f"/v2/{repository}/tags/list").body).get("tags") or []
        for tag in tags:
            _follow(server, found, repository, tag)
    return found


def _follow(server: Running, found: dict[str, tuple[str, str, bytes]], repository: str, reference: str) -> None:
    url = f"{repository}/manifests/{reference}"
    if url in found:
        return
    got = server.manifest(repository, reference)
    assert got.status == 200, (url, got.body)
    found[url] = (got.headers["Docker-Content-Digest"], got.headers["Content-Type"], got.body)
    document = json.loads(got.body)
    for child in document.get("manifests", ()):
        _follow(server, found, repository, child["digest"])
    for one in (document.get("config"), *document.get("layers", ())):
        if one and not one.get("urls"):
            url = f"{repository}/blobs/{one['digest']}"
            answer = server.request("GET", f"/v2/{url}")
            assert answer.status == 200, (url, answer.body)
            assert of(answer.body, one["digest"].partition(":")[0]) == one["digest"]
            found[url] = (one["digest"], "", answer.body)
