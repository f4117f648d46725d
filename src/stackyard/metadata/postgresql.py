"""The engine for several nodes: PostgreSQL through asyncpg.

The same plain functions run through `AsyncConnection.run_sync`. Reads are autocommitted statements; writes are READ
COMMITTED transactions that take row locks explicitly and are run again when the server reports a race.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Connection, event, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from stackyard.metadata import migrate
from stackyard.metadata.database import Function, P, T
from stackyard.metadata.errors import CannotStart, DatabaseFull, DatabaseUnavailable
from stackyard.metadata.migrations import blockers
from stackyard.metadata.migrations.blockers import watched
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.restarts import FAILURES, Restart

# serialization_failure, deadlock_detected, unique_violation: somebody else came first, look again.
_RACES = frozenset({"40001", "40P01", "23505"})
_ATTEMPTS = 10
# lock_not_available: somebody did not let go for `lock_timeout`.
_LOCKED = "55P03"
_ATTEMPTS_AT_A_LOCK = 3
_DEADLOCK = "40P01"
_DISK_FULL = "53100"
_FORBIDDEN = "42501"
# By class: connections, resources, the operator (restart, cancel), the system. And a lock that nobody let go, and a
# transaction that was ended as this process stood still in it.
_UNAVAILABLE = frozenset({"08", "53", "57", "58", _LOCKED, "25P03"})
# Any number will do that no other program uses as an advisory lock in this database.
_MIGRATION_LOCK = 0x57AC4A4D
# The last one comes when a connection ends between two steps of one operation.
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
Tell = Callable[[str], None]
"""Takes a sentence for whoever waits."""
_Find = Callable[[tuple[Any, ...]], Any]
_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
_SETTINGS = {
    "application_name": "stackyard",
    # A process that stands still inside a transaction loses its locks well before those who wait for them give up: a
    # frozen collector must cost a push some seconds, and not fail it.
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "10s",
}
# Seconds that a statement may take, of those that requests and the background need, and that anybody waits for a
# connection: a server that is cut off or stands still costs a request so long, and a refusal that says to try again.
_PATIENCE = 15.0
_PATIENCE_TO_CONNECT = 5.0
# The server ends who stands still between two statements, but not who does so within one: it has been told to prepare
# and waits for the values, or it has an answer that nobody reads. Whoever waits for the locks of such a process ends
# its session. Only who locks has a `backend_xid`.
_END_WHO_STANDS_STILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND application_name = current_setting('application_name')
  AND state = 'active' AND wait_event_type = 'Client' AND backend_xid IS NOT NULL
  AND state_change < clock_timestamp() - current_setting('idle_in_transaction_session_timeout')::interval
"""
# A migration's. Its name is another one, or a node would take it for one of those that stand still.
_MIGRATING = {
    "application_name": "stackyard migrate",
    # Longer than the server's `deadlock_timeout` (1s): only after that it ends an automatic vacuum that is in the way.
    "lock_timeout": "2s",
    # A migrator that stands still lets go of everything.
    "idle_in_transaction_session_timeout": "60s",
    # What a role's own setting allows a request may be too little for an index.
    "statement_timeout": "0",
}
# Seconds between the tries of a migration that met a lock: a minute in all, in which a request or a check ends, and a
# pg_dump does not.
_PAUSES: tuple[float, ...] = (1, 2, 4, 8, 8, 8, 8)
_BETWEEN_REMARKS = 10.0  # seconds


class PostgreSQLDatabase:
    """`Database` on a server."""

    reads_in_place = False

    def __init__(self, engine: AsyncEngine, surveying: AsyncEngine, pool: Any) -> None:
        """Take the pools over: for functions, for those that take long, and for single prepared reads."""
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._surveying = surveying.execution_options(isolation_level="REPEATABLE READ")
        self._pool = pool
        self._compiled: dict[Prepared, tuple[str, list[_Find]]] = {}

    async def read(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        return await _look(self._reading, _call(function, *args, **kwargs))

    async def survey(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        return await _look(self._surveying, _call(function, *args, **kwargs))

    async def write(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        call = _call(function, *args, **kwargs)
        with _explained():
            states: list[str | None] = []
            restart = Restart()
            while True:
                is_done = False
                try:
                    async with self._engine.begin() as connection:
                        result = await connection.run_sync(call)
                        is_done = True  # and if the server goes now, nobody knows whether it is committed
                    return result
                except FAILURES as error:
                    state = _state(error.orig if isinstance(error, DBAPIError) else error)
                    if state not in _RACES and state != _LOCKED:
                        if is_done:
                            raise
                        await restart.bear(error)
                        continue
                    states.append(state)
                    if len(states) == _ATTEMPTS or states.count(_LOCKED) == _ATTEMPTS_AT_A_LOCK:
                        raise
                    if state == _LOCKED:
                        await self._pool.execute(_END_WHO_STANDS_STILL)
                # Those who met in a deadlock should not meet again.
                await asyncio.sleep(random.uniform(0, 0.01 * len(states)))  # noqa: S311

    async def write_relaxed(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        return await self.write(function, *args, **kwargs)

    async def fetch(self, prepared: Prepared, *values: Any) -> Row | None:
        """See `Database`."""
        compiled = self._compiled.get(prepared)
        if compiled is None:
            compiled = self._compiled[prepared] = _compile(prepared)
        sql, finders = compiled
        bound = [find(values) for find in finders]
        with _explained():
            restart = Restart()
            while True:
                try:
                    async with self._pool.acquire(timeout=_PATIENCE) as connection:
                        row = await connection.fetchrow(sql, *bound)
                    return None if row is None else tuple(row)
                except FAILURES as error:
                    await restart.bear(error)

    def version(self) -> object:
        """See `Database`. Only a question to the server could tell."""
        return None

    async def close(self) -> None:
        """See `Database`."""
        await self._pool.close()
        await self._surveying.dispose()
        await self._engine.dispose()


async def open_server(url: str, *, connections: int) -> PostgreSQLDatabase:
    """Connect to a migrated database. Raises CannotStart."""
    single = max(1, connections // 2)
    engine = _engine(url, connections=max(1, connections - single), patience=_PATIENCE)
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=single,
        reset=_keep,
        server_settings=_SETTINGS,
        timeout=_PATIENCE_TO_CONNECT,
        command_timeout=_PATIENCE,
    )
    database = PostgreSQLDatabase(engine, _engine(url, connections=1, patience=None), await pool)
    try:
        await database.read(migrate.check)
    except BaseException:
        await database.close()
        raise
    return database


async def _look(engine: AsyncEngine, call: Callable[[Connection], T]) -> T:
    with _explained():
        restart = Restart()
        while True:
            try:
                async with engine.connect() as connection:
                    return await connection.run_sync(call)
            except FAILURES as error:
                await restart.bear(error)


def _engine(url: str, *, connections: int, patience: float | None) -> AsyncEngine:
    connect = partial(
        asyncpg.connect, url, server_settings=_SETTINGS, timeout=_PATIENCE_TO_CONNECT, command_timeout=patience
    )
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_PATIENCE if patience else None,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


async def look(url: str, function: Callable[[Connection], T]) -> T:
    """What `function` finds. Waits in no line. Raises CannotStart."""
    engine = _engine_of_one(url)
    try:
        with _told():
            async with engine.connect() as connection:
                return await connection.run_sync(function)
    finally:
        await engine.dispose()


async def run_exclusive(url: str, function: Callable[[Connection], T], tell: Tell = lambda sentence: None) -> T:
    """Run in a transaction that no other `run_exclusive` of any node can meet.

    While a change of a table waits for its lock, everybody who comes later waits behind it. So it gives up soon, lets
    all of them pass, and the whole function runs again; after the last time it is told who was in the way.

    Raises:
        CannotStart: Nothing was changed. And what `function` raises.
    """
    engine = _engine_of_one(url)
    try:
        with _told():
            for pause in (*_PAUSES, None):
                async with engine.connect() as connection:
                    session = await _queue(connection, tell)
                    async with watched(session, partial(_connect_first, url)) as found:
                        try:
                            result = await connection.run_sync(function)
                            await connection.commit()
                            return result
                        except DBAPIError as error:
                            if _state(error.orig) not in (_LOCKED, _DEADLOCK):
                                raise
                if pause is None:
                    break
                tell(f"{blockers.names(found)} is in the way of the migration; it tries again in {pause:g} s")
                await asyncio.sleep(pause)
            raise CannotStart(
                f"the database cannot be migrated now: {blockers.names(found)} does not let go of its tables: "
                f"{blockers.advice(found)}"
            )
    finally:
        await engine.dispose()


async def _queue(connection: AsyncConnection, tell: Tell) -> int:
    """Wait until no other stackyard migrates or starts; our session's number.

    However long: who stands still there is ended by the server.
    """
    told = -_BETWEEN_REMARKS
    while True:
        try:
            query = text("SELECT pg_backend_pid(), pg_advisory_xact_lock(:key)")
            return int((await connection.execute(query, {"key": _MIGRATION_LOCK})).one()[0])
        except DBAPIError as error:
            await connection.rollback()
            if _state(error.orig) != _LOCKED:
                raise
        if time.monotonic() - told >= _BETWEEN_REMARKS:
            told = time.monotonic()
            tell("another stackyard starts on this database or migrates it: waiting until it is done")


def _engine_of_one(url: str) -> AsyncEngine:
    return create_async_engine("postgresql+asyncpg://", async_creator=partial(_connect_first, url), pool_size=1)


@contextmanager
def _told() -> Iterator[None]:
    """Whoever starts the program is told what is wrong, where that is not a mistake of ours. Raises CannotStart.

    An OSError belongs to the function: it looks at the volume, too.
    """
    try:
        yield
    except (DBAPIError, *_DRIVER_ERRORS) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        state = _state(original) or ""
        if state == _FORBIDDEN:
            raise CannotStart(f"the database does not let its user do what is needed: {original}") from error
        if state == _LOCKED:
            raise CannotStart("the tables are being changed just now: try again when that is done") from error
        if not state or state[:2] in _UNAVAILABLE or state in _UNAVAILABLE:
            raise CannotStart(f"the database failed: {original}") from error
        raise


async def _connect_first(url: str) -> Any:
    """Whoever starts the program is told what is wrong. The address may hold a password and is not repeated."""
    try:
        return await asyncpg.connect(url, server_settings=_MIGRATING)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise CannotStart(f"the database cannot be reached: {error}") from error


def _call(function: Function[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[Connection], T]:
    return lambda connection: function(connection, *args, **kwargs)


def _state(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


@contextmanager
def _explained() -> Iterator[None]:
    """What the driver's errors mean to the rooms above, where they are not mistakes of ours."""
    try:
        yield
    except (DBAPIError, *_DRIVER_ERRORS, PoolTimeout, OSError) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        state = _state(original) or ""
        if state == _DISK_FULL:
            raise DatabaseFull(str(original)) from error
        if not state or state[:2] in _UNAVAILABLE or state in _UNAVAILABLE:
            raise DatabaseUnavailable(str(original)) from error
        raise


def _refuse_closed(connection: Any, record: Any, _: object) -> None:
    """The pool makes a new connection in place of one that ended while it lay idle, as asyncpg's own pool does.

    Costs no round trip: the driver was told when the server went. One that ends later still fails its request, also
    a new one: the pool would only try once more, and then call it a mistake of ours.
    """
    if record.info.get("lay_idle") and connection.driver_connection.is_closed():
        raise DisconnectionError("ended while it was idle")
    record.info["lay_idle"] = True  # from the next time on; a new connection has a new `info`


async def _keep(connection: Any) -> None:
    """Single reads leave nothing on a connection that would have to be reset."""


def _compile(prepared: Prepared) -> tuple[str, list[_Find]]:
    """The statement in the driver's words, and for each of its places how to find the value."""
    compiled = prepared.statement.compile(dialect=_DIALECT)
    finders: list[_Find] = []
    for name in compiled.positiontup or []:
        if name in prepared.names:
            finders.append(itemgetter(prepared.names.index(name)))
        else:
            finders.append(partial(_constant, compiled.params[name]))
    return str(compiled), finders


def _constant(value: Any, _: tuple[Any, ...]) -> Any:
    return value
