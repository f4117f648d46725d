"""Prints the suite's totals at the end, whatever else is printed: they are what CI is read for."""

from pathlib import Path

import pytest
from tests.conformance.suite import Totals

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
    terminalreporter.line(f"{'':<22}{'total':>8}{'pass':>8}{'fail':>8}{'error':>8}{'skip':>8}{'off':>8}")
    for name, one in sorted(runs.items()):
        counts = (one.total, one.passed, one.failed, one.errors, one.skipped, one.disabled)
        terminalreporter.line(f"{name:<22}" + "".join(f"{count:>8}" for count in counts))


@pytest.fixture
def totals(request: pytest.FixtureRequest) -> dict[str, Totals]:
    """Where a run leaves its counts for the table."""
    return request.config.stash[TOTALS]
