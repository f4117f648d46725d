"""How many connections each worker has, in memory that all of them share."""

import mmap

_NONE = 2**31 - 1  # a worker that is not there never has the fewest
A_BIT = 1
FAR = 2


class Balance:
    """One number per worker. Made by the supervisor before the first fork; each worker writes its own only."""

    def __init__(self, workers: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * workers)).cast("i")
        for index in range(workers):
            self.absent(index)

    def absent(self, index: int) -> None:
        """The worker takes no connections."""
        self._counts[index] = _NONE

    def set(self, index: int, connections: int) -> None:
        """The worker has this many connections."""
        self._counts[index] = connections

    def ahead(self, index: int) -> int:
        """How far the worker is ahead of the one with the fewest connections: 0, `A_BIT` or `FAR`.

        A quarter and one more is not ahead: without slack short connections would be passed to and fro.
        """
        own, fewest = self._counts[index], min(self._counts)
        if own * 4 <= fewest * 5 + 4:
            return 0
        return FAR if own > fewest * 2 + 4 else A_BIT
