"""Statements that are built and compiled once, and cost next to nothing to run on SQLite.

On SQLite a statement runs on the driver's own connection, below SQLAlchemy's result and transaction layers: 6 µs for
an indexed read instead of 30, 3 µs for an insert instead of 13. On PostgreSQL, where a round trip costs more than
either, it runs as any Core statement does.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import BigInteger, Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import ARRAY, Text, TypeDecorator, TypeEngine

Row = tuple[Any, ...]
Statement = Select[*tuple[Any, ...]] | Insert | Update | Delete
_Process = Callable[[Any], Any]
_SQLITE = sqlite.dialect(paramstyle="named")


class Prepared:
    """One statement with named values. Rows come back as plain tuples.

    `names` is for statements that `Database.fetch` runs: the order in which it takes the values. Theirs are texts and
    numbers, in both directions, as the driver knows them. Inside functions of a `Connection` values are passed by
    name, and the statement's types convert them.
    """

    def __init__(self, statement: Statement, *names: str) -> None:
        """Nothing is compiled before the first run."""
        self.statement = statement
        self.names = names

    def one(self, connection: Connection, **values: Any) -> Row | None:
        """The first row, or None."""
        if connection.dialect.name == "sqlite":
            return self.sqlite.one(_driver(connection), values)
        row = connection.execute(self.statement, values).first()
        return None if row is None else tuple(row)

    def scalar(self, connection: Connection, **values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.one(connection, **values)
        return None if row is None else row[0]

    def all(self, connection: Connection, **values: Any) -> list[Row]:
        """Every row."""
        if connection.dialect.name == "sqlite":
            return self.sqlite.all(_driver(connection), values)
        return [tuple(row) for row in connection.execute(self.statement, values)]

    def column(self, connection: Connection, **values: Any) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.all(connection, **values)]

    def run(self, connection: Connection, **values: Any) -> int:
        """Change rows; how many were changed."""
        if connection.dialect.name == "sqlite":
            return self.sqlite.run(_driver(connection), values)
        return connection.execute(self.statement, values).rowcount

    def many(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run once per element of `rows`, in one exchange with the database."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            self.sqlite.many(_driver(connection), rows)
        else:
            connection.execute(self.statement, rows)

    @cached_property
    def sqlite(self) -> "OnSQLite":
        """The statement as SQLite's driver takes it."""
        return OnSQLite(self.statement)


class OnSQLite:
    """A statement in SQLite's words, with the conversions that its types need and no other step."""

    def __init__(self, statement: Statement) -> None:
        """Compile. Values that the statement itself holds become constants."""
        compiled = statement.compile(dialect=_SQLITE)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        binders = {name: bind.type.dialect_impl(_SQLITE).bind_processor(_SQLITE) for name, bind in binds.items()}
        self.sql = str(compiled)
        self._binders = {name: binder for name, binder in binders.items() if binder is not None}
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._readers = [_reader(column.type) for column in statement.exported_columns]
        self._plain = not any(self._readers)

    def one(self, driver: Any, values: dict[str, Any]) -> Row | None:
        """See `Prepared.one`."""
        row = driver.execute(self.sql, self.bound(values)).fetchone()
        return row if row is None or self._plain else self._read(row)

    def all(self, driver: Any, values: dict[str, Any]) -> list[Row]:
        """See `Prepared.all`."""
        rows: list[Row] = driver.execute(self.sql, self.bound(values)).fetchall()
        return rows if self._plain else [self._read(row) for row in rows]

    def run(self, driver: Any, values: dict[str, Any]) -> int:
        """See `Prepared.run`."""
        changed: int = driver.execute(self.sql, self.bound(values)).rowcount
        return changed

    def many(self, driver: Any, rows: Sequence[dict[str, Any]]) -> None:
        """See `Prepared.many`."""
        driver.executemany(self.sql, [self.bound(dict(values)) for values in rows])

    def bound(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values as the driver takes them. Changes `values`."""
        if self._constants:
            values.update(self._constants)
        for name, bind in self._binders.items():
            values[name] = bind(values[name])
        return values

    def _read(self, row: Row) -> Row:
        return tuple(value if read is None else read(value) for read, value in zip(self._readers, row, strict=True))


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _reader(column_type: TypeEngine[Any]) -> _Process | None:
    process: _Process | None = column_type.dialect_impl(_SQLITE).result_processor(_SQLITE, None)
    return process


class TextList(TypeDecorator[list[str]]):
    """A bound list of texts: an array on PostgreSQL, JSON on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Arrays exist on one engine only."""
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        """Meant for digests: they hold nothing that JSON would escape."""
        if value is None or dialect.name == "postgresql":
            return value
        return '["' + '","'.join(value) + '"]' if value else "[]"


class NumberList(TypeDecorator[list[int]]):
    """As `TextList`, of numbers."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See `TextList`."""
        return dialect.type_descriptor(ARRAY(BigInteger()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: list[int] | None, dialect: Dialect) -> Any:
        """See `TextList`."""
        return value if value is None or dialect.name == "postgresql" else str(value)


class each(FunctionElement[Any]):
    """The elements of a bound `TextList` or `NumberList`, as a subquery: one statement, whatever its length."""

    inherit_cache = True


@compiles(each, "sqlite")
def _each_sqlite(element: each, compiler: SQLCompiler, **options: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **options)}))"  # noqa: S608


@compiles(each, "postgresql")
def _each_postgresql(element: each, compiler: SQLCompiler, **options: Any) -> str:
    return f"(SELECT unnest({compiler.process(element.clauses, **options)}))"
