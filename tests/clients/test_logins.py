"""Who must log in, and what clients say to people who got it wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import htpasswd, stackyard
from tests.support.client import Client
from tests.support.containerd import Ctr
from tests.support.dockerd import Docker
from tests.support.images import Image
from tests.support.podman import Buildah, Podman, Skopeo
from tests.support.processes import Failed
from tests.support.running import Running

USER, PASSWORD = "alice", "correct horse: battery"
REFUSED = "(?i)unauthorized|authentication required|denied|invalid username/password|authorization failed|no basic auth"

WRONG = "(?i)unauthorized|invalid username/password"
UNKNOWN = "(?i)unknown|not found"

needs_issuer = pytest.mark.skipif(not stackyard.OURS, reason="docker-registry issues no tokens")


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return htpasswd.write(tmp_path_factory.mktemp("auth") / "htpasswd", {USER: PASSWORD})


@pytest.fixture(scope="module")
def private(passwords: Path) -> Iterator[Running]:
    """Everybody must log in: the Basic challenge of Distribution."""
    with stackyard.start({"auth": {"htpasswd": {"realm": "Registry Realm", "path": str(passwords)}}}) as running:
        yield running


@pytest.fixture(scope="module")
def public(passwords: Path) -> Iterator[Running]:
    """Everybody pulls, whoever logged in pushes: the Bearer challenge, and tokens of the registry's own."""
    rules = [
        {"anonymous": True, "repositories": "**", "actions": ["pull"]},
        {"authenticated": True, "repositories": "**", "actions": ["pull", "push", "delete"]},
    ]
    config = {
        "auth": {"htpasswd": {"realm": "Registry Realm", "path": str(passwords)}},
        "stackyard": {"access": {"rules": rules}},
    }
    with stackyard.start(config) as running:
        yield running


@pytest.fixture(params=["private", pytest.param("public", marks=needs_issuer)])
def guarded(request: pytest.FixtureRequest) -> Running:
    """A registry that lets nobody push without a login, by either challenge."""
    found: Running = request.getfixturevalue(request.param)
    return found


def test_after_login_push_and_pull_work(client: Client, guarded: Running, repository: str, image: Image) -> None:
    reference = f"{guarded.address}/{repository}:v1"
    client.load(image, reference)

    client.login(guarded.address, USER, PASSWORD)
    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config


def test_without_login_a_push_is_refused(client: Client, guarded: Running, repository: str, image: Image) -> None:
    reference = f"{guarded.address}/{repository}:v1"
    client.load(image, reference)

    with pytest.raises(Failed, match=REFUSED):
        client.push(reference)

    client.forget(reference)
    client.login(guarded.address, USER, PASSWORD)
    with pytest.raises(Failed, match=UNKNOWN):
        client.pull(reference)


def test_after_logout_a_push_is_refused(client: Client, guarded: Running, repository: str, image: Image) -> None:
    reference = f"{guarded.address}/{repository}:v1"
    client.load(image, reference)
    client.login(guarded.address, USER, PASSWORD)

    client.logout(guarded.address)

    with pytest.raises(Failed, match=REFUSED):
        client.push(reference)


@pytest.mark.parametrize("name", ["docker", "podman", "buildah", "skopeo"])
def test_login_keeps_the_password_until_logout(name: str, request: pytest.FixtureRequest, guarded: Running) -> None:
    client: Docker | Podman | Buildah | Skopeo = request.getfixturevalue(name)

    said = client.login(guarded.address, USER, PASSWORD)
    assert "Login Succeeded" in said.text
    assert guarded.address in client.passwords

    client.logout(guarded.address)
    assert guarded.address not in client.passwords


@pytest.mark.parametrize("name", ["docker", "podman", "buildah", "skopeo"])
def test_login_with_a_wrong_password_says_so(name: str, request: pytest.FixtureRequest, guarded: Running) -> None:
    client: Docker | Podman | Buildah | Skopeo = request.getfixturevalue(name)

    with pytest.raises(Failed, match=WRONG):
        client.login(guarded.address, USER, "wrong")

    assert guarded.address not in client.passwords


def test_ctr_with_a_wrong_password_says_so(
    request: pytest.FixtureRequest, guarded: Running, repository: str, image: Image
) -> None:
    ctr: Client = request.getfixturevalue("ctr")
    reference = f"{guarded.address}/{repository}:v1"
    ctr.load(image, reference)
    ctr.login(guarded.address, USER, "wrong")

    with pytest.raises(Failed, match=REFUSED + "|401"):
        ctr.push(reference)


def test_a_private_registry_lets_nobody_pull_without_login(
    client: Client, skopeo: Skopeo, private: Running, repository: str, image: Image
) -> None:
    reference = f"{private.address}/{repository}:v1"
    skopeo.load(image, reference)
    skopeo.login(private.address, USER, PASSWORD)
    skopeo.push(reference)
    skopeo.logout(private.address)

    with pytest.raises(Failed, match=REFUSED):
        client.pull(reference)


@needs_issuer
def test_one_server_serves_strangers_members_and_turns_away_wrong_passwords(
    client: Client, public: Running, repository: str, image: Image
) -> None:
    reference = f"{public.address}/{repository}:v1"
    client.load(image, reference)
    client.login(public.address, USER, PASSWORD)
    client.push(reference)
    client.forget(reference)
    client.logout(public.address)

    assert client.pull(reference) == image.config
    # Another tag, as ctr sends nothing, and so no password, for what a stranger can see to be there.
    another = f"{public.address}/{repository}:v2"
    client.load(image, another)
    refused = REFUSED + "|401|closed pipe"  # ctr stumbles over a manifest that is refused, and says only that
    with pytest.raises(Failed, match=refused):
        client.push(another)
    with pytest.raises(Failed, match=refused):
        _push_with(client, public, another, "wrong")


@needs_issuer
def test_ctr_tags_again_what_strangers_can_see(ctr: Ctr, public: Running, repository: str, image: Image) -> None:
    """containerd 1.6 waits for ever when the first request that is refused for want of a login has a body."""
    first = f"{public.address}/{repository}:v1"
    ctr.load(image, first)
    ctr.login(public.address, USER, PASSWORD)
    ctr.push(first)
    ctr.patience = 30

    for tag in ("v2", "v3", "latest"):
        ctr("images", "tag", first, f"{public.address}/{repository}:{tag}")
        ctr.push(f"{public.address}/{repository}:{tag}")
        assert public.manifest(repository, tag).headers["Docker-Content-Digest"] == image.digest


@needs_issuer
def test_docker_mounts_between_two_repositories_it_may_use(
    docker: Docker, public: Running, repository: str, image: Image
) -> None:
    first, second = f"{public.address}/{repository}:v1", f"{public.address}/{repository}/copy:v1"
    docker.login(public.address, USER, PASSWORD)
    docker.load(image, first)
    docker.push(first)
    docker("tag", first, second)

    assert f"Mounted from {repository}" in docker.push(second).out


def test_docker_is_told_that_a_name_is_unknown(docker: Docker, private: Running) -> None:
    docker.login(private.address, USER, PASSWORD)

    with pytest.raises(Failed, match=UNKNOWN):
        docker.pull(f"{private.address}/nobody/pushed:this")


def _push_with(client: Client, registry: Running, reference: str, password: str) -> None:
    """Log in and push, as one attempt: ctr sends its password only with the push."""
    client.login(registry.address, USER, password)
    client.push(reference)
