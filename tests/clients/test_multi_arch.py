"""Indexes: one name, several platforms."""

import json
from pathlib import Path

import pytest
from tests.support import images
from tests.support.client import Client
from tests.support.containerd import Ctr
from tests.support.dockerd import Docker
from tests.support.images import Image
from tests.support.podman import Buildah, Podman, Skopeo
from tests.support.running import Running

PLATFORMS = ["amd64", "arm64"]


@pytest.fixture
def index(tmp_path: Path, repository: str) -> Image:
    return images.multi_arch(tmp_path / "index", f"{repository}:local", PLATFORMS)


def test_an_index_pushed_by_skopeo_gives_each_client_its_platform(
    client: Client, skopeo: Skopeo, shared: Running, repository: str, index: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci-archive:{index.archive}", f"docker://{reference}")

    assert client.pull(reference) == index.children["amd64"]


def test_docker_pulls_the_platform_it_asks_for(
    docker: Docker, skopeo: Skopeo, shared: Running, repository: str, index: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci-archive:{index.archive}", f"docker://{reference}")

    docker("pull", "--platform=linux/arm64", reference)

    assert docker("image", "inspect", "--format={{.Id}}", reference).out.strip() == index.children["arm64"]


def test_an_index_keeps_its_digest(skopeo: Skopeo, shared: Running, repository: str, index: Image) -> None:
    target = f"docker://{shared.address}/{repository}:v1"

    skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci-archive:{index.archive}", target)

    assert shared.manifest(repository, "v1").headers["Docker-Content-Digest"] == index.digest
    assert shared.manifest(repository, index.digest).status == 200


def test_ctr_pushes_an_index_with_all_its_platforms(
    ctr: Ctr, skopeo: Skopeo, shared: Running, repository: str, index: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    ctr.load(index, reference)

    ctr.push(reference)

    assert shared.manifest(repository, "v1").headers["Docker-Content-Digest"] == index.digest
    _assert_whole(shared, repository)


@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_manifest_push_sends_the_list_and_its_children(
    name: str, request: pytest.FixtureRequest, shared: Running, repository: str, index: Image
) -> None:
    client: Podman | Buildah = request.getfixturevalue(name)
    client("manifest", "create", "several")
    client("manifest", "add", "--all", "several", f"oci-archive:{index.archive}")

    client("manifest", "push", "--all", client.verify, "several", f"docker://{shared.address}/{repository}:v1")

    _assert_whole(shared, repository)


def test_docker_manifest_push_makes_a_list_of_pushed_images(
    docker: Docker, shared: Running, repository: str, tmp_path: Path
) -> None:
    reference = f"{shared.address}/{repository}"
    for platform in PLATFORMS:
        image = images.small(tmp_path / platform, f"{repository}:local-{platform}", architecture=platform)
        docker.load(image, f"{reference}:{platform}")
        docker.push(f"{reference}:{platform}")

    docker("manifest", "create", "--insecure", f"{reference}:v1", *(f"{reference}:{name}" for name in PLATFORMS))
    docker("manifest", "push", "--insecure", f"{reference}:v1")

    _assert_whole(shared, repository)


def _assert_whole(registry: Running, repository: str) -> None:
    """The tag `v1` lists both platforms, and every manifest and blob below it is there."""
    children = json.loads(registry.manifest(repository, "v1").body)["manifests"]
    assert sorted(child["platform"]["architecture"] for child in children) == PLATFORMS
    for child in children:
        manifest = registry.manifest(repository, child["digest"])
        assert manifest.status == 200
        parsed = json.loads(manifest.body)
        for blob in (parsed["config"], *parsed["layers"]):
            assert registry.request("HEAD", f"/v2/{repository}/blobs/{blob['digest']}").status == 200
