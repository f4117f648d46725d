"""The OCI conformance suite of the v1.1 line finds nothing, in each of its four workflows.

Of its 79 tests four are the other half of an either-or, and no run reaches
both halves. `EITHER_OR` names them; any other skip is a failure. A run that
may only read reaches two of the four.
"""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance import v1_1
from tests.conformance.conftest import PASSWORD, USER, Setup
from tests.conformance.suite import RESULTS, Totals
from tests.conformance.v1_1 import REPOSITORY, WORKFLOWS
from tests.http import content
from tests.support import docker_registry, htpasswd, stackyard
from tests.support.running import Running

from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_MANIFEST

WHOLE = Totals(total=79, passed=75, failed=0, errors=0, skipped=4, disabled=0)
# Pull and discovery only, without their own setup and teardown.
READER = Totals(total=79, passed=21, failed=0, errors=0, skipped=58, disabled=0)
PREPARED = {
    # Only when OCI_TAG_NAME and two digests say what is there already, and then the suite pushes nothing.
    "Pull Setup Get tag name from environment",
    # The same for OCI_TAG_LIST.
    "Content Discovery Setup Populate registry with test tags (no push)",
}
_MOUNT = "Push Cross-Repository Blob Mount Cross-mounting"
EITHER_OR = PREPARED | {
    # Only when a mount is answered with 202 and a session. Ours is made, 201, and the suite reads the blob instead.
    f"{_MOUNT} of nonexistent blob should yield session id",
    # OCI_AUTOMATIC_CROSSMOUNT says which of two is right, 201 or 202. We mount without `from` as well.
    f"{_MOUNT} without from, and automatic content discovery disabled should return a 202",
}
FOUND = {"OCI_AUTOMATIC_CROSSMOUNT": "1"}  # not set, both tests of it are skipped
BLOBS_FIRST = {"OCI_DELETE_MANIFEST_BEFORE_BLOBS": "0"}

# What the suite looks for when it may not push: five referrers, two of them of this type.
TAGS = ["test0", "test1", "test2", "test3"]
BAGEL = "application/vnd.nhl.peanut.butter.bagel"


@pytest.fixture(scope="module")
def program() -> Path:
    return v1_1.build()


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Running]:
    """Anybody pulls, who logged in pushes, and there is an image."""
    passwords = htpasswd.write(tmp_path / "htpasswd", {USER: PASSWORD})
    rules = [
        {"anonymous": True, "repositories": "**", "actions": ["pull"]},
        {"user": USER, "repositories": "**", "actions": ["pull", "push"]},
    ]
    auth = {"htpasswd": {"realm": "Registry Realm", "path": str(passwords)}}
    config = {"auth": auth, "stackyard": {"access": {"rules": rules}}}
    with stackyard.start(config, folder=tmp_path / "server") as registry:
        push_image_and_referrers(registry)
        yield registry


def push_image_and_referrers(registry: Running) -> None:
    for blob in (content.CONFIG, content.LAYER):
        push(registry, "POST", f"blobs/uploads/?digest={Digest.of(blob)}", blob)
    for tag in TAGS:
        push(registry, "PUT", f"manifests/{tag}", content.image())
    subject = content.descriptor(content.image(), OCI_MANIFEST)
    kinds = [BAGEL, BAGEL, "application/vnd.test.a", "application/vnd.test.b", "application/vnd.test.c"]
    for number, kind in enumerate(kinds):
        note = {"org.example.note": str(number)}
        manifest = content.image(subject=subject, artifactType=kind, annotations=note)
        push(registry, "PUT", f"manifests/{Digest.of(manifest)}", manifest)


def push(registry: Running, method: str, path: str, body: bytes) -> None:
    login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": OCI_MANIFEST}
    answer = registry.request(method, f"/v2/{REPOSITORY}/{path}", headers=headers, body=body)
    assert answer.status == 201, answer.body


def test_the_suite_of_v1_1_finds_nothing(program: Path, setup: Setup, totals: dict[str, Totals]) -> None:
    name = f"v1.1 {setup.name}"
    results = RESULTS / name.replace(" ", "-")

    report = v1_1.check(program, setup.registry.url, results=results, env=WORKFLOWS | FOUND | setup.login)

    totals[name] = report.totals
    assert report.totals == WHOLE, report.complaints
    assert report.skipped == EITHER_OR


def test_the_suite_of_v1_1_finds_nothing_when_it_deletes_blobs_before_manifests(
    program: Path, registry: Running, totals: dict[str, Totals]
) -> None:
    results = RESULTS / "v1.1-blobs-first"

    report = v1_1.check(program, registry.url, results=results, env=WORKFLOWS | FOUND | BLOBS_FIRST)

    totals["v1.1 blobs first"] = report.totals
    assert report.totals == WHOLE, report.complaints


def test_the_suite_of_v1_1_finds_nothing_as_an_anonymous_reader(
    program: Path, public: Running, totals: dict[str, Totals]
) -> None:
    """What is there was pushed by somebody else, so the suite runs without its own setup."""
    env = {
        "OCI_TEST_PULL": "1",
        "OCI_TEST_CONTENT_DISCOVERY": "1",
        "OCI_TAG_NAME": TAGS[0],
        "OCI_TAG_LIST": ",".join(TAGS),
        "OCI_MANIFEST_DIGEST": str(Digest.of(content.image())),
        "OCI_BLOB_DIGEST": str(Digest.of(content.CONFIG)),
    }

    report = v1_1.check(program, public.url, results=RESULTS / "v1.1-reader", env=env)

    totals["v1.1 anonymous reader"] = report.totals
    assert report.totals == READER, report.complaints
    assert not report.skipped & PREPARED


def test_the_suite_of_v1_1_counts_what_it_is_known_to_count_for_docker_registry(program: Path, tmp_path: Path) -> None:
    """That this runner can fail: docker-registry 2.8.2 knows no referrers and deletes no tags."""
    with docker_registry.start({}, folder=tmp_path / "server") as registry:
        report = v1_1.check(program, registry.url, results=tmp_path / "results", env=WORKFLOWS | FOUND)

    assert report.totals == Totals(total=79, passed=62, failed=13, errors=0, skipped=4, disabled=0), report.complaints
