"""Migrations: the schema comes from them, and old code keeps its hands off new databases."""

import ast
import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from tests.metadata.making import pushed, put
from tests.support.postgresql import Server

from stackyard.metadata import database, migrate, postgresql, schema, sqlite
from stackyard.metadata.database import open_database
from stackyard.metadata.errors import BadDatabaseURL, SchemaMissing, SchemaOutdated, SchemaTooNew

T = TypeVar("T")
MIGRATIONS = Path(migrate.__file__).parent / "migrations"


@pytest.fixture
def new_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/stackyard.db"


@pytest.fixture
async def new_postgresql_url(postgresql_server: Server) -> str:
    return await postgresql_server.create()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest) -> str:
    """A database without any table."""
    found: str = request.getfixturevalue(f"new_{request.param}_url")
    return found


async def test_migrating_makes_exactly_the_tables_the_code_works_with(new_url: str) -> None:
    await asyncio.to_thread(migrate.migrate, new_url)

    assert await _inspect(new_url, _differences) == []


async def test_migrating_again_changes_nothing(new_url: str) -> None:
    await asyncio.to_thread(migrate.migrate, new_url)
    opened = await open_database(new_url)
    await opened.write(put, "a", pushed(b"m"), "v1")
    await opened.close()

    await asyncio.to_thread(migrate.migrate, new_url)

    opened = await open_database(new_url)
    assert await opened.read(lambda c: c.execute(text("SELECT name FROM tag")).all()) == [("v1",)]
    await opened.close()


async def test_processes_that_migrate_at_once_do_not_meet(new_url: str) -> None:
    program = f"from stackyard.metadata.migrate import migrate; migrate({new_url!r})"

    processes = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]

    for process in processes:
        _, complaint = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, complaint.decode()
    assert await _inspect(new_url, _differences) == []


async def test_a_database_that_was_not_migrated_is_not_opened(database_url: str) -> None:
    await _change(database_url, "UPDATE installation SET version = 0, floor = 0")

    with pytest.raises(SchemaOutdated, match="migrate first"):
        await open_database(database_url)


async def test_an_empty_database_is_not_opened(postgresql_server: Server) -> None:
    with pytest.raises(SchemaMissing):
        await open_database(await postgresql_server.create())


async def test_code_older_than_the_floor_refuses_to_migrate_and_to_open(database_url: str) -> None:
    await _change(database_url, f"UPDATE installation SET version = {schema.VERSION + 2}, floor = {schema.VERSION + 1}")

    with pytest.raises(SchemaTooNew, match="newer stackyard"):
        await asyncio.to_thread(migrate.migrate, database_url)
    with pytest.raises(SchemaTooNew):
        await open_database(database_url)


async def test_code_at_or_above_the_floor_works_with_a_newer_schema(database_url: str) -> None:
    """So that nodes can be upgraded one after the other."""
    await _change(database_url, f"UPDATE installation SET version = {schema.VERSION + 1}")

    await asyncio.to_thread(migrate.migrate, database_url)

    opened = await open_database(database_url)
    assert (
        await opened.read(lambda c: c.execute(text("SELECT version FROM installation")).scalar_one())
        == schema.VERSION + 1
    )
    await opened.close()


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "REVISION", "none-such")
    url = f"sqlite:///{tmp_path}/stackyard.db"

    with pytest.raises(Exception, match="none-such"):
        migrate.migrate(url)

    assert asyncio.run(_inspect(url, lambda c: inspect(c).get_table_names())) == []


def test_another_database_is_refused() -> None:
    with pytest.raises(BadDatabaseURL):
        migrate.migrate("mysql://host/name")


def test_the_last_revision_is_the_one_the_code_asks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_current_head() == migrate.REVISION


def test_alembic_is_not_loaded_when_there_is_nothing_to_migrate(sqlite_url: str) -> None:
    program = (
        f"import sys; from stackyard.metadata.migrate import migrate; migrate({sqlite_url!r}); "
        "assert not {'alembic', 'asyncpg', 'mako'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_migrations_import_nothing_of_ours() -> None:
    """What they say must not change with the code."""
    for file in (MIGRATIONS / "versions").glob("*.py"):
        assert not re.search(r"^(from|import) stackyard", file.read_text(), re.MULTILINE), file


def test_both_engines_are_loaded_only_when_used() -> None:
    tree = ast.parse(Path(database.__file__).read_text())
    top = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "stackyard.metadata"]
    assert top == []


def _differences(c: Connection) -> list[object]:
    context = MigrationContext.configure(c, opts={"compare_type": True, "target_metadata": schema.metadata})
    return [found for found in compare_metadata(context, schema.metadata) if "alembic_version" not in str(found)]


async def _inspect(url: str, function: Callable[[Connection], T]) -> T:
    if url.startswith("sqlite"):
        connection = sqlite.connect(sqlite.path_of(url), write=False)
        try:
            return function(connection)
        finally:
            sqlite.disconnect(connection)
    return await postgresql.run_exclusive(url, function)


async def _change(url: str, sql: str) -> None:
    def change(c: Connection) -> None:
        c.execute(text(sql))

    if url.startswith("sqlite"):
        with sqlite.exclusive(url) as connection:
            change(connection)
    else:
        await postgresql.run_exclusive(url, change)
