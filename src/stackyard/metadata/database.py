"""The seam between the rooms and whichever engine holds the rows."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from stackyard.metadata.errors import BadDatabaseURL
from stackyard.metadata.prepared import Prepared, Row

P = ParamSpec("P")
T = TypeVar("T")
Function = Callable[Concatenate[Connection, P], T]


class Database(Protocol):
    """Runs plain functions of a `Connection`: one function, one transaction.

    A function may run more than once before its transaction is committed, so it changes nothing but rows. On SQLite
    it runs in a thread of its own when it writes, and on the event loop when it reads: a read is bounded to a page.
    What a function raises reaches the caller, and nothing of its transaction is kept. Two writes of which the second
    does not await the first have no order.
    """

    @property
    def reads_in_place(self) -> bool:
        """Whether reads wait for nobody. Otherwise they may need a task: drivers put limits on how long they wait."""
        ...

    async def read(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result. Each statement in it sees what was committed when it began."""
        ...

    async def survey(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for what takes long: every statement in it sees the same state, and no request waits for it."""
        ...

    async def write(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, once its changes survive a power cut.

        Deadlocks, serialisation failures and unique violations, by which PostgreSQL tells of a race, run it again.
        Cancelling the caller does not undo it. Raises DatabaseFull.
        """
        ...

    async def write_relaxed(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, but a power cut that stops every process may take the changes with it.

        They are atomic and seen by all at once, and survive the death of any process. PostgreSQL runs on while the
        nodes go down and the other way round, so there this is `write`: a claim that the database forgot while its
        holder lives could be given out twice.
        """
        ...

    async def fetch(self, prepared: Prepared, *values: Any) -> Row | None:
        """The first row of a prepared read, or None. The cheapest way to ask: no transaction, no function."""
        ...

    def version(self) -> object:
        """Equal to an earlier one only if nothing was committed in between, by whomever; None where nobody can say.

        Costs next to nothing.
        """
        ...

    async def close(self) -> None:
        """Let writes under way end, then let go of threads and connections."""
        ...


def exists(url: str) -> bool:
    """Whether the file of an embedded database is there; a server's is taken to be."""
    if not url.startswith("sqlite:"):
        return True
    from stackyard.metadata import sqlite

    return sqlite.path_of(url).exists()


async def open_database(url: str, *, connections: int = 10) -> Database:
    """Open a migrated database, in the process that will use it: nothing of it survives a fork.

    Args:
        url: `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host/name`.
        connections: At most so many to PostgreSQL, for this process.

    Raises:
        CannotStart: With the reason.
    """
    # Only one engine's driver is loaded.
    if url.startswith("sqlite:"):
        from stackyard.metadata import sqlite

        return sqlite.open_file(url)
    if url.startswith(("postgresql:", "postgres:")):
        from stackyard.metadata import postgresql

        return await postgresql.open_server(url, connections=connections)
    raise BadDatabaseURL("the database URL is neither sqlite:///path nor postgresql://…")
