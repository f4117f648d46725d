"""Time in the database: whose clock, and in which unit.

The database's clock rules. Rows keep microseconds since the epoch as integers, so that both engines store, compare
and index them alike; Python sees aware UTC datetimes and timedeltas.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, BindParameter, ColumnElement, Dialect, bindparam, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A point in time: aware UTC in Python, microseconds since the epoch in the row."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Exact: no floating point."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The inverse."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Span(TypeDecorator[timedelta]):
    """A length of time: timedelta in Python, microseconds in the statement."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """Exact: no floating point."""
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:
        """The inverse."""
        return None if value is None else timedelta(microseconds=value)


class now(FunctionElement[datetime]):
    """The database's clock when the statement began."""

    type = Instant()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **_: object) -> str:
    # unixepoch() gives seconds with three decimals as a float: rounding keeps the millisecond exact.
    return "(CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER) * 1000)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **_: object) -> str:
    # Not now(): a transaction that waited for a lock would judge others by the time before it waited.
    # Not clock_timestamp(): it is volatile, so comparing with it uses no index.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)"


def span(name: str) -> BindParameter[timedelta]:
    """A bound timedelta."""
    return bindparam(name, type_=Span())


def after(name: str) -> ColumnElement[datetime]:
    """The instant that is the bound timedelta from now."""
    return type_coerce(now() + span(name), Instant())


def before(name: str) -> ColumnElement[datetime]:
    """The instant that was the bound timedelta ago."""
    return type_coerce(now() - span(name), Instant())


def until(column: ColumnElement[Any]) -> ColumnElement[int]:
    """Microseconds from now until the instant in `column`, negative when it has passed."""
    return type_coerce(column - now(), BigInteger())
