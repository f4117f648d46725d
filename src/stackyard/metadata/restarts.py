"""Bearing with a PostgreSQL that is away for a moment, as while it restarts or another one takes its place."""

import asyncio
import time

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError

FAILURES = (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a connection that cannot be made, or that ended, fails with."""
_PATIENCE = 2.0  # seconds: a restart takes one
_PAUSE = 0.05  # seconds between two tries
# admin_shutdown, crash_shutdown, cannot_connect_now
_GOING = frozenset({"57P01", "57P02", "57P03"})


class Restart:
    """One operation's patience."""

    def __init__(self) -> None:
        """It begins with the first failure."""
        self._end: float | None = None

    async def bear(self, error: BaseException) -> None:
        """Return when it is worth another try. Raises `error` otherwise: it is another one, or has lasted too long."""
        if not _is_away(error):
            raise error
        now = time.monotonic()
        if self._end is None:
            self._end = now + _PATIENCE
        if now > self._end:
            raise error
        await asyncio.sleep(_PAUSE)


def _is_away(error: BaseException) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else error
    state: str | None = getattr(original, "sqlstate", None)
    if state is not None:
        return state in _GOING or state.startswith("08")
    if isinstance(original, TimeoutError):  # it is there and does not answer: that took long enough
        return False
    # Of the driver's own errors without a state, all but mistakes of ours tell of a connection that ended.
    return isinstance(original, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
