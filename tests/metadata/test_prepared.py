"""Statements that are compiled once."""

import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Column, Connection, Dialect, Integer, MetaData, Table, Update, bindparam, select, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from stackyard.metadata import (
    blobs,
    clock,
    collection,
    due,
    hiding,
    keys,
    manifests,
    pulls,
    reach,
    repositories,
    retention,
    rules,
    sqlite,
    tags,
    uploads,
)
from stackyard.metadata.database import Database
from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.schema import installation, repository

MODULES = [blobs, collection, due, hiding, keys, manifests, pulls, reach, repositories, retention, rules, tags, uploads]
_PG: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


def _statements() -> Iterator[tuple[str, Prepared]]:
    for module in MODULES:
        for name, value in inspect.getmembers(module):
            if isinstance(value, Prepared):
                yield f"{module.__name__.rpartition('.')[2]}.{name}", value


STATEMENTS = dict(_statements())
# One row, a few, or all open sessions: small by nature.
SMALL = {"keys._CURRENT", "keys._LOCK", "rules._ALL", "uploads._COUNT"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_a_whole_table(name: str, sqlite_url: str) -> None:
    """The cost of a push must not grow with what was pushed before."""
    prepared = STATEMENTS[name].sqlite
    connection = sqlite.connect(sqlite.path_of(sqlite_url), write=True)
    try:
        driver = connection.connection.driver_connection
        assert driver is not None
        values = ["1"] * prepared.sql.count("?")
        plan = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {prepared.sql}", values)]
    finally:
        sqlite.disconnect(connection)

    # json_each and anon_… are lists and subqueries of the statement itself
    whole = [step for step in plan if step.startswith("SCAN") and not re.search("json_each|CONSTANT|anon_", step)]
    assert name in SMALL or not whole, plan
    assert not any("TEMP B-TREE" in step for step in plan) or name in SMALL, plan


@pytest.mark.parametrize("name", [name for name, one in STATEMENTS.items() if isinstance(one.statement, Update)])
def test_a_value_named_like_a_column_does_not_slip_into_the_update(name: str) -> None:
    """SQLAlchemy adds to SET every value whose name is a column of the table."""
    statement = STATEMENTS[name].statement
    alone = statement.compile(dialect=_PG)
    given = statement.compile(dialect=_PG, column_keys=list(alone.params))

    assert str(given) == str(alone)


async def test_instants_and_spans_are_exact(database: Database) -> None:
    instant = datetime(2038, 1, 19, 3, 14, 7, 999_999, tzinfo=UTC)
    span = timedelta(days=-3, microseconds=7)
    echo = Prepared(select(bindparam("instant", type_=clock.Instant()), bindparam("span", type_=clock.Span())))

    assert await database.read(lambda c: echo.one(c, instant=instant, span=span)) == (instant, span)
    assert await database.read(lambda c: echo.one(c, instant=None, span=None)) == (None, None)


async def test_the_database_clock_is_the_clock(database: Database) -> None:
    now = Prepared(select(clock.now(), clock.after("span"), clock.before("span")))

    before = datetime.now(UTC)
    row = await database.read(lambda c: now.one(c, span=timedelta(hours=1)))
    after = datetime.now(UTC)

    assert row is not None
    tolerance = timedelta(milliseconds=2)  # SQLite's clock counts milliseconds
    assert before - tolerance <= row[0] <= after + tolerance
    assert row[1] - row[0] == row[0] - row[2] == timedelta(hours=1)


@pytest.mark.parametrize("wanted", [[], ["a"], ["a", "c", "missing"]])
async def test_each_is_the_list_that_was_bound(database: Database, wanted: list[str]) -> None:
    for name in "abc":
        await database.write(repositories.ensure_listed, name)
    statement = Prepared(
        select(repository.c.name).where(repository.c.name.op("IN")(each(bindparam("names", type_=TextList()))))
    )

    found = await database.read(lambda c: statement.column(c, names=wanted))

    assert sorted(found) == [name for name in wanted if name in "abc"]


async def test_fetch_takes_values_in_the_order_of_the_names(database: Database) -> None:
    statement = Prepared(select(bindparam("b", type_=clock.Span()), bindparam("a", type_=clock.Span())), "a", "b")
    one, two = timedelta(seconds=1), timedelta(seconds=2)

    row = await database.read(lambda c: statement.one(c, a=one, b=two))

    assert row == (two, one)
    order = Prepared(
        select(installation.c.id).where(
            bindparam("small", type_=Integer) < bindparam("large", type_=Integer), installation.c.id == 1
        ),
        "large",
        "small",
    )
    assert await database.fetch(order, 2, 1) == (1,)
    assert await database.fetch(order, 1, 2) is None


def test_constants_of_a_statement_need_no_value(sqlite_url: str) -> None:
    table = Table("probe", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    connection: Connection = sqlite.connect(sqlite.path_of(sqlite_url), write=True)
    try:
        connection.execute(text("CREATE TABLE probe (id INTEGER PRIMARY KEY, n INTEGER)"))
        Prepared(table.insert().values(n=7)).run(connection)
        Prepared(table.insert().values(id=bindparam("id"), n=None)).many(connection, [{"id": 5}, {"id": 6}])
        rows = Prepared(select(table.c.id, table.c.n).order_by(table.c.id)).all(connection)
    finally:
        sqlite.disconnect(connection)

    assert rows == [(1, 7), (5, None), (6, None)]
