"""The connections of one worker: one clock for all of them, one look at each per tick."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Protocol

from stackyard.server.settings import Limits

LONGEST_TICK = 1.0  # seconds; also how late a Date header may be
ARRIVING = 0.05  # seconds, at a drain, for requests to be read that were sent before it
FIRST_REQUEST = 1.0  # seconds, at a drain, for the first request of a connection that was made before it
WRITE_OUT = 5.0  # seconds for answers that are complete, at a drain, to leave our buffers


class Watched(Protocol):
    """What the roster needs of a connection."""

    @property
    def is_fresh(self) -> bool:
        """Whether no request has come on it yet."""
        ...

    def check(self, now: float) -> None:
        """Let go of a client that took too long."""
        ...

    def drain(self, *, idle: bool) -> None:
        """Close once the running request is answered; when there is none, at once if `idle` ones are to go."""
        ...


class Roster:
    """Every connection and running request of this worker.

    Timeouts are looked for once per tick instead of armed per request: a timer made and cancelled for each
    request cost more than the parsing of its header.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        counted: Callable[[int], None] = lambda connections: None,
    ) -> None:
        """Start empty; `counted` is told the number of connections whenever it changes."""
        self._counted = counted
        self.loop = loop
        self.limits = limits
        self.connections: set[Watched] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.now = loop.time()
        self.date = _date()
        self.draining = False
        """Whether every answer is the last one of its connection."""
        self._closing = False
        self._opening = 0
        shortest = min(limits.header_timeout, limits.idle_timeout, limits.rate_window, limits.linger_idle)
        self._tick = min(LONGEST_TICK, shortest.total_seconds() / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    def expect(self, change: int) -> None:
        """So many more, or fewer, connections are being opened: a TLS handshake counts too."""
        self._opening += change
        self._count()

    def add(self, connection: Watched) -> None:
        """The connection is open."""
        self.connections.add(connection)
        if self._closing:
            self.loop.call_soon(partial(connection.drain, idle=True))
        self._count()

    def forget(self, connection: Watched) -> None:
        """The connection is closed."""
        self.connections.discard(connection)
        self._count()
        if not self.connections:
            self._emptied.set()

    def _count(self) -> None:
        if not self.draining:
            self._counted(len(self.connections) + self._opening)

    def start(self) -> None:
        """Keep time until `stop`."""
        self.now = self.loop.time()
        self.date = _date()
        for connection in tuple(self.connections):
            connection.check(self.now)
        self._timer = self.loop.call_later(self._tick, self.start)

    def stop(self) -> None:
        """No longer keep time."""
        if self._timer:
            self._timer.cancel()

    async def drain(self, patience: float) -> int:
        """Let running requests finish for up to `patience` seconds; returns how many were cut off.

        A proxy that has connected, and maybe sent its request, would see it reset, and not all of them may be sent
        again. So what was sent is read first, and a new connection has a moment to say what it is for.
        """
        self.draining = True
        self._emptied.clear()
        for connection in tuple(self.connections):
            connection.drain(idle=False)
        if self.connections or self._opening:
            await asyncio.sleep(ARRIVING)
        for _ in range(int(min(patience, FIRST_REQUEST) / ARRIVING)):
            if not self._drain_known():
                break
            await asyncio.sleep(ARRIVING)
        self._closing = True
        for connection in tuple(self.connections):
            connection.drain(idle=True)
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=patience)
        await self._until_written()
        late = tuple(self.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1)
        return len(late)

    def _drain_known(self) -> bool:
        """Close what is idle; whether there is any of which nobody knows yet what it is for."""
        for connection in tuple(self.connections):
            if not connection.is_fresh:
                connection.drain(idle=True)
        return bool(self._opening) or any(connection.is_fresh for connection in self.connections)

    async def _until_written(self) -> None:
        """Wait for the last answers to leave: their tasks are done, their bytes may still be in our buffers."""
        if not self.tasks and self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), WRITE_OUT)


def _date() -> bytes:
    return b"date: %b\r\n" % formatdate(usegmt=True).encode()
