"""Forking a worker, so that nothing of the supervisor's is left in it and it does not outlive the supervisor."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import structlog

from stackyard.server import worker
from stackyard.server.worker import READY, Lifeline, Task, WorkerContext

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)
BACKGROUND = "stackyard-jobs"
"""What ps(1) and top(1) call the process of the background work; at most 15 characters."""

_log = structlog.get_logger("server")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Child:
    """One worker as its supervisor sees it."""

    index: int
    pid: int = 0
    report: int = -1
    """Descriptor on which the worker says that it is ready, or why it cannot be."""
    started: float = 0.0
    due: float = 0.0
    """When to fork it (again), on the monotonic clock."""
    ready: bool = False
    crashes: int = 0
    """In a row, each within moments of its start."""
    message: bytes = b""

    def listen(self) -> None:
        """Take what the worker reported; at the end of it the descriptor is closed."""
        while self.report >= 0:
            try:
                said = os.read(self.report, 4096)
            except BlockingIOError:
                return
            if said == READY:
                self.ready = True
            elif said:
                self.message += said
            else:
                self._hang_up()

    def bury(self) -> str:
        """Forget a worker that ended; returns its last words."""
        self._hang_up()
        said, self.message = self.message.decode(errors="replace"), b""
        self.pid, self.ready = 0, False
        return said

    def _hang_up(self) -> None:
        if self.report >= 0:
            os.close(self.report)
            self.report = -1


def fork(child: Child, task: Task, context: WorkerContext, lifeline: tuple[int, int], others: Sequence[int]) -> None:
    """Start the worker `child`; returns in the supervisor only.

    Args:
        child: Filled with the worker's pid and the end of its pipe.
        task: What the worker does.
        context: Which worker it is.
        lifeline: Pipe whose writing end the supervisor alone holds.
        others: Descriptors of the supervisor that a worker has no business with.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # No signal may reach the new process while it still has its parent's handlers and wakeup descriptor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _live(task, context, Lifeline(report=writer, parent=lifeline[0]), parent, [*others, reader, lifeline[1]])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(writer)
    os.set_blocking(reader, False)
    child.pid, child.report, child.started = pid, reader, time.monotonic()


def _live(task: Task, context: WorkerContext, line: Lifeline, parent: int, foreign: Sequence[int]) -> NoReturn:
    status = 1
    try:
        _settle(parent, foreign)
        if context.background:
            _libc.prctl(_PR_SET_NAME, BACKGROUND.encode())
        status = worker.run(task, context, line)
    except Exception:
        _log.exception("a worker failed")
    finally:
        # Never back into the supervisor's stack, nor through what it registered for its exit.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _settle(parent: int, foreign: Sequence[int]) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for fd in foreign:
        os.close(fd)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor passes on SIGTERM
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
