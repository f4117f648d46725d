"""Bringing the database to this code's schema, and refusing one it cannot work with.

Run once, before any worker starts, under a lock that every stackyard on the database respects. Alembic is imported
only when there is something to do: it costs more than the rest of the start.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, inspect, select

from stackyard.metadata import schema
from stackyard.metadata.errors import BadDatabaseURL, SchemaMissing, SchemaOutdated, SchemaTooNew

REVISION = "0002"
"""The revision that makes `schema.VERSION`."""


def migrate(url: str, then: Callable[[Connection], None] = lambda c: None) -> None:
    """Make or upgrade the tables, and do what else has to be done once. Blocks; not to be called on an event loop.

    A database newer than this code is left alone, if its floor allows this code to work with it.

    Args:
        url: As `open_database` takes it.
        then: Runs in the same transaction, when the tables are as this code needs them.

    Raises:
        CannotStart: With the reason; nothing was changed. And what `then` raises.
    """

    def both(connection: Connection) -> None:
        upgrade(connection)
        then(connection)

    if url.startswith("sqlite:"):
        from stackyard.metadata import sqlite

        with sqlite.exclusive(url) as connection:
            both(connection)
    elif url.startswith(("postgresql:", "postgres:")):
        from stackyard.metadata import postgresql

        asyncio.run(postgresql.run_exclusive(url, both))
    else:
        raise BadDatabaseURL("the database URL is neither sqlite:///path nor postgresql://…")


def upgrade(connection: Connection) -> None:
    """Run what is missing, in the caller's transaction and under the caller's lock."""
    try:
        check(connection)
    except (SchemaMissing, SchemaOutdated):
        _run_alembic(connection)


def check(connection: Connection) -> None:
    """Raises SchemaMissing, SchemaOutdated or SchemaTooNew."""
    if not inspect(connection).has_table(schema.installation.name):
        raise SchemaMissing("the database holds no tables of stackyard")
    version, floor = connection.execute(select(schema.installation.c.version, schema.installation.c.floor)).one()
    if floor > schema.VERSION:
        raise SchemaTooNew(
            f"the database was upgraded by a newer stackyard (schema {version}, which needs {floor} at least; this is "
            f"{schema.VERSION}): start that version, or restore the backup made before the upgrade"
        )
    if version < schema.VERSION:
        raise SchemaOutdated(f"the database has schema {version}, this stackyard needs {schema.VERSION}: migrate first")


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)
    connection.execute(schema.installation.update().values(version=schema.VERSION, floor=schema.FLOOR))
