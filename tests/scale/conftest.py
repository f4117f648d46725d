"""One PostgreSQL for the whole folder, and how large everything is."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support import postgresql
from tests.support.running import Config

HERE = Path(__file__).parent
SCALE = int(os.environ.get("STACKYARD_SCALE", "0"))
"""Operations of real clients under each kind of trouble; thirty times as many of the light client. 0: what CI has time
for."""
STORE = os.environ.get("STACKYARD_SCALE_STORE", "")
"""The section `storage` for real clients and the light one: YAML in which FOLDER stands for a name of each test's own.
Without it a folder of this machine. For example `{filesystem: {rootdirectory: /mnt/nfs/FOLDER}}`.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.serial)
            item.add_marker(pytest.mark.timeout(14400 if SCALE else 300))


def store(folder: Path) -> Config:
    """Where the nodes of a test keep their bytes."""
    if not STORE:
        return {"filesystem": {"rootdirectory": str(folder / "data")}}
    given: Config = yaml.safe_load(STORE.replace("FOLDER", secrets.token_hex(8)))
    return given


@pytest.fixture(scope="session")
def engine() -> Iterator[postgresql.Server]:
    """A PostgreSQL that these tests may restart."""
    with postgresql.serve() as server:
        yield server
