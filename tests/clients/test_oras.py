"""oras, the client of artifacts that are no images, as its Python library."""

import json
from pathlib import Path

import pytest
from oras import oci  # type: ignore[import-untyped]
from oras.client import OrasClient  # type: ignore[import-untyped]
from tests.support import stackyard
from tests.support.running import Running


@pytest.fixture
def client(shared: Running) -> OrasClient:
    return OrasClient(hostname=shared.address, insecure=True)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "report.txt"
    file.write_text("all is well\n")
    return file


def test_a_pushed_file_comes_back(
    client: OrasClient, shared: Running, repository: str, document: Path, tmp_path: Path
) -> None:
    target = f"{shared.address}/{repository}:v1"

    client.push(target=target, files=[str(document)], disable_path_validation=True, quiet=True)
    pulled = client.pull(target=target, outdir=str(tmp_path / "pulled"))

    assert [Path(file).read_text() for file in pulled] == ["all is well\n"]


def test_a_file_pushed_in_chunks_comes_back(
    client: OrasClient, shared: Running, repository: str, tmp_path: Path
) -> None:
    target, chunk = f"{shared.address}/{repository}:v1", 64 << 10
    file = tmp_path / "long"
    file.write_bytes(bytes(range(256)) * 1000)  # four chunks, the last one shorter

    client.push(
        target=target, files=[str(file)], disable_path_validation=True, quiet=True, do_chunked=True, chunk_size=chunk
    )
    pulled = client.pull(target=target, outdir=str(tmp_path / "pulled"))

    assert [Path(name).read_bytes() for name in pulled] == [file.read_bytes()]


def test_tags_are_listed_in_order(client: OrasClient, shared: Running, repository: str, document: Path) -> None:
    for tag in ("v2", "v1"):
        client.push(
            target=f"{shared.address}/{repository}:{tag}",
            files=[str(document)],
            disable_path_validation=True,
            quiet=True,
        )

    assert client.get_tags(f"{shared.address}/{repository}") == ["v1", "v2"]


@pytest.mark.skipif(not stackyard.OURS, reason="docker-registry 2.8 has no referrers")
def test_an_attached_artifact_is_listed_with_its_subject(
    client: OrasClient, shared: Running, repository: str, document: Path
) -> None:
    target = f"{shared.address}/{repository}"
    client.push(target=f"{target}:v1", files=[str(document)], disable_path_validation=True, quiet=True)
    manifest = shared.manifest(repository, "v1")
    digest, size = manifest.headers["Docker-Content-Digest"], len(manifest.body)
    subject = oci.Subject(mediaType=manifest.headers["Content-Type"], digest=digest, size=size)

    client.push(
        target=f"{target}:note",
        files=[str(document)],
        disable_path_validation=True,
        quiet=True,
        manifest_annotations={"note": "scanned"},
        subject=subject,
    )

    listed = json.loads(shared.request("GET", f"/v2/{repository}/referrers/{digest}").body)
    assert [one["annotations"]["note"] for one in listed["manifests"]] == ["scanned"]
