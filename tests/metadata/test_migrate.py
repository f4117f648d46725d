"""Migrations: the schema comes from them, and old code keeps its hands off new databases."""

import ast
import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    INTEGER,
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from tests.metadata.making import pushed, put
from tests.support import processes, tools
from tests.support.postgresql import Server

from stackyard.metadata import database, migrate, postgresql, schema, sqlite
from stackyard.metadata.database import open_database
from stackyard.metadata.driver import module as dbapi
from stackyard.metadata.errors import (
    BadDatabaseURL,
    CannotStart,
    DatabaseFull,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
)

T = TypeVar("T")
MIGRATIONS = migrate.MIGRATIONS
NEXT = schema.VERSION + 1
ADDING = """
    op.add_column("tag", sa.Column("note", sa.Text(), nullable=True))
    op.add_column("blob", sa.Column("tier", sa.Integer(), nullable=False, server_default="0"))
    op.create_table("thing", sa.Column("id", sa.Integer(), nullable=False), sa.PrimaryKeyConstraint("id"))
    op.create_index("ix_tag_note", "tag", ["note"])
"""
TAKING = {
    "a table": 'op.drop_table("rule")',
    "a column": 'op.execute("ALTER TABLE tag RENAME COLUMN updated_by TO who")',
    "a default": 'op.execute("ALTER TABLE tag ADD COLUMN n INTEGER CHECK (n IS NOT NULL)")',
    "a value": "op.execute(\"ALTER TABLE follow ADD COLUMN n INTEGER CHECK (kind <> 'blob')\")",
    "repetition": 'op.create_index("new", "tag", ["updated_by"], unique=True)',
}
"""What no migration may take away from code that goes on working beside it."""


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
    await _change(database_url, "UPDATE installation SET version = 1, floor = 1")

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
    assert ScriptDirectory.from_config(migrate._config()).get_current_head() == migrate.REVISION


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


async def test_every_version_says_which_code_still_works_on_it() -> None:
    revisions = [each.revision for each in ScriptDirectory.from_config(migrate._config()).walk_revisions()]

    assert sorted(revisions) == [migrate.revision_of(version) for version in migrate.FLOORS]
    assert migrate.revision_of(schema.VERSION) == migrate.REVISION
    assert migrate.FLOORS[schema.VERSION] == schema.FLOOR
    assert sorted(migrate.FLOORS.values()) == list(migrate.FLOORS.values()), "a floor never sinks"
    assert all(floor <= version for version, floor in migrate.FLOORS.items())


async def test_code_from_the_floor_on_works_on_every_version(
    request: pytest.FixtureRequest, postgresql_server: Server, tmp_path: Path
) -> None:
    """Each pair that a floor allows: tables as the older one knows them, used after the migration to the newer one."""
    pairs = [(old, new) for new, floor in migrate.FLOORS.items() for old in range(floor, new + 1)]

    for old, new in pairs:
        await _use(f"sqlite:///{tmp_path}/{old}-{new}.db", old, new)
        await _use(await postgresql_server.create(), old, new)


async def test_0002_takes_something_away_as_its_floor_says(new_url: str) -> None:
    with pytest.raises(DBAPIError, match="INSERT INTO job "):
        await _use(new_url, 1, 2)


async def test_a_migration_that_only_adds_may_keep_the_floor(
    new_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "MIGRATIONS", _with_another(tmp_path, ADDING))

    await _use(new_url, schema.VERSION, NEXT)


@pytest.mark.parametrize("change", TAKING.values(), ids=TAKING)
async def test_a_migration_that_takes_away_may_not_keep_the_floor(
    new_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(migrate, "MIGRATIONS", _with_another(tmp_path, f"\n    {change}\n"))

    with pytest.raises(DBAPIError, match=r"INSERT INTO (rule|tag|follow) "):
        await _use(new_url, schema.VERSION, NEXT)


async def test_nodes_write_and_read_while_the_database_is_migrated(new_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(migrate.migrate, new_url)
    opened = await open_database(new_url)
    program = (
        "from pathlib import Path; from stackyard.metadata import migrate, schema; "
        f"migrate.MIGRATIONS = Path({str(_with_another(tmp_path, ADDING))!r}); "
        f"migrate.REVISION, schema.VERSION = '{migrate.revision_of(NEXT)}', {NEXT}; "
        f"done = migrate.migrate({new_url!r}); "
        f"assert (done.before, done.after) == ({schema.VERSION}, {NEXT}), done"
    )

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=subprocess.PIPE)
    numbers = itertools.count()
    while process.returncode is None or next(numbers) < 5:
        name = f"v{next(numbers)}"
        await opened.write(put, "a", pushed(name.encode()), name)
        await asyncio.sleep(0)
    assert process.stderr is not None
    assert process.returncode == 0, (await process.stderr.read()).decode()

    assert (await opened.read(migrate.find)).version == NEXT
    written = await opened.read(lambda c: c.execute(text("SELECT count(*), count(note) FROM tag")).one())
    assert written[0] > 5
    assert written[1] == 0
    await opened.close()


async def test_looking_changes_nothing_and_tells_what_is_due(new_url: str) -> None:
    assert await asyncio.to_thread(migrate.look, new_url) == migrate.Found(0, 0)
    if new_url.startswith("sqlite"):
        assert not sqlite.path_of(new_url).exists()
    await _change(new_url, lambda c: migrate.run(c, "0001"))

    found = await asyncio.to_thread(migrate.look, new_url)

    assert found == migrate.Found(1, 1)
    assert found.is_due
    assert found.shuts_out
    assert migrate.pending(1)[0] == ("0002", migrate.pending(0)[1][1])
    assert await _inspect(new_url, migrate.find) == found


class TestCopy:
    """Of an embedded database, before it is upgraded."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        """A database of the first schema, with content."""
        return self.make(tmp_path)

    def make(self, folder: Path) -> Path:
        with sqlite.exclusive(f"sqlite:///{folder}/stackyard.db") as c:
            migrate.run(c, "0001")
            c.execute(text("INSERT INTO repository (name, listed, created_at) VALUES ('before', true, 1)"))
        return folder / "stackyard.db"

    def test_a_database_is_copied_as_it_was(self, old: Path) -> None:
        told: list[str] = []

        done = migrate.migrate(f"sqlite:///{old}", tell=told.append)

        assert done.copy
        assert migrate.copies(old) == [done.copy]
        assert re.fullmatch(r"stackyard\.db\.schema-1\.\d{8}T\d{6}Z", done.copy.name)
        assert any(str(done.copy) in sentence for sentence in told)
        assert done.copy.stat().st_mode & 0o077 == 0
        with contextlib.closing(dbapi.connect(str(done.copy))) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert copy.execute("SELECT version, floor FROM installation").fetchall() == [(1, 1)]
            assert copy.execute("SELECT name FROM repository").fetchall() == [("before",)]

    def test_a_copy_put_back_is_the_database_of_before(self, old: Path) -> None:
        done = migrate.migrate(f"sqlite:///{old}")
        assert done.copy

        shutil.copy(done.copy, old)

        assert migrate.look(f"sqlite:///{old}") == migrate.Found(1, 1)
        assert migrate.migrate(f"sqlite:///{old}").after == schema.VERSION

    def test_a_new_database_and_one_that_is_up_to_date_are_not_copied(self, tmp_path: Path) -> None:
        for _ in range(2):
            assert migrate.migrate(f"sqlite:///{tmp_path}/stackyard.db").copy is None
        assert migrate.copies(tmp_path / "stackyard.db") == []

    def test_the_newest_copies_are_kept(self, old: Path) -> None:
        others = [old.with_name(f"{old.name}.schema-{version}.20{version}0101T000000Z") for version in (10, 11, 12)]
        strange = [old.with_name("stackyard.db.schema-mine"), old.with_name("other.db.schema-1.20200101T000000Z")]
        for each in [*others, *strange]:
            each.write_bytes(b"")

        done = migrate.migrate(f"sqlite:///{old}")

        assert migrate.copies(old) == [done.copy, others[-1]]
        assert all(each.exists() for each in strange)

    def test_a_migration_that_fails_leaves_no_copy(self, old: Path) -> None:
        def fail(c: Connection) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            migrate.migrate(f"sqlite:///{old}", fail)

        assert list(old.parent.glob("*.schema-*")) == []
        assert migrate.look(f"sqlite:///{old}").version == 1

    def test_a_copy_that_was_interrupted_does_not_look_whole(self, old: Path) -> None:
        program = (
            "import os; from stackyard.metadata import migrate, sqlite; sqlite._PAGES_AT_ONCE = 5; copy = sqlite.copy; "
            "sqlite.copy = lambda path, to, tell: copy(path, to, lambda rest, pages: os.kill(os.getpid(), 9)); "
            f"migrate.migrate('sqlite:///{old}')"
        )
        killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        left = list(old.parent.glob("*.schema-*"))
        assert len(left) == 1
        assert left[0].name.endswith(".partial")
        assert migrate.copies(old) == []

        done = migrate.migrate(f"sqlite:///{old}")

        assert list(old.parent.glob("*.schema-*")) == [done.copy]

    def test_tries_that_are_killed_leave_one_copy(self, old: Path) -> None:
        program = (
            "import os; from stackyard.metadata.migrate import migrate; "
            f"migrate('sqlite:///{old}', lambda c: os.kill(os.getpid(), 9))"
        )
        for _ in range(2):
            killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
            assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
            time.sleep(1.1)  # a name tells the second

        assert len(migrate.copies(old)) == 1
        assert migrate.look(f"sqlite:///{old}").version == 1

    def test_without_room_for_a_copy_nothing_is_migrated(self, tmp_path: Path) -> None:
        tools.need_root("only root can mount a small file system")
        folder = tmp_path / "small"
        folder.mkdir()
        processes.run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder)
        try:
            old = self.make(folder)
            disk = os.statvfs(folder)
            (folder / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - (128 << 10)))

            with pytest.raises(CannotStart, match=r"no room for a copy .* 1 MiB are needed .*--no-copy"):
                migrate.migrate(f"sqlite:///{old}")

            assert list(folder.glob("*.schema-*")) == []
            assert migrate.look(f"sqlite:///{old}").version == 1
            (folder / "filler").write_bytes(bytes(1 << 20))
            assert migrate.migrate(f"sqlite:///{old}", copy=False).copy is None
            assert migrate.copies(old) == []
        finally:
            processes.run("umount", "--lazy", folder)

    def test_a_disk_that_fills_up_meanwhile_is_told_and_left_as_it_was(self, old: Path, tmp_path: Path) -> None:
        tools.need_root("only root can mount a small file system")
        folder = tmp_path / "small"
        folder.mkdir()
        processes.run("mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder)
        try:
            with pytest.raises(DatabaseFull):
                sqlite.copy(old, folder / "copy", lambda rest, pages: None)

            assert list(folder.iterdir()) == []
        finally:
            processes.run("umount", "--lazy", folder)


class TestLocks:
    """On PostgreSQL, where others hold what a migration needs."""

    @pytest.fixture
    async def url(self, new_postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
        await _change(new_postgresql_url, lambda c: migrate.run(c, "0001"))
        monkeypatch.setitem(postgresql._MIGRATING, "lock_timeout", "1s")
        monkeypatch.setattr(postgresql, "_PAUSES", (0.5, 0.5))
        return new_postgresql_url

    @pytest.fixture
    async def other(self, url: str) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(url, server_settings={"application_name": "report"})
        yield connection
        await connection.close()

    async def test_who_does_not_let_go_is_named(self, url: str, other: Any) -> None:
        told: list[str] = []
        await other.execute("BEGIN; SELECT * FROM tag")

        with pytest.raises(CannotStart, match="cannot be migrated now") as refused:
            await asyncio.to_thread(migrate.migrate, url, tell=told.append)

        pid = other.get_server_pid()
        assert f"session {pid} (postgres, report, idle in transaction" in str(refused.value)
        assert f"SELECT pg_terminate_backend({pid})" in str(refused.value)
        assert "idle_in_transaction_session_timeout" in str(refused.value)
        assert sum("tries again in 0.5 s" in sentence for sentence in told) == 2
        await other.execute("ROLLBACK")
        assert await _inspect(url, migrate.find) == migrate.Found(1, 1)

    async def test_it_goes_on_when_they_let_go(self, url: str, other: Any) -> None:
        let_go = asyncio.Event()
        loop = asyncio.get_running_loop()
        await other.execute("BEGIN; SELECT * FROM tag")

        def tell(sentence: str) -> None:
            if "is in the way" in sentence:
                loop.call_soon_threadsafe(let_go.set)

        migrating = asyncio.create_task(asyncio.to_thread(migrate.migrate, url, tell=tell))
        await let_go.wait()
        await other.execute("ROLLBACK")

        assert (await migrating).after == schema.VERSION

    async def test_others_pass_while_it_waits(self, url: str, other: Any) -> None:
        """They wait behind it no longer than its own patience."""
        await other.execute("BEGIN; SELECT * FROM tag")
        migrating = asyncio.create_task(asyncio.to_thread(migrate.migrate, url))
        node = await asyncpg.connect(url)
        longest = 0.0

        while not migrating.done():
            began = time.monotonic()
            await node.execute("SELECT count(*) FROM tag")
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.01)

        assert 0.2 < longest < 5
        await node.close()
        with pytest.raises(CannotStart):
            await migrating

    async def test_another_migration_is_waited_for_and_told(self, url: str, other: Any) -> None:
        waits = asyncio.Event()
        loop = asyncio.get_running_loop()
        await other.execute(f"SELECT pg_advisory_lock({postgresql._MIGRATION_LOCK})")

        def tell(sentence: str) -> None:
            if "another stackyard" in sentence:
                loop.call_soon_threadsafe(waits.set)

        migrating = asyncio.create_task(asyncio.to_thread(migrate.migrate, url, tell=tell))
        await waits.wait()
        assert not migrating.done()
        await other.execute("SELECT pg_advisory_unlock_all()")

        assert (await migrating).after == schema.VERSION

    async def test_looking_waits_for_nobody_who_migrates(self, url: str, other: Any) -> None:
        await other.execute(f"SELECT pg_advisory_lock({postgresql._MIGRATION_LOCK})")

        assert await asyncio.to_thread(migrate.look, url) == migrate.Found(1, 1)

        await other.execute("BEGIN; LOCK TABLE installation")
        with pytest.raises(CannotStart, match="are being changed just now"):
            await asyncio.to_thread(migrate.look, url)

    async def test_a_user_without_rights_is_told(self, new_postgresql_url: str, other: Any) -> None:
        await other.execute("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")

        with pytest.raises(CannotStart, match=r"does not let its user .*permission denied"):
            await asyncio.to_thread(migrate.migrate, new_postgresql_url.replace("postgres@", "weak@"))


def _with_another(folder: Path, change: str) -> Path:
    """The migrations and one more, which makes this change."""
    copy = folder / "migrations"
    shutil.copytree(MIGRATIONS, copy)
    (copy / "versions" / "another.py").write_text(
        '"""Another."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f'revision = "{migrate.revision_of(NEXT)}"\ndown_revision = "{migrate.REVISION}"\n\n\n'
        f"def upgrade() -> None:\n{change}"
    )
    return copy


async def _use(url: str, old: int, new: int) -> None:
    """Use the tables as the old version knows them on a database of the new one. Raises DBAPIError."""

    def use(c: Connection) -> None:
        migrate.run(c, migrate.revision_of(old))
        known = MetaData()
        known.reflect(c)
        allowed = {name: _allowed(c, name) for name in known.tables}
        migrate.run(c, migrate.revision_of(new))
        assert len(known.tables) > 10
        for table in known.tables.values():
            if table.name == schema.installation.name:
                _change_all(c, table)
            elif table.name != "alembic_version":
                _use_table(c, table, allowed[table.name])

    await _change(url, use)


def _use_table(c: Connection, table: Table, allowed: dict[str, list[str]]) -> None:
    rows = list(_rows(table, allowed))
    for row in rows:
        c.execute(table.insert().values(row))
        where = [table.c[name] == value for name, value in row.items()]
        assert c.execute(select(table).where(*where)).first()
    _change_all(c, table)
    assert c.execute(table.delete()).rowcount == len(rows)


def _change_all(c: Connection, table: Table) -> None:
    for column in table.columns:
        if not column.primary_key:
            assert c.execute(table.update().values({column: column})).rowcount


def _rows(table: Table, allowed: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """With every column and with the fewest, for each value that a column allows. Where nothing is unique, alike."""
    keys = [each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)]
    indexes = [each for each in table.indexes if each.unique]
    unique = {column.name for key in [*keys, *indexes] for column in key.columns}
    numbers = itertools.count(1)
    choices = [dict(zip(allowed, values, strict=True)) for values in itertools.product(*allowed.values())]
    for choice in choices * 2:
        for is_short in (False, True):
            number = next(numbers)
            yield {
                column.name: choice.get(column.name, _value(column, number if column.name in unique else 1))
                for column in table.columns
                if not (is_short and _is_optional(column))
            }


def _is_optional(column: Column[Any]) -> bool:
    is_counted = column is column.table.autoincrement_column and type(column.type) is INTEGER  # as SQLite does
    return bool(column.nullable) or column.server_default is not None or is_counted


def _value(column: Column[Any], number: int) -> object:
    if column is column.table.autoincrement_column:
        number += 1_000_000  # what the database counts itself is below
    values: dict[type, object] = {str: f"x{number}", bytes: b"x", bool: True, int: number}
    return values[column.type.python_type]


def _allowed(c: Connection, table: str) -> dict[str, list[str]]:
    """Column to the values that a constraint lists."""
    columns = [column["name"] for column in inspect(c).get_columns(table)]
    found: dict[str, list[str]] = {}
    for check in inspect(c).get_check_constraints(table):
        values, rest = re.findall(r"'([^']*)'", check["sqltext"]), re.sub(r"'[^']*'", "", check["sqltext"])
        found |= {name: values for name in columns if values and re.search(rf"\b{name}\b", rest)}
    return found


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


async def _change(url: str, change: str | Callable[[Connection], object]) -> None:
    if isinstance(change, str):
        sql = text(change)
        await _change(url, lambda c: c.execute(sql))
    elif url.startswith("sqlite"):
        with sqlite.exclusive(url) as connection:
            change(connection)
    else:
        await postgresql.run_exclusive(url, change)
