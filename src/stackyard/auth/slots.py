"""A number of slots that all workers of one machine share, so that password checks never take more than half its cores.

Each slot is one byte of an anonymous file made before the workers are forked; whoever holds a slot holds the POSIX
record lock of its byte. The kernel gives the locks of a killed worker back.
"""

import fcntl
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """At most `count` holders over all processes forked after this was made."""

    def __init__(self, count: int) -> None:
        """Call it before the workers are forked; each thread that calls `hold` needs no more than one slot."""
        self.count = count
        self._file = os.memfd_create("stackyard-slots")
        # A record lock belongs to the process, so its threads must not meet on one byte: each takes one from here.
        self._mine: queue.SimpleQueue[int] = queue.SimpleQueue()
        for byte in range(count):
            self._mine.put(byte)

    @classmethod
    def for_cores(cls, cores: int) -> "Slots":
        """Half of the cores, and one at least."""
        return cls(max(1, cores // 2))

    def close(self) -> None:
        """Give the file back; nothing may hold a slot any more."""
        os.close(self._file)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for a slot and keep it for the block. Blocks the thread, so it is not for an event loop."""
        byte = self._take()
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
            self._mine.put(byte)

    def _take(self) -> int:
        byte = self._mine.get()
        for _ in range(self.count):
            if self._try(byte):
                return byte
            self._mine.put(byte)
            byte = self._mine.get()
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, byte)
        return byte

    def _try(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return False
        return True
