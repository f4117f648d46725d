"""The lock for which the writers of a database file queue, in all processes."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class WriteLock:
    """At most one writer of a database file among all processes, in about the order in which they came.

    The kernel frees the lock of a process that dies. It wakes those who wait for a flock without handing it over, so
    a busy process could take it again before another one has woken up; therefore each one queues for a second lock
    (of the other kind, on the same file) and lets that one go only when it has the first.
    """

    def __init__(self, database: Path) -> None:
        """Make the lock file beside the database."""
        self._file = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        """Wait."""
        with suppress(OSError):  # the order is a courtesy, and the kernel may see a deadlock in it where there is none
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the next one in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
