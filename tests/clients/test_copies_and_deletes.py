"""Images move between repositories and registries, and go away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import docker_registry, images
from tests.support.client import Client
from tests.support.containerd import Ctr
from tests.support.dockerd import Docker
from tests.support.images import Image
from tests.support.link import Link
from tests.support.podman import Skopeo
from tests.support.processes import Failed
from tests.support.running import Running

GONE = "(?i)manifest unknown|not found|unknown manifest"


@pytest.fixture(scope="session")
def reference_server() -> Iterator[Running]:
    """Debian's docker-registry, the other side of a move."""
    with docker_registry.start({}) as running:
        yield running


@pytest.fixture
def link(shared: Running) -> Iterator[Link]:
    between = Link(shared.port)
    yield between
    between.stop()


def test_skopeo_copies_an_index_from_docker_registry_and_back(
    skopeo: Skopeo, reference_server: Running, shared: Running, repository: str, tmp_path: Path
) -> None:
    index = images.multi_arch(tmp_path / "index", f"{repository}:local")
    old, new = (f"docker://{server.address}/{repository}" for server in (reference_server, shared))
    insecure = ("--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", *insecure, f"oci-archive:{index.archive}", f"{old}:v1")

    skopeo("copy", *insecure, f"{old}:v1", f"{new}:v1")
    skopeo("copy", *insecure, f"{new}:v1", f"{old}:v2")

    for server, tag in ((shared, "v1"), (reference_server, "v2")):
        assert server.manifest(repository, tag).headers["Docker-Content-Digest"] == index.digest


def test_docker_mounts_layers_from_another_repository(
    docker: Docker, shared: Running, repository: str, image: Image
) -> None:
    first, second = f"{shared.address}/{repository}:v1", f"{shared.address}/{repository}/copy:v1"
    docker.load(image, first)
    docker.push(first)
    docker("tag", first, second)

    pushed = docker.push(second)

    assert f"Mounted from {repository}" in pushed.out
    docker.forget(first)
    docker.forget(second)
    assert docker.pull(second) == image.config


def test_skopeo_mounts_layers_from_another_repository(
    skopeo: Skopeo, link: Link, repository: str, image: Image
) -> None:
    source, target = f"docker://{link.address}/{repository}:v1", f"docker://{link.address}/{repository}/copy:v1"
    skopeo.load(image, f"{link.address}/{repository}:v1")
    skopeo.push(f"{link.address}/{repository}:v1")
    link.seen.clear()

    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", source, target)

    _assert_mounted(link, times=2)


def test_ctr_mounts_layers_from_another_repository(ctr: Ctr, link: Link, repository: str, image: Image) -> None:
    first, second = f"{link.address}/{repository}:v1", f"{link.address}/{repository}/copy:v1"
    ctr.load(image, first)
    ctr.push(first)
    ctr.forget(first)
    ctr.pull(first)  # by this it learns where the layers come from
    ctr("images", "tag", first, second)
    link.seen.clear()

    ctr.push(second)

    _assert_mounted(link, times=2)


def test_a_deleted_image_is_gone_for_every_client(
    client: Client, skopeo: Skopeo, shared: Running, repository: str, image: Image
) -> None:
    reference = f"{shared.address}/{repository}:v1"
    skopeo.load(image, reference)
    skopeo.push(reference)
    digest = shared.manifest(repository, "v1").headers["Docker-Content-Digest"]

    skopeo("delete", skopeo.verify, f"docker://{reference}")

    assert shared.manifest(repository, "v1").status == 404
    assert shared.manifest(repository, digest).status == 404
    with pytest.raises(Failed, match=GONE):
        client.pull(reference)


def test_an_interrupted_docker_pull_goes_on_where_it_broke(
    docker: Docker, link: Link, repository: str, tmp_path: Path
) -> None:
    size, arrives = 12 << 20, 5 << 20  # bytes
    image = images.big(tmp_path / "big", f"{repository}:local", size=size)
    reference = f"{link.address}/{repository}:v1"
    docker.load(image, reference)
    docker.push(reference)
    docker.forget(reference)

    link.cut_next_blob(arrives)

    assert docker.pull(reference) == image.config
    resumed = [seen for seen in link.seen if seen.range]
    assert [seen.status for seen in resumed] == [206]
    assert resumed[0].range == f"bytes={arrives}-"


def _assert_mounted(link: Link, *, times: int) -> None:
    """So many layers were mounted, and none was sent."""
    mounts = [seen for seen in link.seen if seen.method == "POST" and "mount=" in seen.path and seen.status == 201]
    assert len(mounts) >= times, link.seen
    sent = [seen for seen in link.seen if seen.method == "PUT" and "/blobs/" in seen.path]
    assert len(sent) <= 1, link.seen  # a config is not always mounted
