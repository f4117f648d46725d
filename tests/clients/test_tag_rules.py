"""What people are told whose push a rule about tags refuses."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import images, stackyard
from tests.support.client import Client
from tests.support.dockerd import Docker
from tests.support.images import Image
from tests.support.podman import Skopeo
from tests.support.processes import Failed
from tests.support.running import Running

pytestmark = pytest.mark.skipif(not stackyard.OURS, reason="docker-registry has no such rules")

CTR = "unexpected status:"
"""containerd tells the status of a refusal, and not its words."""


@pytest.fixture(scope="module")
def ruled() -> Iterator[Running]:
    tags = {
        "immutable": [{"repositories": "**", "tags": "v*"}],
        "forms": [{"repositories": "team/formed*", "pattern": "version-date-commit", "excluding": ["latest"]}],
    }
    with stackyard.start({"stackyard": {"tags": tags}}) as running:
        yield running


def test_an_immutable_tag_is_refused_with_a_reason_and_the_same_image_is_welcome(
    client: Client, ruled: Running, repository: str, image: Image, tmp_path: Path
) -> None:
    reference = f"{ruled.address}/{repository}:v1"
    client.load(image, reference)
    client.push(reference)

    client.push(reference)

    other = images.small(tmp_path / "other", f"{repository}:other")
    client.load(other, reference)
    with pytest.raises(
        Failed, match=rf"tag v1 of {repository} is immutable: .*push this one under another tag|{CTR} 409 Conflict"
    ):
        client.push(reference)
    client.load(other, f"{ruled.address}/{repository}:v2")
    client.push(f"{ruled.address}/{repository}:v2")


def test_docker_prints_one_sentence_that_says_what_to_do(
    docker: Docker, ruled: Running, image: Image, tmp_path: Path
) -> None:
    immutable, formed = f"{ruled.address}/app:v1", f"{ruled.address}/team/formed:1.0"
    docker.load(image, immutable)
    docker.push(immutable)
    docker.load(images.small(tmp_path / "other", "app:other"), immutable)
    docker.load(image, formed)

    with pytest.raises(Failed) as refused:
        docker.push(immutable)
    with pytest.raises(Failed) as misshapen:
        docker.push(formed)

    assert str(refused.value).splitlines()[-1] == (
        "denied: tag v1 of app is immutable: it stays with the image that it was pushed with; "
        "push this one under another tag"
    )
    assert str(misshapen.value).splitlines()[-1] == (
        "tag invalid: tag '1.0' is refused here: tags of team/formed are VERSION-DATE-COMMIT, such as "
        "1.0.0-20230801-a1b2c3d (a real date, 7 to 40 hex digits), or one of latest"
    )


def test_a_tag_of_another_form_is_refused_with_the_expected_one(
    client: Client, ruled: Running, image: Image, request: pytest.FixtureRequest
) -> None:
    repository = "team/formed-" + re.sub(r"[^a-z]", "", request.node.name.rpartition("[")[2])
    client.load(image, f"{ruled.address}/{repository}:1.0.0-20230229-a1b2c3d")

    with pytest.raises(Failed, match=rf"VERSION-DATE-COMMIT, such as 1\.0\.0-20230801-a1b2c3d|{CTR} 400 Bad Request"):
        client.push(f"{ruled.address}/{repository}:1.0.0-20230229-a1b2c3d")

    for tag in ("1.0.0-20230801-a1b2c3d", "latest"):
        client.load(image, f"{ruled.address}/{repository}:{tag}")
        client.push(f"{ruled.address}/{repository}:{tag}")


def test_skopeo_cannot_delete_an_immutable_tag(skopeo: Skopeo, ruled: Running, repository: str, image: Image) -> None:
    reference = f"{ruled.address}/{repository}:v1"
    skopeo.load(image, reference)
    skopeo.push(reference)

    with pytest.raises(Failed, match=r"immutable"):
        skopeo("delete", skopeo.verify, f"docker://{reference}")
