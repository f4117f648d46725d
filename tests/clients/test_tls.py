"""Over TLS, under a host name that docker does not excuse from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import certificates, htpasswd, stackyard
from tests.support.client import Client
from tests.support.containerd import Containerd, Ctr
from tests.support.dockerd import Docker, Dockerd
from tests.support.images import Image
from tests.support.namespace import ADDRESS, Namespace
from tests.support.podman import Buildah, Podman, Skopeo
from tests.support.processes import Failed, run
from tests.support.running import Running

HOST = "registry.example.com"
USER, PASSWORD = "alice", "secret"
UNTRUSTED = "(?i)certificate signed by unknown authority|x509"


@dataclass(frozen=True)
class Office:
    """A network of its own with a registry over TLS, another one without, and the authority that vouches."""

    namespace: Namespace
    authority: certificates.Authority
    secure: Running
    plain: Running
    dockerd: Dockerd
    containerd: Containerd

    def client(self, name: str, folder: Path) -> Client:
        """A client that verifies certificates."""
        inside = self.namespace.inside
        made: dict[str, Client] = {
            "docker": Docker(self.dockerd, folder / "docker"),
            "podman": Podman(folder / "podman", tls_verify=True, inside=inside),
            "buildah": Buildah(folder / "buildah", tls_verify=True, inside=inside),
            "skopeo": Skopeo(folder / "skopeo", tls_verify=True, inside=inside),
            "ctr": Ctr(self.containerd, transport=(f"--tlscacert={self.authority.certificate}",)),
        }
        return made[name]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    authority = certificates.Authority(folder / "ca")
    issued = authority.issue(HOST)
    passwords = htpasswd.write(folder / "htpasswd", {USER: PASSWORD})
    namespace = Namespace(HOST)
    tls = {"certificate": str(issued.certificate), "key": str(issued.key)}
    auth = {"htpasswd": {"realm": "Registry Realm", "path": str(passwords)}}
    inside = namespace.inside
    secure = stackyard.start({"http": {"addr": f"{ADDRESS}:5000", "tls": tls}, "auth": auth}, host=HOST, inside=inside)
    plain = stackyard.start({"http": {"addr": f"{ADDRESS}:5001"}}, host=HOST, inside=inside)
    dockerd, containerd = Dockerd(inside=inside), Containerd(inside=inside)
    namespace.trust(secure.port, authority.certificate)
    yield Office(namespace, authority, secure, plain, dockerd, containerd)
    for stop in (dockerd.stop, containerd.stop, secure.stop, plain.stop, namespace.stop):
        stop()


@pytest.mark.parametrize("name", ["docker", "podman", "buildah", "skopeo", "ctr"])
def test_push_and_pull_work_with_the_authority_in_certs_d(
    name: str, office: Office, repository: str, image: Image, tmp_path: Path
) -> None:
    client = office.client(name, tmp_path)
    reference = f"{office.secure.address}/{repository}:v1"
    client.login(office.secure.address, USER, PASSWORD)
    client.load(image, reference)

    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config


@pytest.mark.parametrize("name", ["docker", "podman", "buildah", "skopeo"])
def test_an_unknown_authority_is_refused(
    name: str, office: Office, repository: str, image: Image, tmp_path: Path
) -> None:
    client = office.client(name, tmp_path)
    reference = f"{office.secure.address}/{repository}:v1"
    client.load(image, reference)
    office.namespace.trust(office.secure.port, None)

    try:
        with pytest.raises(Failed, match=UNTRUSTED):
            client.push(reference)
    finally:
        office.namespace.trust(office.secure.port, office.authority.certificate)


@pytest.mark.parametrize("name", ["docker", "podman", "buildah", "skopeo"])
def test_a_registry_without_tls_is_refused(
    name: str, office: Office, repository: str, image: Image, tmp_path: Path
) -> None:
    client = office.client(name, tmp_path)
    reference = f"{office.plain.address}/{repository}:v1"
    client.load(image, reference)

    with pytest.raises(Failed, match="server gave HTTP response to HTTPS client"):
        client.push(reference)


def test_plain_http_gets_nothing_from_a_tls_port(office: Office) -> None:
    curl = ("curl", "--silent", "--show-error", "--fail", "--max-time", "10")

    with pytest.raises(Failed, match=r"400|52|56|Empty reply|reset"):
        run(*office.namespace.inside, *curl, f"http://{office.secure.address}/v2/")


def test_ctr_without_tls_is_refused_by_a_tls_port(office: Office, repository: str, image: Image) -> None:
    ctr = Ctr(office.containerd)
    reference = f"{office.secure.address}/{repository}:v1"
    ctr.load(image, reference)

    with pytest.raises(Failed):
        ctr.push(reference)

    assert office.secure.process.status is None
