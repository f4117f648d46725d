"""A registry of two workers, for the tests of one file that only need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import stackyard
from tests.support.running import Running

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.crash)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with stackyard.start({"stackyard": {"workers": 2}}, folder=tmp_path_factory.mktemp("server")) as running:
        yield running
