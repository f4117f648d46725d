"""Windows of a file in memory, whatever the kernel can."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.serving import random_file

from stackyard.server import mapped
from stackyard.server.sendfile import FileTooShort

SIZE = 300_000


@pytest.fixture(params=["populated", "no such advice"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that populates a mapping on request, and one before Linux 5.14, to which the request means nothing."""
    if request.param == "no such advice":
        monkeypatch.setattr(mapped, "_MADV_POPULATE_READ", 9999)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    content = random_file(tmp_path / "file", SIZE)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor, content
    os.close(descriptor)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("offset", "size"), [(0, SIZE), (1, 4096), (4096, 1), (8191, 8193), (SIZE - 1, 1)])
def test_window_is_those_bytes_of_the_file(file: tuple[int, bytes], offset: int, size: int) -> None:
    with mapped.window(file[0], offset, size) as window:
        assert bytes(window) == file[1][offset : offset + size]


@pytest.mark.usefixtures("kernel")
def test_window_beyond_the_end_is_an_error(file: tuple[int, bytes]) -> None:
    with pytest.raises(FileTooShort, match="1 bytes are missing"), mapped.window(file[0], 5000, SIZE - 4999):
        pass
