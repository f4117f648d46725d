"""A process that writes to a database, for tests that need another one: `writing.py VERB URL …`."""

import asyncio
import os
import sys
import time
from pathlib import Path

from sqlalchemy import Connection

from stackyard.metadata import repositories, sqlite
from stackyard.metadata.database import open_database
from stackyard.metadata.writelock import WriteLock


def _make(c: Connection, name: str) -> int:
    return repositories.ensure_listed(c, name)


def _say(what: str) -> None:
    os.write(1, what.encode() + b"\n")


async def many(url: str, process: str) -> None:
    """Fifty repositories, some at once and some one after the other."""
    database = await open_database(url)
    for start in range(0, 50, 10):
        await asyncio.gather(
            *(database.write(_make, f"p{process}/r{number}") for number in range(start, start + 5)),
            *(database.write_relaxed(_make, f"p{process}/r{number}") for number in range(start + 5, start + 10)),
        )
    await database.close()


async def hang(url: str) -> None:
    """Stay inside a transaction for ever."""

    def inside(c: Connection) -> None:
        _make(c, "never")
        _say("inside")
        time.sleep(3600)

    database = await open_database(url)
    await database.write(inside)


async def traced(url: str) -> None:
    """One write of each kind and many at once, with marks around them."""
    database = await open_database(url)
    await database.write(_make, "first")
    for name, write in (("relaxed", database.write_relaxed), ("durable", database.write)):
        _say(f"{name} begins")
        await write(_make, name)
        _say(f"{name} ends")
    _say("many begin")
    await asyncio.gather(*(database.write(_make, f"many/{number}") for number in range(200)))
    _say("many end")
    await database.close()


async def close(url: str) -> None:
    """Open, write, and close when told to by a line."""
    database = await open_database(url)
    await database.write_relaxed(_make, "first")
    _say("open")
    sys.stdin.readline()
    await database.close()


async def queue(url: str, order: str) -> None:
    """Take the write lock once."""
    lock = WriteLock(sqlite.path_of(url))
    _say("waits")
    with lock:
        Path(order).write_text("child")


VERBS = {verb.__name__: verb for verb in (many, hang, traced, close, queue)}

if __name__ == "__main__":
    asyncio.run(VERBS[sys.argv[1]](*sys.argv[2:]))
