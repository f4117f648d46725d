"""SQLite's driver: the newest one at hand."""

from typing import Any

try:
    import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]
except ImportError:  # no wheel for this platform: the interpreter's own, if it is new enough
    import sqlite3 as dbapi

module: Any = dbapi
DatabaseError: type[Exception] = dbapi.DatabaseError
