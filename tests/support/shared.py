"""One server for all workers of a test run, where one for each would cost too much memory.

Whichever worker asks first starts a *keeper*, a process that has the server as its child. Every worker holds a shared
lock on one file, which the kernel takes back however the worker ends. The keeper waits for the exclusive lock, and ends
the server when it gets it.
"""

import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from tests.support.processes import wait_until

T = TypeVar("T")
_ROOT = Path(__file__).parent.parent.parent
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
_keepers: list[subprocess.Popen[bytes]] = []


@contextmanager
def kept(serve: Callable[[Path], AbstractContextManager[T]]) -> Iterator[T]:
    """What `serve` yields in the keeper, for as long as any worker is in such a context.

    Args:
        serve: A function of a module, given an empty folder with a short path. It yields what can be pickled.
    """
    folder = Path("/tmp", f"y{serve.__module__.rpartition('.')[2]}-{_RUN}")
    with _entered(folder):
        with (folder / "starting").open("a") as one:
            fcntl.flock(one, fcntl.LOCK_EX)
            if not (folder / "facts").exists():
                _start(serve, folder)
        facts: T = pickle.loads((folder / "facts").read_bytes())
        yield facts


def _entered(folder: Path) -> IO[bytes]:
    """A file that is locked until it is closed."""
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            users = (folder / "users").open("ab")
            fcntl.flock(users, fcntl.LOCK_SH)
            if os.fstat(users.fileno()).st_nlink:
                return users
            users.close()  # of a keeper that has just ended, and has removed its folder


def _start(serve: Callable[[Path], AbstractContextManager[T]], folder: Path) -> None:
    with (folder / "log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, folder],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=_ROOT,
            start_new_session=True,
        )
    assert keeper.stdin
    with keeper.stdin:
        keeper.stdin.write(pickle.dumps(serve))
    _keepers.append(keeper)

    def is_there() -> bool:
        assert keeper.poll() is None, (folder / "log").read_text()
        return (folder / "facts").exists()

    wait_until(is_there, f"{serve.__module__} to start", timeout=100)
    keeper.returncode = 0  # it is not waited for: it ends after this process


def _keep(folder: Path) -> None:
    serve = pickle.load(sys.stdin.buffer)
    with (folder / "users").open("ab") as users:
        place = folder / "files"
        place.mkdir()
        try:
            with serve(place) as facts:
                unfinished = folder / "facts.unfinished"
                unfinished.write_bytes(pickle.dumps(facts))
                unfinished.rename(folder / "facts")
                fcntl.flock(users, fcntl.LOCK_EX)
        finally:
            shutil.rmtree(place)
        shutil.rmtree(folder)  # and after a failure the log stays


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
