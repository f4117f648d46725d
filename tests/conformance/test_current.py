"""The current runner of the official OCI conformance suite finds nothing: no failure, no error, and nothing left out.

A count of passes proves little, as a server that answers 404 to everything
passes 301. So the total is held too: it is only reached when every feature
is there.
"""

from pathlib import Path

import pytest
from tests.conformance import current
from tests.conformance.conftest import Setup
from tests.conformance.suite import RESULTS, Totals
from tests.support import docker_registry

WHOLE = {
    "stable": Totals(total=862, passed=860, failed=0, errors=0, skipped=0, disabled=2),
    "dev": Totals(total=986, passed=986, failed=0, errors=0, skipped=0, disabled=0),
}
# A token is for the repositories that the client named, and a digest is no capability: so with a token nothing is
# mounted from a repository that was not named. The suite skips these two tests, and counts four steps less for it.
WITHOUT_ANONYMOUS_MOUNT = {
    "stable": Totals(total=858, passed=854, failed=0, errors=0, skipped=2, disabled=2),
    "dev": Totals(total=982, passed=980, failed=0, errors=0, skipped=2, disabled=0),
}
EXPECTED = {"anonymous": WHOLE, "htpasswd": WHOLE, "tokens": WITHOUT_ANONYMOUS_MOUNT}


@pytest.fixture(scope="module")
def program() -> Path:
    return current.build()


@pytest.mark.parametrize("version", ["stable", "dev"])
def test_the_official_suite_finds_nothing(version: str, program: Path, setup: Setup, totals: dict[str, Totals]) -> None:
    name = f"{version} {setup.name}"
    # With its cache it mounts with a token that it got for one of the two repositories.
    env = setup.login | ({"OCI_CACHE_AUTH": "false"} if setup.name == "tokens" else {})

    results = RESULTS / name.replace(" ", "-")
    report = current.check(program, setup.registry.address, version=version, results=results, env=env)

    totals[name] = report.totals
    assert report.totals == EXPECTED[setup.name][version], report.complaints


def test_the_suite_counts_what_it_is_known_to_count_for_docker_registry(program: Path, tmp_path: Path) -> None:
    """That this runner reads the suite rightly: docker-registry 2.8.2 is known to fail these."""
    with docker_registry.start({}, folder=tmp_path / "server") as registry:
        report = current.check(program, registry.address, version="stable", results=tmp_path / "results", env={})

    assert report.totals == Totals(total=848, passed=703, failed=99, errors=0, skipped=44, disabled=2)
