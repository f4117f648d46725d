"""Who is in the way of a migration on PostgreSQL. Only while it waits can the server say."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

_BETWEEN_LOOKS = 0.5  # seconds
_BLOCKERS = """
SELECT pid, usename, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)::int
FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1)) ORDER BY xact_start
"""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that somebody waits for. What another user's session does may be hidden from us."""

    pid: int
    user: str | None
    application: str | None
    state: str | None
    seconds: int | None
    """How long its transaction has lasted."""

    def __str__(self) -> str:
        begun = None if self.seconds is None else f"begun {self.seconds} s ago"
        about = [self.user, self.application, self.state, begun]
        return f"session {self.pid} ({', '.join(each for each in about if each)})"


@asynccontextmanager
async def watched(session: int, connect: Callable[[], Awaitable[Any]]) -> AsyncIterator[list[Blocker]]:
    """Whom the session was seen to wait for last, as far as it waited for long. Filled in while the context lasts."""
    blockers: list[Blocker] = []
    watching = asyncio.create_task(_watch(session, connect, blockers))
    try:
        yield blockers
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(session: int, connect: Callable[[], Awaitable[Any]], blockers: list[Blocker]) -> None:
    await asyncio.sleep(_BETWEEN_LOOKS)  # most are done by then
    connection = await connect()
    try:
        while True:
            if found := await connection.fetch(_BLOCKERS, session):
                blockers[:] = [Blocker(*row) for row in found]
            await asyncio.sleep(_BETWEEN_LOOKS)
    finally:
        connection.terminate()


def names(blockers: Sequence[Blocker]) -> str:
    """For a sentence about them."""
    return ", ".join(map(str, blockers)) or "another session"


def advice(blockers: Sequence[Blocker]) -> str:
    """What the person who migrates can do about them."""
    if not blockers:
        return "try again later"
    pids = ", ".join(f"SELECT pg_terminate_backend({each.pid})" for each in blockers)
    told = f"wait until it is done, or end it ({pids}), and try again"
    if any((each.state or "").startswith("idle in transaction") for each in blockers):
        told += "; idle_in_transaction_session_timeout is the setting that ends such sessions by itself"
    return told
