"""Programs of the machine that a test needs."""

import os
import shutil

import pytest


def path(program: str) -> str:
    """Where `program` is. Skips the test, saying why, when it is not installed."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def need_root(why: str) -> None:
    """Skips the test, saying `why`, unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip(f"not root: {why}")
