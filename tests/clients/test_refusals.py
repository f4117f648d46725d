"""A refusal reaches the person, also when it is answered before the body was read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import htpasswd, images, stackyard, tools
from tests.support.client import Client
from tests.support.images import Image
from tests.support.processes import Failed, run
from tests.support.running import Running

BODY = 16 << 20  # bytes: more than any socket buffer holds
USER, PASSWORD = "bob", "secret"

pytestmark = pytest.mark.skipif(not stackyard.OURS, reason="docker-registry answers otherwise")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Whoever logged in pulls, and nobody pushes."""
    passwords = htpasswd.write(tmp_path_factory.mktemp("auth") / "htpasswd", {USER: PASSWORD})
    rules = [{"authenticated": True, "repositories": "**", "actions": ["pull"]}]
    config = {
        "auth": {"htpasswd": {"realm": "Registry Realm", "path": str(passwords)}},
        "stackyard": {"access": {"rules": rules}},
    }
    with stackyard.start(config) as running:
        yield running


@pytest.fixture(scope="module")
def frozen() -> Iterator[Running]:
    with stackyard.start({"storage": {"maintenance": {"readonly": {"enabled": True}}}}) as running:
        yield running


def test_a_push_without_the_right_to_is_refused(
    client: Client, library: Running, repository: str, image: Image
) -> None:
    reference = f"{library.address}/{repository}:v1"
    client.load(image, reference)
    client.login(library.address, USER, PASSWORD)

    with pytest.raises(Failed, match=r"(?i)denied|unauthorized|authentication required|insufficient_scope|401"):
        client.push(reference)


def test_a_push_to_a_read_only_registry_is_refused(
    client: Client, frozen: Running, repository: str, image: Image
) -> None:
    reference = f"{frozen.address}/{repository}:v1"
    client.load(image, reference)

    with pytest.raises(Failed, match=r"(?i)unsupported|405|read.?only"):
        client.push(reference)


@pytest.fixture(scope="module")
def limited() -> Iterator[Running]:
    """A registry with little room below team/."""
    with stackyard.start({"stackyard": {"quotas": [{"prefix": "team/", "bytes": "1MB"}]}}) as running:
        yield running


@pytest.fixture
def large(tmp_path: Path, repository: str) -> Image:
    """An image of more bytes than any socket buffer holds, that no registry has yet."""
    return images.big(tmp_path / "large", f"{repository}:local", size=BODY)


def test_a_push_above_a_quota_is_refused_with_what_is_used_and_allowed(
    client: Client, limited: Running, repository: str, large: Image
) -> None:
    """In the middle of a layer, where the client streams it without a length, as docker does."""
    reference = f"{limited.address}/{repository}:v1"
    client.load(large, reference)
    # What ctr prints of a refusal is its status.
    says = "403 Forbidden" if client.name == "ctr" else r"the quota of team/ is exceeded: [0-9.]+ k?B of 1 MB used"

    with pytest.raises(Failed, match=says):
        client.push(reference)


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
def test_curl_reads_the_answer_to_a_body_nobody_wanted(
    expect: str, shared: Running, repository: str, tmp_path: Path
) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(BODY))
    nowhere = f"{shared.url}/v2/{repository}/blobs/uploads/00000000-0000-4000-8000-000000000000"

    said = run(
        tools.path("curl"),
        *("--silent", "--show-error", "--max-time", "30", "--header", expect, "--request", "PATCH"),
        *("--upload-file", body, "--write-out", " %{http_code}", nowhere),
    )

    assert '"BLOB_UPLOAD_UNKNOWN"' in said.out
    assert said.out.endswith(" 404")
