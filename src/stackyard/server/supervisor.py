"""The parent process: it opens the sockets, forks the workers and keeps them alive. It answers nothing itself."""

import gc
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import structlog

from stackyard.server import child, cpus, sockets
from stackyard.server.balance import Balance
from stackyard.server.child import Child
from stackyard.server.errors import StartError
from stackyard.server.local import open_local
from stackyard.server.settings import DEFAULT_DRAIN, Listen, ServerSettings
from stackyard.server.tls import Certificate
from stackyard.server.worker import Build, Kind, Listener, Task, WorkerContext

LONGEST_PAUSE = 10.0  # seconds between two tries of a worker that keeps dying
SETTLED = 5.0  # seconds after which a worker's death is an accident and not a habit
SAME_REQUEST = 0.5  # seconds within which a second signal is the first one's echo: timeout(1) sends both at once
OVERTIME = 3.0  # seconds beyond the drain that a worker gets to close what it opened
BACKGROUND_OVERTIME = 6.0  # seconds that the background work gets when the workers have ended

_log = structlog.get_logger("server")


def serve(
    settings: ServerSettings,
    *,
    build: Build,
    prepare: Callable[[], None] = lambda: None,
    ready: Callable[[Sequence[str]], None] = lambda addresses: None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Sockets are opened first, so that a taken port is told before anything is touched; then `prepare` runs once,
    here; then every worker runs `build` for itself.

    Args:
        settings: What to listen on, and how long for.
        build: Makes the application in a worker, after the fork.
        prepare: Runs in this process before the first fork: migrations, checks, giving up rights.
        ready: Called once when every worker answers, with the main listener's addresses.

    Raises:
        StartError: Nothing is served, and nothing was left running.
    """
    _raise_file_limit()
    listeners: list[Listener] = []
    # Process 1 of a container has no default for SIGTERM: without this a long migration could not be stopped.
    before = signal.signal(signal.SIGTERM, _give_up)
    try:
        listeners += _open(settings)
        prepare()
        if settings.local:
            listeners.append(Listener(open_local(settings.local), kind="local"))
        return Supervisor(settings, listeners, build).run(ready)
    finally:
        signal.signal(signal.SIGTERM, before)
        for listener in listeners:
            sockets.close(listener.sockets)


class Supervisor:
    """The workers of one server."""

    def __init__(self, settings: ServerSettings, listeners: Sequence[Listener], build: Build) -> None:
        self._settings = settings
        self._listeners = listeners
        self._workers = cpus.workers(settings.workers)
        self._children = [Child(index) for index in range(self._workers + settings.background)]
        self._balance = Balance(self._workers)
        self._task = Task(settings, listeners, build, self._balance)
        self._lifeline = os.pipe()
        self._serving = False
        self._deadline: float | None = None
        """When running requests are cut off; None while serving."""
        self._background_ends = False
        self._asked = 0.0
        self._status = 0

    def run(self, ready: Callable[[Sequence[str]], None]) -> int:
        """Fork the workers and stay until all have ended; returns the exit status."""
        gc.collect()
        gc.freeze()  # a collection in a worker would write to, and so copy, every page of what we share
        with _signals() as wakeup:
            try:
                while not (self._deadline is not None and not self._alive()):
                    self._fork_due(wakeup)
                    self._wait(wakeup)
                    self._reap()
                    self._end_background()
                    self._announce(ready)
                    self._enforce_deadline()
            finally:
                self._kill(signal.SIGKILL)
        return self._status

    def _alive(self) -> list[Child]:
        return [each for each in self._children if each.pid]

    def _fork_due(self, wakeup: int) -> None:
        if self._deadline is not None:
            return
        for each in self._children:
            if not each.pid and each.due <= time.monotonic():
                others = [wakeup, *(other.report for other in self._children if other.report >= 0)]
                context = WorkerContext(each.index, self._workers, background=each.index == self._workers)
                child.fork(each, self._task, context, self._lifeline, others)

    # -- what happens

    def _wait(self, wakeup: int) -> None:
        """Wait for a signal, a report or the next thing due, and take note of it."""
        watched = select.poll()
        watched.register(wakeup, select.POLLIN)
        reports = {each.report: each for each in self._children if each.report >= 0}
        for report in reports:
            watched.register(report, select.POLLIN)
        for fd, _ in watched.poll(self._patience()):
            if fd in reports:
                reports[fd].listen()
            else:
                for number in os.read(wakeup, 512):
                    self._handle(number)

    def _patience(self) -> float | None:
        """Milliseconds until something is due; None: nothing is."""
        due = [each.due for each in self._children if not each.pid] if self._deadline is None else [self._deadline]
        return max(0.0, min(due) - time.monotonic()) * 1000 if due else None

    def _handle(self, number: int) -> None:
        if number == signal.SIGHUP:
            _log.info("reloading")
            self._kill(signal.SIGHUP)
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stop(number)

    def _stop(self, number: int) -> None:
        if self._deadline is not None:
            if time.monotonic() - self._asked > SAME_REQUEST:
                _log.warning("stopping at once: asked a second time")
                self._status = 128 + number
                self._kill(signal.SIGKILL)
            return
        self._asked = time.monotonic()
        drain = (self._settings.drain or DEFAULT_DRAIN).total_seconds()
        _log.info("stopping; running requests may finish", seconds=round(drain))
        self._deadline = time.monotonic() + drain + OVERTIME
        for listener in self._listeners:
            sockets.close(listener.sockets)
        self._kill(signal.SIGTERM, self._serving_children())

    def _serving_children(self) -> list[Child]:
        return [each for each in self._alive() if each.index < self._workers]

    def _end_background(self) -> None:
        """The background work is the last to end: it follows what was pushed to the very end."""
        if self._deadline is not None and not self._background_ends and not self._serving_children():
            self._background_ends = True
            self._deadline = max(self._deadline, time.monotonic() + BACKGROUND_OVERTIME)
            self._kill(signal.SIGTERM)

    def _kill(self, number: signal.Signals, children: Sequence[Child] | None = None) -> None:
        for each in self._alive() if children is None else children:
            with suppress(ProcessLookupError):
                os.kill(each.pid, number)

    def _enforce_deadline(self) -> None:
        if self._deadline is not None and self._alive() and time.monotonic() > self._deadline:
            _log.warning("a worker did not end in time and is killed")
            self._kill(signal.SIGKILL)
            self._deadline = time.monotonic() + OVERTIME

    def _announce(self, ready: Callable[[Sequence[str]], None]) -> None:
        if self._serving or self._deadline is not None or not all(each.ready for each in self._children):
            return
        self._serving = True
        addresses = [
            sockets.describe(opened, tls=listener.certificate is not None)
            for listener in self._listeners
            if listener.kind == "main"
            for opened in listener.sockets
        ]
        _log.info("serving", address=" ".join(addresses), workers=self._workers)
        ready(addresses)

    # -- what ended

    def _reap(self) -> None:
        """Note which workers ended. As a container's first process we inherit orphans: they are reaped too."""
        by_pid = {each.pid: each for each in self._alive()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in by_pid:
                self._ended(by_pid[pid], os.waitstatus_to_exitcode(status))

    def _ended(self, each: Child, code: int) -> None:
        pid, lived = each.pid, time.monotonic() - each.started
        each.listen()
        message = each.bury()
        if each.index < self._workers:
            self._balance.absent(each.index)
        if self._deadline is not None:
            return
        if not self._serving:
            raise StartError(message or f"a worker ended while starting ({_cause(code)})")
        each.crashes = each.crashes + 1 if lived < SETTLED else 0
        pause = min(LONGEST_PAUSE, 0.1 * 2**each.crashes) if each.crashes > 1 else 0.0
        each.due = time.monotonic() + pause
        _log.error("a worker ended and is replaced", pid=pid, cause=message or _cause(code), pause=pause)


def _open(settings: ServerSettings) -> Iterator[Listener]:
    given = sockets.inherited(os.environ)
    kinds: tuple[tuple[Listen | None, Kind], ...] = ((settings.main, "main"), (settings.debug, "debug"))
    for listen, kind in kinds:
        if listen is not None:
            certificate = Certificate(listen.tls) if listen.tls else None
            yield Listener(given.get(kind) or sockets.open_listener(listen), certificate, kind)


def _give_up(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _cause(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _raise_file_limit() -> None:
    """As many descriptors as we may have: every connection and every open blob needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of our signals can be read, one byte each."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _noted) for number in child.SIGNALS}
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _noted(number: int, frame: object) -> None:
    """Nothing: that there is a handler makes the interpreter write the number to the wakeup descriptor."""
