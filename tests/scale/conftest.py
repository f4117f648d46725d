"""One PostgreSQL for the whole folder, and how large everything is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import postgresql

HERE = Path(__file__).parent
SCALE = int(os.environ.get("STACKYARD_SCALE", "0"))
"""Operations of real clients under each kind of trouble; thirty times as many of the light client. 0: what CI has time
for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.serial)
            item.add_marker(pytest.mark.timeout(14400 if SCALE else 300))


@pytest.fixture(scope="session")
def engine() -> Iterator[postgresql.Server]:
    """A PostgreSQL that these tests may restart."""
    with postgresql.serve() as server:
        yield server
