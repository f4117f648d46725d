"""The official OCI conformance suite finds nothing: no failure, no error, and nothing left out.

A count of passes proves little, as a server that answers 404 to everything
passes 301. So the total is held too: it is only reached when every feature
is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.conformance import suite
from tests.conformance.suite import ROOT, Totals
from tests.support import docker_registry, htpasswd, stackyard
from tests.support.running import Running

USER, PASSWORD = "alice", "secret"
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
RULES = [{"authenticated": True, "repositories": "**", "actions": ["pull", "push", "delete"]}]


@dataclass(frozen=True)
class Setup:
    """A registry, and what the suite must know to use it."""

    registry: Running
    name: str
    login: dict[str, str] = field(default_factory=dict)


@pytest.fixture(params=["anonymous", "htpasswd", "tokens"])
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setup]:
    """Without a login, with Basic, and with the registry's own Bearer tokens."""
    config: dict[str, object] = {}
    if request.param != "anonymous":
        passwords = htpasswd.write(tmp_path / "htpasswd", {USER: PASSWORD})
        config["auth"] = {"htpasswd": {"realm": "Registry Realm", "path": str(passwords)}}
    if request.param == "tokens":
        config["stackyard"] = {"access": {"rules": RULES}}
    login = {} if request.param == "anonymous" else {"OCI_USERNAME": USER, "OCI_PASSWORD": PASSWORD}
    if request.param == "tokens":
        login["OCI_CACHE_AUTH"] = "false"  # else it mounts with a token that it got for one of the two repositories
    suite.build()  # first, as it skips
    with stackyard.start(config, folder=tmp_path / "server") as registry:
        yield Setup(registry, request.param, login)


@pytest.mark.parametrize("version", ["stable", "dev"])
def test_the_official_suite_finds_nothing(version: str, setup: Setup, totals: dict[str, Totals]) -> None:
    name = f"{version} {setup.name}"
    results = ROOT / "build/conformance" / name.replace(" ", "-")

    report = suite.check(setup.registry.address, version=version, results=results, env=setup.login)

    totals[name] = report.totals
    assert report.totals == EXPECTED[setup.name][version], report.complaints


def test_the_suite_counts_what_it_is_known_to_count_for_docker_registry(tmp_path: Path) -> None:
    """That this runner reads the suite rightly: docker-registry 2.8.2 is known to fail these."""
    suite.build()
    with docker_registry.start({}, folder=tmp_path / "server") as registry:
        report = suite.check(registry.address, version="stable", results=tmp_path / "results", env={})

    assert report.totals == Totals(total=848, passed=703, failed=99, errors=0, skipped=44, disabled=2)
