"""The thread that writes: what waits is committed as one group. It also keeps the log short."""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from stackyard.metadata.driver import DatabaseError
from stackyard.metadata.errors import DatabaseFull, DatabaseUnavailable
from stackyard.metadata.logsync import LogSync

T = TypeVar("T")

# Other processes wait meanwhile.
_GROUP_SECONDS = 0.05
_GROUP_FUNCTIONS = 500
# Pages in the log that are not in the database yet, and after how many functions they are counted: some ten pages each.
_LONGEST_LOG = 4_000
_FUNCTIONS_PER_COUNT = 200


@dataclass(slots=True, eq=False)
class _Task:
    function: Callable[[Connection], Any]
    durable: bool
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        self.result, self.error = None, None
        try:
            self.result = self.function(connection)
        except BaseException as error:  # it belongs to the caller, not to this thread
            self.error = explained(error)


class _TransactionGone(Exception):
    """SQLite rolled everything back by itself, as it does when the disk is full."""


class Writer:
    """Runs functions of a `Connection` in transactions, one thread per process.

    Functions that wait together share a transaction. Each has a savepoint of its own: one that raises leaves nothing
    behind and does not touch its neighbours. Those that are to be durable are delivered by way of the log, the others
    at once. Two that are not awaited one after the other have no order.
    """

    def __init__(self, connection: Connection, lock: AbstractContextManager[Any], log: LogSync) -> None:
        """Start the thread. `lock` is held around each transaction; the connection is the thread's from now on."""
        self._connection = connection
        self._driver: Any = connection.connection.driver_connection
        self._lock = lock
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._arrivals: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._backlog: deque[_Task] = deque()
        self._uncounted = 0
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="metadata writer", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[Connection], T], *, durable: bool) -> "asyncio.Future[T]":
        """Queue a function; the future is its result, once it is committed. Raises DatabaseUnavailable."""
        self._log.check()
        future: asyncio.Future[T] = self._loop.create_future()
        self._arrivals.put(_Task(function, durable, future))
        return future

    async def close(self) -> None:
        """Commit what waits, then end."""
        self._arrivals.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        while self._wait():
            done = self._commit_group()
            for_now = [task for task in done if not task.durable or task.error]
            for_later = [task for task in done if task.durable and not task.error]
            if for_later:
                self._log.after(for_later, partial(self._hand_over, for_later))
            if for_now:
                self._hand_over(for_now)
            self._uncounted += len(done)
            if self._uncounted >= _FUNCTIONS_PER_COUNT:
                self._uncounted = 0
                with suppress(DatabaseError, OSError):  # the next count tries again
                    self._shorten_log()

    def _hand_over(self, tasks: Sequence[_Task]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_deliver, tasks)

    def _wait(self) -> bool:
        """Whether there is something to do; returns when that is known."""
        self._take_arrivals()
        if not self._backlog and not self._closing:
            self._sort(self._arrivals.get())
        return bool(self._backlog)

    def _take_arrivals(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._sort(self._arrivals.get_nowait())

    def _sort(self, task: _Task | None) -> None:
        if task is None:
            self._closing = True
        else:
            self._backlog.append(task)

    def _shorten_log(self) -> None:
        """Copy most of the log while others write, and the rest under the lock: only then it can begin anew."""
        _, pages, copied = self._driver.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        if pages - copied < _LONGEST_LOG:
            return
        self._driver.execute("PRAGMA wal_checkpoint(PASSIVE)")
        with self._lock:
            self._driver.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _commit_group(self) -> list[_Task]:
        """Commit what waits, as far as the bounds allow, and take it off the backlog."""
        try:
            with self._lock:
                self._take_arrivals()
                done = self._attempt(list(islice(self._backlog, _GROUP_FUNCTIONS)))
        except OSError as error:
            done = list(self._backlog)
            for task in done:
                task.error = DatabaseUnavailable(str(error))
        for _ in done:
            self._backlog.popleft()
        return done

    def _attempt(self, tasks: Sequence[_Task]) -> list[_Task]:
        done: list[_Task] = []
        try:
            self._transact(tasks, done)
        except _TransactionGone:
            # The last one lost everybody's work. Alone it loses only its own.
            for task in done[:-1]:
                self._attempt([task])
        except Exception as error:  # the transaction failed, not the thread
            done = done or list(tasks)
            for task in done:
                task.error = explained(error)
        return done

    def _transact(self, tasks: Sequence[_Task], done: list[_Task]) -> None:
        end = time.monotonic() + _GROUP_SECONDS
        self._driver.execute("BEGIN IMMEDIATE")
        try:
            for task in tasks:
                done.append(task)
                if len(tasks) == 1:
                    self._run_alone(task)
                else:
                    self._run(task)
                if time.monotonic() > end:
                    break
            if self._driver.in_transaction:
                self._driver.execute("COMMIT")
        except BaseException:
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK")
            raise

    def _run_alone(self, task: _Task) -> None:
        """Without a savepoint, which costs as much as a statement."""
        task.run(self._connection)
        if task.error is not None and self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def _run(self, task: _Task) -> None:
        self._driver.execute("SAVEPOINT task")
        task.run(self._connection)
        if not self._driver.in_transaction:
            raise _TransactionGone
        if task.error is not None:
            self._driver.execute("ROLLBACK TO task")
        self._driver.execute("RELEASE task")


def _deliver(tasks: Sequence[_Task]) -> None:
    for task in tasks:
        if task.future.done():
            continue
        if task.error is None:
            task.future.set_result(task.result)
        else:
            task.future.set_exception(task.error)


_FULL = 13
# SQLITE_BUSY, LOCKED, READONLY, IOERR, CANTOPEN, PROTOCOL
_UNAVAILABLE = frozenset({5, 6, 8, 10, 14, 15})


def explained(error: BaseException) -> BaseException:
    """What a driver's error means to the rooms above, where it is not a mistake of ours; anything else as it is."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
    found: BaseException = error
    if code == _FULL:
        found = DatabaseFull(str(original))
    elif code in _UNAVAILABLE:
        found = DatabaseUnavailable(str(original))
    if found is not error:
        found.__cause__ = error
    return found
