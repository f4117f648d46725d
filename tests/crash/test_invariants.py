"""What always holds, seen from outside: of several workers, over HTTP, with the volume in view."""

import json
import secrets

import pytest
from tests.crash.callers import REPOSITORY, both
from tests.http import content
from tests.support.running import Answer, Running

from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_INDEX, OCI_MANIFEST

OTHER = "another/repository"


def push(server: Running, repository: str, body: bytes, digest: Digest | None = None) -> Answer:
    path = f"/v2/{repository}/blobs/uploads/?digest={digest or Digest.of(body)}"
    return server.request("POST", path, body=body)


def put(server: Running, repository: str, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST) -> Answer:
    path = f"/v2/{repository}/manifests/{reference}"
    return server.request("PUT", path, headers={"Content-Type": media_type}, body=manifest)


def error(answer: Answer) -> dict[str, object]:
    found: dict[str, object] = json.loads(answer.body)["errors"][0]
    return found


def is_blob(server: Running, repository: str, digest: Digest) -> bool:
    status = server.request("HEAD", f"/v2/{repository}/blobs/{digest}").status
    assert status in (200, 404)
    return status == 200


class TestDigestIsNoCapability:
    """Invariant 8: who knows a digest has nothing yet."""

    @pytest.fixture
    def secret(self, server: Running) -> Digest:
        """Of a blob in REPOSITORY alone."""
        body = secrets.token_bytes(1000)
        assert push(server, REPOSITORY, body).status == 201
        return Digest.of(body)

    def test_it_shows_nothing_elsewhere(self, server: Running, secret: Digest) -> None:
        assert server.request("GET", f"/v2/{OTHER}/blobs/{secret}").status == 404
        assert not is_blob(server, OTHER, secret)

    def test_it_uploads_nothing_without_the_bytes(self, server: Running, secret: Digest) -> None:
        session = server.request("POST", f"/v2/{OTHER}/blobs/uploads/").headers["Location"]
        path = session.removeprefix(f"http://127.0.0.1:{server.port}")

        assert error(push(server, OTHER, b"", secret))["code"] == "DIGEST_INVALID"
        assert error(push(server, OTHER, b"guess", secret))["code"] == "DIGEST_INVALID"
        assert error(server.request("PUT", f"{path}?digest={secret}", body=b""))["code"] == "DIGEST_INVALID"
        assert not is_blob(server, OTHER, secret)

    def test_it_mounts_nothing_from_where_it_is_not(self, server: Running, secret: Digest) -> None:
        answer = server.request("POST", f"/v2/{OTHER}/blobs/uploads/?mount={secret}&from=nobody/has/it")

        assert answer.status == 202
        assert not is_blob(server, OTHER, secret)

    def test_it_stands_in_no_manifest_elsewhere(self, server: Running, secret: Digest) -> None:
        assert push(server, OTHER, content.CONFIG).status == 201
        named = {"mediaType": "application/vnd.test.layer", "digest": secret, "size": 1000}

        refused = put(server, OTHER, "tag", content.image(layers=[named]))

        assert refused.status == 400
        assert error(refused) == {
            "code": "MANIFEST_BLOB_UNKNOWN",
            "message": error(refused)["message"],
            "detail": {"digest": secret},
        }
        assert server.manifest(OTHER, "tag").status == 404

    def test_a_manifest_shows_nothing_elsewhere(self, server: Running) -> None:
        manifest = content.index(annotations={"org.example.note": secrets.token_hex(8)})
        assert put(server, REPOSITORY, "hidden", manifest, OCI_INDEX).status == 201

        assert server.manifest(OTHER, Digest.of(manifest)).status == 404


@pytest.mark.parametrize("lies_there", [b"", b"half of it", None], ids=["nothing", "half", "whole"])
def test_file_that_no_row_knows_is_neither_served_nor_overwritten(server: Running, lies_there: bytes | None) -> None:
    """Invariants 2 and 3: what a power cut left in a blob's place."""
    body = secrets.token_bytes(2000)
    digest = Digest.of(body)
    first = server.data / layout.blob(digest, 0)
    first.parent.mkdir(parents=True)
    first.write_bytes(body if lies_there is None else lies_there)
    before = first.stat()

    assert not is_blob(server, REPOSITORY, digest)
    assert push(server, REPOSITORY, body).status == 201

    assert server.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}").body == body
    assert (server.data / layout.blob(digest, 1)).read_bytes() == body
    after = first.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_no_byte_is_taken_on_trust(server: Running, algorithm: str) -> None:
    """Invariant 5: one bit is wrong, first or last, in a body of one piece or of many."""
    for size in (1, 1000, 3 << 20):
        body = secrets.token_bytes(size)
        digest = Digest.of(body, algorithm)
        for place in (0, -1):
            changed = bytearray(body)
            changed[place] ^= 1
            assert error(push(server, REPOSITORY, bytes(changed), digest))["code"] == "DIGEST_INVALID"
            assert not is_blob(server, REPOSITORY, digest)
        assert push(server, REPOSITORY, body, digest).status == 201


def test_what_one_worker_changes_every_other_sees_at_once(server: Running) -> None:
    """Invariant 4: each worker has read it before and remembers what cannot change, and only that."""
    manifests = [content.index(annotations={"org.example.note": secrets.token_hex(8)}) for _ in range(10)]
    tag = f"/v2/{REPOSITORY}/manifests/moved"
    with both(server) as (one, other):
        for manifest in manifests:
            assert one("PUT", tag, manifest, Content_Type=OCI_INDEX) == 201
            for caller in (other, one):
                assert caller("GET", tag) == 200
                assert caller.body == manifest
            one, other = other, one
        for manifest in manifests:
            path = f"/v2/{REPOSITORY}/manifests/{Digest.of(manifest)}"
            assert other("GET", path) == 200
            assert one("DELETE", path) == 202
            assert other("GET", path) == 404
            one, other = other, one
        assert [caller("GET", tag) for caller in (one, other)] == [404, 404]


def test_blob_that_one_worker_deletes_is_gone_for_every_other_and_comes_back_with_a_push(server: Running) -> None:
    body = secrets.token_bytes(1000)
    digest = Digest.of(body)
    with both(server) as (one, other):
        for _ in range(5):
            assert one("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest}", body) == 201
            assert other.blob(digest) == body
            assert other("DELETE", f"/v2/{REPOSITORY}/blobs/{digest}") == 202
            assert one.blob(digest) is None
            one, other = other, one
