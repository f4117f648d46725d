"""Every client pushes and pulls over plain HTTP, with nobody asking who it is."""

import hashlib
import json
from pathlib import Path

import pytest
from tests.clients.conftest import FULL
from tests.support import images
from tests.support.client import Client
from tests.support.dockerd import Docker
from tests.support.images import Image
from tests.support.podman import Podman, Skopeo
from tests.support.processes import run
from tests.support.running import Running

BIG = 1 << 30 if FULL else 64 << 20  # bytes
MANY = 60  # layers


def test_a_pushed_image_comes_back_by_tag(client: Client, shared: Running, repository: str, image: Image) -> None:
    reference = f"{shared.address}/{repository}:v1"
    client.load(image, reference)

    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config


def test_a_pushed_image_comes_back_by_digest(client: Client, shared: Running, repository: str, image: Image) -> None:
    reference = f"{shared.address}/{repository}:v1"
    client.load(image, reference)
    client.push(reference)
    client.forget(reference)

    manifest = shared.manifest(repository, "v1")
    digest = f"sha256:{hashlib.sha256(manifest.body).hexdigest()}"

    assert manifest.headers["Docker-Content-Digest"] == digest
    assert client.pull(f"{shared.address}/{repository}@{digest}") == image.config


def test_a_second_push_of_the_same_image_sends_no_layer_again(
    client: Client, shared: Running, repository: str, image: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    client.load(image, reference)
    client.push(reference)
    before = shared.manifest(repository, "v1").body
    sent = _uploads(shared, repository)

    client.push(reference)

    assert shared.manifest(repository, "v1").body == before
    assert _uploads(shared, repository) == sent > 0


def _uploads(registry: Running, repository: str) -> int:
    """How many blobs were sent to the repository, by the access log."""
    return registry.log.count(f'"PUT /v2/{repository}/blobs/')


@pytest.mark.parametrize("client", ["docker", "podman", "skopeo", "ctr"], indirect=True)
def test_an_image_of_60_layers_comes_back(client: Client, shared: Running, repository: str, tmp_path: Path) -> None:
    image = images.small(tmp_path / "many", f"{repository}:local", layers=MANY)
    reference = f"{shared.address}/{repository}:v1"
    client.load(image, reference)

    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config
    manifest = json.loads(shared.manifest(repository, "v1").body)
    assert len(manifest["layers"]) == MANY


@pytest.mark.parametrize("client", ["docker", "podman", "skopeo", "ctr"], indirect=True)
def test_a_big_image_comes_back(client: Client, shared: Running, repository: str, tmp_path: Path) -> None:
    image = images.big(tmp_path / "big", f"{repository}:local", size=BIG)
    reference = f"{shared.address}/{repository}:v1"
    client.load(image, reference)

    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config
    client.forget(reference)


def test_docker_push_prints_the_repository_it_refers_to(docker: Docker, shared: Running, tmp_path: Path) -> None:
    docker("import", "-", "my-alpine:local", stdin=images.tar({"etc/alpine-release": b"3.20.0\n"}))
    docker("tag", "my-alpine:local", f"{shared.address}/my-alpine:v1")

    pushed = docker.push(f"{shared.address}/my-alpine:v1")

    assert f"The push refers to repository [{shared.address}/my-alpine]" in pushed.out
    assert "v1: digest: sha256:" in pushed.out


def test_docker_pushes_with_its_own_media_types(docker: Docker, shared: Running, repository: str, image: Image) -> None:
    reference = f"{shared.address}/{repository}:v1"
    docker.load(image, reference)

    docker.push(reference)

    manifest = shared.manifest(repository, "v1")
    assert manifest.headers["Content-Type"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_docker_learns_the_true_size_of_each_layer(
    docker: Docker, shared: Running, repository: str, image: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    docker.load(image, reference)

    docker.push(reference)

    manifest = json.loads(shared.manifest(repository, "v1").body)
    for layer in manifest["layers"]:
        blob = shared.request("GET", f"/v2/{repository}/blobs/{layer['digest']}")
        assert len(blob.body) == layer["size"]


def test_podman_pushes_zstd_chunked_layers_and_pulls_them(
    podman: Podman, shared: Running, repository: str, image: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    podman.load(image, reference)

    podman("push", podman.verify, "--compression-format=zstd:chunked", reference)
    podman.forget(reference)

    manifest = json.loads(shared.manifest(repository, "v1").body)
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    assert podman.pull(reference).startswith("sha256:")


def test_skopeo_lists_the_tags_it_pushed(skopeo: Skopeo, shared: Running, repository: str, image: Image) -> None:
    for tag in ("v2", "latest", "v1"):
        skopeo.load(image, f"{shared.address}/{repository}:{tag}")
        skopeo.push(f"{shared.address}/{repository}:{tag}")

    listed = skopeo("list-tags", skopeo.verify, f"docker://{shared.address}/{repository}")

    assert json.loads(listed.out)["Tags"] == ["latest", "v1", "v2"]


def test_a_readme_imported_by_docker_is_a_pushable_image(docker: Docker, shared: Running, repository: str) -> None:
    readme = Path(__file__).parent.parent.parent / "README.md"
    docker(
        "import",
        "-",
        f"{shared.address}/{repository}:v1",
        stdin=run("tar", "c", readme.name, cwd=readme.parent).out.encode(),
    )

    assert "digest: sha256:" in docker.push(f"{shared.address}/{repository}:v1").out
