"""One daemon of each kind for the whole session, one registry for all tests that need nothing special of it."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import images, stackyard
from tests.support.client import Client
from tests.support.containerd import Containerd, Ctr
from tests.support.dockerd import Docker, Dockerd
from tests.support.images import Image
from tests.support.podman import Buildah, Podman, Skopeo
from tests.support.running import Running

HERE = Path(__file__).parent
FULL = bool(os.environ.get("STACKYARD_FULL"))
"""Full sizes, as `make test-full` measures them; otherwise what CI has time for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.serial)
            item.add_marker(pytest.mark.timeout(1800 if FULL else 300))


@pytest.fixture(autouse=True)
def _leave_nothing(tmp_path: Path) -> Iterator[None]:
    """pytest keeps the folders of three runs: gigabytes of images."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    daemon = Dockerd()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def containerd() -> Iterator[Containerd]:
    daemon = Containerd()
    yield daemon
    daemon.stop()


@pytest.fixture
def docker(dockerd: Dockerd, tmp_path: Path) -> Docker:
    """The docker command, logged in nowhere."""
    return Docker(dockerd, tmp_path / "docker")


@pytest.fixture
def ctr(containerd: Containerd) -> Ctr:
    return Ctr(containerd)


@pytest.fixture
def podman(tmp_path: Path) -> Podman:
    return Podman(tmp_path / "podman")


@pytest.fixture
def buildah(tmp_path: Path) -> Buildah:
    return Buildah(tmp_path / "buildah")


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    return Skopeo(tmp_path / "skopeo")


@pytest.fixture(params=["docker", "podman", "buildah", "skopeo", "ctr"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each client in turn."""
    found: Client = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def shared() -> Iterator[Running]:
    """A registry for all tests that need nothing special of it: anonymous, plain HTTP, deletes allowed."""
    with stackyard.start({}) as running:
        yield running


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test has."""
    return "team/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")


@pytest.fixture
def image(tmp_path: Path, repository: str) -> Image:
    """An image that no registry and no client has yet."""
    return images.small(tmp_path / "image", f"{repository}:local")
