"""Servers for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.serving import Server


@pytest.fixture(scope="module", params=[False, True], ids=["tasks", "prompt"])
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server with one worker for the tests of a module that leave it as it was.

    Once with an application that has a task for each request, once with one that answers GET without where it can.
    """
    with Server(tmp_path_factory.mktemp("server"), prompt=request.param) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
