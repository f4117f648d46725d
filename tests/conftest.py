"""What every test folder shares: markers, skips that say why, and a registry process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # importlib mode leaves it alone, and the tests import `tests.support`

from tests.support import stackyard  # noqa: E402
from tests.support.running import Running  # noqa: E402

MARKERS = {
    "clients": "drives real clients: docker, podman, skopeo, buildah, ctr, oras",
    "conformance": "runs the official OCI conformance suite",
    "crash": "kills servers in the middle of their work",
    "serial": "must not run beside other tests",
    "slow": "takes minutes; left out of `make test`",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if "s" not in config.option.reportchars:  # a skip that nobody sees is a test that nobody runs
        config.option.reportchars += "s"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    """A registry process of this test's own: empty, anonymous, plain HTTP, deletes allowed."""
    with stackyard.start({}, folder=tmp_path) as running:
        yield running
