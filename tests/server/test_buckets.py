"""The server over a bucket of Ceph's gateway: how it starts, serves, and fails."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support import pushing, stackyard
from tests.support.ceph import Ceph, Gateway
from tests.support.running import Running
from tests.support.s3 import S3
from tests.support.s3proxy import S3Proxy

from stackyard.oci.digests import Digest


def config(folder: Path, server: S3, name: str, **more: Any) -> dict[str, Any]:
    where = {
        "bucket": name,
        "regionendpoint": server.endpoint,
        "accesskey": server.access_key,
        "secretkey": server.secret_key,
        "rootdirectory": "registry",
    }
    return {
        "storage": {"filesystem": None, "s3": where | more},
        "stackyard": {"database": {"url": f"sqlite:///{folder}/rows.db"}, "workers": 2},
    }


@pytest.fixture
def running(tmp_path: Path, gateway: Gateway) -> Iterator[Running]:
    with stackyard.start(config(tmp_path, gateway.server, gateway.server.bucket()), folder=tmp_path) as server:
        yield server


def push(server: Running, content: bytes, repository: str = "a") -> int:
    """The status of a push in one request."""
    digest = Digest.of(content)
    begun = server.request("POST", f"/v2/{repository}/blobs/uploads/")
    if begun.status != 202:
        return begun.status
    location = begun.headers["Location"].removeprefix(server.url)
    return server.request("PUT", f"{location}?digest={digest}", body=content).status


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bucket": "test-nowhere"}, "there is no such bucket"),
        ({"accesskey": "nobody"}, "the access key is not known"),
        ({"secretkey": "none-of-theirs"}, "the secret key is not that of the access key"),
        ({"regionendpoint": "http://127.0.0.1:9"}, "storage.s3: "),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, Mapping) else "",
)
def test_a_bucket_that_cannot_be_used_is_named_at_the_start(
    tmp_path: Path, ceph: Ceph, change: dict[str, str], said: str
) -> None:
    bucket = ceph.server.bucket()

    server = stackyard.launch(config(tmp_path, ceph.server, bucket, **change), folder=tmp_path)

    assert server.process.wait() == 1
    last = server.log.splitlines()[-1]
    assert said in last
    assert "storage.s3" in last
    assert "cannot be used" in last
    assert change.get("bucket", change.get("regionendpoint", bucket)) in last
    assert ceph.server.secret_key not in server.log
    assert "none-of-theirs" not in server.log
    assert "Traceback" not in server.log
    assert not (tmp_path / "rows.db").exists()


def test_a_registry_that_is_only_read_writes_nothing_to_the_bucket(tmp_path: Path, proxy: S3Proxy) -> None:
    bucket = proxy.server.bucket()
    settings = config(tmp_path, proxy.server, bucket)
    with stackyard.start(settings, folder=tmp_path) as server:
        assert push(server, b"content") == 201
    settings["storage"]["maintenance"] = {"readonly": {"enabled": True}}
    proxy.calls()

    with stackyard.start(settings, folder=tmp_path) as server:
        assert server.request("GET", f"/v2/a/blobs/{Digest.of(b'content')}").status == 307
        assert push(server, b"other") == 405

    assert {one.method for one in proxy.calls()} <= {"GET", "HEAD"}


def test_a_download_is_redirected_and_no_byte_of_it_passes(running: Running) -> None:
    content = b"content" * 1000
    assert push(running, content) == 201

    answer = running.request("GET", f"/v2/a/blobs/{Digest.of(content)}", headers={"Range": "bytes=7-13"})
    head = running.request("HEAD", f"/v2/a/blobs/{Digest.of(content)}")

    assert (answer.status, answer.body) == (307, b"")
    assert answer.headers["Docker-Content-Digest"] == Digest.of(content)
    assert (head.status, head.headers["Content-Length"]) == (200, "7000")
    got = subprocess.run(
        ["curl", "-sSL", "-r", "7-13", f"{running.url}/v2/a/blobs/{Digest.of(content)}"],
        capture_output=True,
        check=True,
    )
    assert got.stdout == b"content"


def test_without_redirects_everything_is_streamed(tmp_path: Path, ceph: Ceph) -> None:
    settings = config(tmp_path, ceph.server, ceph.server.bucket(), chunksize=5 << 20)
    settings["storage"]["redirect"] = {"disable": True}
    settings["storage"]["s3"]["loglevel"] = "debug"
    content = b"content" * 2_000_000
    with stackyard.start(settings, folder=tmp_path) as server:
        assert push(server, content) == 201

        whole = server.request("GET", f"/v2/a/blobs/{Digest.of(content)}")
        part = server.request("GET", f"/v2/a/blobs/{Digest.of(content)}", headers={"Range": "bytes=7-13"})
        server.process.wait_for(lambda: "asked the bucket" in server.log, "a line about the bucket")

    assert (whole.status, whole.body) == (200, content)
    assert (part.status, part.body) == (206, b"content")


def test_while_the_store_is_down_rows_are_served_and_the_rest_is_refused(running: Running, gateway: Gateway) -> None:
    image = pushing.image(running, "a", "v1", pushing.blob(running, "a", b"content"))
    gateway.kill()

    assert push(running, b"other") == 503
    manifest = running.manifest("a", "v1")
    assert (manifest.status, manifest.headers["Docker-Content-Digest"]) == (200, image["digest"])
    assert running.request("GET", "/v2/a/tags/list").status == 200
    assert running.request("HEAD", f"/v2/a/blobs/{Digest.of(b'content')}").status == 200
    assert running.request("GET", "/readyz").status == 200
    gateway.start()

    running.process.wait_for(lambda: push(running, b"other") == 201, "the store to be asked again")
    assert "Traceback" not in running.log
