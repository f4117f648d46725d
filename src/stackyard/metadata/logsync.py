"""Making the log reach the disk, after the commit and for all who wait at once."""

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from stackyard.metadata.errors import DatabaseUnavailable


class Waiting(Protocol):
    """Something that was committed, and for which somebody waits."""

    error: BaseException | None


class LogSync:
    """Delivers what was committed once it survives a power cut.

    SQLite syncs within the commit, under its write lock, so that writers wait for a disk one after the other. Here
    they commit without a sync, and one fdatasync(2) then serves every commit made before it began: the log is one
    file, which is only added to. (A checkpoint begins it anew, after a sync of its own of all that was in it.)

    What was committed can be seen a moment before it is durable. Whoever builds on it by a durable write waits for
    the same log, so nothing acknowledged by one ever rests on something lost. Who only read it in that moment (a HEAD)
    may find it gone after a power cut, and is then told so by the write that names it.
    """

    def __init__(self, database: Path) -> None:
        """Open the log of `database`. A connection that keeps it there must be open until `close` has ended."""
        self._file = os.open(f"{database}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._waiting: queue.SimpleQueue[tuple[Sequence[Waiting], Callable[[], object]] | None] = queue.SimpleQueue()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._serve, name="metadata log", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises DatabaseUnavailable for good once a sync has failed.

        The kernel tells of a page that it could not write only once: another sync would succeed over the hole.
        """
        if self._failure:
            raise DatabaseUnavailable(f"the disk lost what it had taken, restart to go on: {self._failure}")

    def after(self, committed: Sequence[Waiting], deliver: Callable[[], object]) -> None:
        """Call `deliver` in our thread after the next sync. When that fails, `committed` are given the error first."""
        self._waiting.put((committed, deliver))

    async def close(self) -> None:
        """Serve those who wait, then end."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        os.close(self._file)

    def _serve(self) -> None:
        closing = False
        while not closing:
            batch = [self._waiting.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(self._waiting.get_nowait())
            closing = None in batch
            self._sync()
            for each in batch:
                if each:
                    self._deliver(*each)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._failure = self._failure or error

    def _deliver(self, committed: Sequence[Waiting], deliver: Callable[[], object]) -> None:
        try:
            self.check()
        except DatabaseUnavailable as error:
            for each in committed:
                each.error = error
        deliver()
