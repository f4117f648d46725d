"""The worker processes of a server, and which of them serves a connection."""

import os
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from tests.support.processes import is_running, wait_until

from stackyard.server.child import BACKGROUND

_TCP = Path("/proc/net/tcp")


def pids(supervisor: int) -> list[int]:
    """The workers of this supervisor that run now; not its process for the background work."""
    return [pid for pid in children(supervisor) if pid not in background(supervisor)]


def background(supervisor: int) -> list[int]:
    """The process that does this server's background work."""
    return [pid for pid in children(supervisor) if _name(pid) == BACKGROUND]


def children(supervisor: int) -> list[int]:
    """Every process of this server but the supervisor."""
    found = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    try:
        return [int(pid) for pid in found.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def serving(connection: socket.socket, workers: Collection[int]) -> int | None:
    """The worker that holds the other end of this IPv4 connection; None while it waits for one to take it."""
    inode = _inode(local=connection.getpeername()[1], remote=connection.getsockname()[1])
    for pid in workers:
        if inode is not None and f"socket:[{inode}]" in _open_files(pid):
            return pid
    return None


def connect_to(worker: int, port: int, workers: Collection[int]) -> HTTPConnection:
    """A connection that this worker serves: the kernel and the workers decide, so others are tried and closed."""
    spare = []
    try:
        while True:
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            connection.connect()
            if taken_by(connection, workers) == worker:
                return connection
            spare.append(connection)
            assert len(spare) < 100, f"worker {worker} takes no connections"
    finally:
        for connection in spare:
            connection.close()


def taken_by(connection: HTTPConnection, workers: Collection[int]) -> int:
    """The worker that serves this open connection, once one does."""
    found: list[int] = []

    def is_taken() -> bool:
        found.extend(pid for pid in [serving(connection.sock, workers)] if pid is not None)
        return bool(found)

    wait_until(is_taken, "a worker takes the connection")
    return found[0]


def kill(pids_: Collection[int]) -> None:
    """SIGKILL to all of them, and wait until all have ended."""
    for pid in pids_:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, pids_)), f"{pids_} to end")


@contextmanager
def frozen(pid: int) -> Iterator[Callable[[], None]]:
    """The process stands still within the context, or until the result is called."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(pid), f"{pid} to stop")
    thawed = False

    def thaw() -> None:
        nonlocal thawed
        if not thawed:
            thawed = True
            os.kill(pid, signal.SIGCONT)

    try:
        yield thaw
    finally:
        thaw()


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _name(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _inode(*, local: int, remote: int) -> str | None:
    for line in _TCP.read_text().splitlines()[1:]:
        fields = line.split()
        if [int(address.rpartition(":")[2], 16) for address in fields[1:3]] == [local, remote]:
            return fields[9]
    return None


def _open_files(pid: int) -> set[str]:
    found = set()
    folder = Path(f"/proc/{pid}/fd")
    with suppress(FileNotFoundError, ProcessLookupError):
        for entry in folder.iterdir():
            with suppress(FileNotFoundError):
                found.add(str(entry.readlink()))
    return found
