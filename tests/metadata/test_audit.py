"""The audit log: found by what it says, page by page, and trimmed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from stackyard.metadata import audit
from stackyard.metadata.database import Database

YEAR = timedelta(days=365)


async def fill(database: Database) -> None:
    """Number n happened n hours after the year's beginning."""
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    for n in range(1, 7):
        actor, action = ("user:alice", "tag.delete") if n % 2 else ("local:root", "gc.start")
        await database.write(
            audit.record, actor=actor, action=action, repository="team/app" if n % 3 == 0 else None, n=n
        )
        moment = (start + n * 3600) * 10**6
        last = f"UPDATE audit SET happened_at = {moment} WHERE id = (SELECT max(id) FROM audit)"
        await database.write(_execute, last)


def _execute(c: Connection, statement: str) -> None:
    c.execute(text(statement))


def at(hour: int) -> datetime:
    return datetime(2026, 1, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"actor": "user:alice"}, [5, 3, 1]),
        ({"action": "gc.start"}, [6, 4, 2]),
        ({"repository": "team/app"}, [6, 3]),
        ({"actor": "user:alice", "repository": "team/app"}, [3]),
        ({"since": at(5)}, [6, 5]),
        ({"until": at(3)}, [2, 1]),
        ({"since": at(2), "until": at(4), "actor": "user:alice"}, [3]),
        ({"since": at(7)}, []),
        ({"until": at(7)}, [6, 5, 4, 3, 2, 1]),
        ({"actor": "nobody"}, []),
    ],
    ids=str,
)
async def test_entries_are_found_by_what_they_say(database: Database, wanted: dict[str, Any], found: list[int]) -> None:
    await fill(database)

    page = await database.read(audit.page, before=None, limit=9, **wanted)
    first = await database.read(audit.page, before=None, limit=1, **wanted)
    rest = await database.read(audit.page, before=first[0].id if first else None, limit=9, **wanted)

    assert [entry.detail["n"] for entry in page] == found
    assert first + rest == page


async def test_the_oldest_go_by_age_and_by_number(database: Database) -> None:
    await fill(database)
    await database.write(audit.record, actor="local:root", action="gc.start")

    assert await database.write(audit.trim, keep=100 * YEAR, most=6, limit=9) == 1
    assert await database.write(audit.trim, keep=timedelta(hours=1), most=6, limit=2) == 2
    assert await database.write(audit.trim, keep=timedelta(hours=1), most=6, limit=9) == 3
    assert await database.write(audit.trim, keep=timedelta(hours=1), most=6, limit=9) == 0
    assert len(await database.read(audit.page, before=None, limit=9)) == 1
