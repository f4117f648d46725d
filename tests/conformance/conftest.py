"""The registries that both suites run against, and their totals, printed at the end: they are what CI is read for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.conformance.suite import Totals
from tests.support import htpasswd, stackyard
from tests.support.running import Running

USER, PASSWORD = "alice", "secret"
RULES = [{"authenticated": True, "repositories": "**", "actions": ["pull", "push", "delete"]}]
HERE = Path(__file__).parent
TOTALS = pytest.StashKey[dict[str, Totals]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOTALS] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.conformance)
            item.add_marker(pytest.mark.serial)
            item.add_marker(pytest.mark.timeout(900))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    runs = config.stash.get(TOTALS, {})
    if not runs:
        return
    terminalreporter.section("OCI conformance")
    terminalreporter.line(f"{'':<28}{'total':>8}{'pass':>8}{'fail':>8}{'error':>8}{'skip':>8}{'off':>8}")
    for name, one in sorted(runs.items()):
        counts = (one.total, one.passed, one.failed, one.errors, one.skipped, one.disabled)
        terminalreporter.line(f"{name:<28}" + "".join(f"{count:>8}" for count in counts))


@pytest.fixture
def totals(request: pytest.FixtureRequest) -> dict[str, Totals]:
    """Where a run leaves its counts for the table."""
    return request.config.stash[TOTALS]


@dataclass(frozen=True)
class Setup:
    """A registry, and what a suite must know to use it."""

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
    with stackyard.start(config, folder=tmp_path / "server") as registry:
        yield Setup(registry, request.param, login)
