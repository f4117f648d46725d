"""One worker process: it answers requests until it is told to stop."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias

import structlog
import uvloop

from stackyard.server.acceptor import Acceptor, ApplicationFor
from stackyard.server.balance import Balance
from stackyard.server.local import peer_of
from stackyard.server.protocol import Application
from stackyard.server.roster import Roster
from stackyard.server.settings import DEFAULT_DRAIN, ServerSettings
from stackyard.server.tls import Certificate

WATCH = 1.0  # seconds between two looks at the certificate's files

_log = structlog.get_logger("server")


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Which worker this is."""

    index: int
    """0 … workers - 1; a replaced worker's successor has its index."""
    workers: int
    background: bool = False
    """It answers nothing: it does what nobody waits for. Its index is `workers`."""


class RunningApp(Protocol):
    """What `build` made: the application, opened for this process."""

    @property
    def app(self) -> Application:
        """Answers on the main listener."""
        ...

    @property
    def debug_app(self) -> Application | None:
        """Answers on the debug listener."""
        ...

    def local_app(self, uid: int) -> Application:
        """Answers a process of this user on the local socket."""
        ...

    async def reload(self) -> None:
        """Read again what may change while running. What cannot be used is logged and the old kept."""
        ...

    async def close(self) -> None:
        """Finish and let go of everything."""
        ...


Build = Callable[[WorkerContext], Awaitable[RunningApp]]
Kind: TypeAlias = Literal["main", "debug", "local"]


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener's sockets and its certificate, as opened by the supervisor."""

    sockets: Sequence[socket.socket]
    certificate: Certificate | None = None
    kind: Kind = "main"


@dataclass(frozen=True, slots=True)
class Lifeline:
    """The two pipes between supervisor and worker."""

    report: int
    """Written by the worker: one byte when it is ready, or why it cannot be."""
    parent: int
    """Never written: its end means that the supervisor is no more."""


READY = b"\0"


@dataclass(frozen=True, slots=True)
class Task:
    """What every worker does."""

    settings: ServerSettings
    listeners: Sequence[Listener]
    build: Build
    balance: Balance


def run(task: Task, context: WorkerContext, line: Lifeline) -> int:
    """Serve until SIGTERM, or until the supervisor is gone; returns the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Worker(task, context, line).serve(task.build))


class Worker:
    """The state of one worker process."""

    def __init__(self, task: Task, context: WorkerContext, line: Lifeline) -> None:
        self._settings = task.settings
        self._listeners = task.listeners
        self._balance = task.balance
        self._context = context
        self._line = line
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, build: Build) -> int:
        """Build the application, answer, drain and close it."""
        loop = asyncio.get_running_loop()
        if self._context.background:
            # Or the kernel would go on taking connections for us while the workers end, which nobody answers.
            for opened in (each for listener in self._listeners for each in listener.sockets):
                opened.close()
        self._listen_to_supervisor(loop)
        try:
            running = await build(self._context)
        except Exception as error:
            _log.debug("the worker failed to start", exc_info=True)
            os.write(self._line.report, (str(error) or repr(error)).encode()[:4096])
            return 1
        loop.add_signal_handler(signal.SIGHUP, partial(self._begin_reload, running))
        if self._context.background:
            os.write(self._line.report, READY)
            await self._stop.wait()
            await running.close()
            return 0
        roster = Roster(loop, self._settings.limits, partial(self._balance.set, self._context.index))
        roster.start()
        self._balance.set(self._context.index, 0)
        acceptors = [each for listener in self._listeners for each in self._open(roster, running, listener)]
        watch = loop.create_task(self._watch_certificates())
        os.write(self._line.report, READY)
        await self._stop.wait()
        watch.cancel()
        await self._finish(roster, running, acceptors)
        return 0

    def _listen_to_supervisor(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(self._line.parent, os._exit, 1)

    def _open(self, roster: Roster, running: RunningApp, listener: Listener) -> list[Acceptor]:
        application_for = _application_for(running, listener.kind)
        if application_for is None:
            return []
        return [
            Acceptor(
                opened,
                roster,
                application_for,
                ahead=partial(self._balance.ahead, self._context.index),
                certificate=listener.certificate,
                patience=self._settings.limits.header_timeout.total_seconds(),
            )
            for opened in listener.sockets
        ]

    async def _finish(self, roster: Roster, running: RunningApp, acceptors: Sequence[Acceptor]) -> None:
        self._balance.absent(self._context.index)
        for acceptor in acceptors:
            acceptor.close()
        late = await roster.drain((self._settings.drain or DEFAULT_DRAIN).total_seconds())
        if late:
            _log.warning("requests were cut off at the end of draintimeout", requests=late)
        roster.stop()
        await running.close()

    # -- reload

    def _begin_reload(self, running: RunningApp) -> None:
        task = asyncio.get_running_loop().create_task(self._reload(running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self, running: RunningApp) -> None:
        async with self._reloading:
            for certificate in self._certificates():
                await asyncio.to_thread(certificate.reload)
            try:
                await running.reload()
            except Exception:
                _log.exception("reload failed; what was loaded before stays")

    async def _watch_certificates(self) -> None:
        """Follow the certificate's files: a renewal is served without a signal."""
        while True:
            await asyncio.sleep(WATCH)
            for certificate in self._certificates():
                if certificate.changed():
                    async with self._reloading:
                        await asyncio.to_thread(certificate.reload)

    def _certificates(self) -> list[Certificate]:
        return [listener.certificate for listener in self._listeners if listener.certificate]


def _application_for(running: RunningApp, kind: Kind) -> ApplicationFor | None:
    """What answers on a connection of this kind of listener; None: such connections are not taken."""
    if kind == "local":
        return lambda peer: running.local_app(peer_of(peer))
    app = running.debug_app if kind == "debug" else running.app
    return (lambda _: app) if app else None
