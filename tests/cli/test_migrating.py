"""`stackyard migrate` as a program, and what a start says of a database that it cannot work with."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Connection, text
from tests.support import ports, pushing, stackyard
from tests.support.postgresql import Server

from stackyard.metadata import migrate, postgresql, schema, sqlite
from stackyard.oci import layout

PROGRAM = Path(sys.executable).with_name("stackyard")
NOW = schema.VERSION


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of a registry whose database is not made yet."""
    document = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "http": {"addr": f"127.0.0.1:{ports.free()}"},
    }
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql_server")
        document["stackyard"] = {"database": {"url": asyncio.run(server.create())}}
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(document))
    return file


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def database(config: Path) -> str:
    document = yaml.safe_load(config.read_text())
    if "stackyard" in document:
        return str(document["stackyard"]["database"]["url"])
    return f"sqlite:///{document['storage']['filesystem']['rootdirectory']}/{layout.DATABASE}"


def change(config: Path, sql: str, *, revision: str = "") -> None:
    """Run SQL, or make the tables as they were at a revision."""

    def work(c: Connection) -> None:
        if revision:
            migrate.run(c, revision)
        if sql:
            c.execute(text(sql))

    url = database(config)
    if url.startswith("sqlite"):
        with sqlite.exclusive(url) as connection:
            work(connection)
    else:
        asyncio.run(postgresql.run_exclusive(url, work))


def test_what_is_due_is_told_and_then_done(config: Path) -> None:
    change(config, "", revision="0001")

    due = run("migrate", "--check", config)
    done = run("migrate", config)
    again = run("migrate", config)

    assert due.returncode == 3
    assert (
        due.stdout
        == f"a migration is due, from schema 1 to {NOW}: stop all nodes older than schema {schema.FLOOR} before\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"the database was upgraded from schema 1 to {NOW} in ")
    assert "migrating the database: 0002, Lifecycle" in done.stderr
    assert (again.returncode, again.stdout) == (0, f"nothing to do: the database has schema {NOW}\n")
    assert run("migrate", "--check", config).stdout == f"the database is up to date: schema {NOW}\n"


def test_programs_are_told_the_same(config: Path) -> None:
    change(config, "", revision="0001")

    due = json.loads(run("migrate", "--check", "--json", config).stdout)
    done = json.loads(run("migrate", "--json", config).stdout)

    assert (due["state"], due["schema"], due["needed"], due["older_nodes_may_run"]) == ("due", 1, NOW, False)
    assert due["pending"][0]["revision"] == "0002"
    assert (done["from"], done["to"], done["steps"][-1]["revision"]) == (1, NOW, migrate.REVISION)
    assert (done["copy"] is not None) == database(config).startswith("sqlite")


def test_without_a_copy_none_is_made(config: Path) -> None:
    change(config, "", revision="0001")

    assert json.loads(run("migrate", "--no-copy", "--json", config).stdout)["copy"] is None
    assert run("migrate", "--no-copy", "--check", config).returncode == 2


def test_a_check_changes_nothing(config: Path) -> None:
    before = sorted(config.parent.rglob("*"))

    missing = run("migrate", "--check", config)

    assert (missing.returncode, missing.stderr) == (3, "")
    assert missing.stdout == f"there is no database yet: the first start makes one of schema {NOW}\n"
    assert sorted(config.parent.rglob("*")) == before


def test_a_database_can_be_made_before_the_first_start(config: Path) -> None:
    made = run("migrate", config)

    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(f"the database was made, with schema {NOW}, in ")
    assert run("config", "check", config).returncode == 0
    assert run("repo", "list", "--config", config).returncode == 0


def test_a_node_older_than_the_floor_refuses_and_says_why(config: Path) -> None:
    assert run("migrate", config).returncode == 0
    newer = NOW + 2
    change(config, f"UPDATE installation SET version = {newer}, floor = {NOW + 1}")

    served = run("serve", config)
    migrated = run("migrate", config)
    checked = run("migrate", "--check", config)

    sentences = [line for line in served.stderr.splitlines() if line.startswith("stackyard: ")]
    assert served.returncode == 1
    assert len(sentences) == 1
    assert f"newer stackyard (schema {newer}, which needs {NOW + 1} at least" in sentences[0]
    assert (migrated.returncode, migrated.stdout) == (4, "")
    assert migrated.stderr.count("\n") == 1
    assert "newer stackyard" in migrated.stderr
    assert checked.returncode == 4
    assert "newer stackyard" in checked.stdout


def test_a_node_that_the_floor_lets_in_works_on_a_newer_database(config: Path) -> None:
    assert run("migrate", config).returncode == 0
    change(config, "ALTER TABLE tag ADD COLUMN note TEXT")
    change(config, f"UPDATE installation SET version = {NOW + 1}")

    with stackyard.start(yaml.safe_load(config.read_text()), folder=config.parent) as server:
        pushing.image(server, "a", "v1", pushing.blob(server, "a", b"layer"))
        assert server.manifest("a", "v1").status == 200
        checked = run("migrate", "--check", config)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith(f"the database is newer, schema {NOW + 1}, and works")


def test_a_start_upgrades_and_names_the_copy(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump({"storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}}}))
    change(config, "", revision="0001")

    with stackyard.start({}, folder=tmp_path) as server:
        log = server.log
        pushing.image(server, "a", "v1", pushing.blob(server, "a", b"layer"))
        assert server.manifest("a", "v1").status == 200

    (copy,) = migrate.copies(sqlite.path_of(f"sqlite:///{tmp_path}/data/{layout.DATABASE}"))
    assert f"the database as it was before the upgrade is kept as {copy}" in log
    assert "migrating the database: 0002, Lifecycle" in log


def test_storage_in_memory_has_nothing_to_migrate(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: 127.0.0.1:0}\n")

    done = run("migrate", tmp_path / "config.yml")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no database that outlives the server" in done.stderr


def test_a_configuration_that_cannot_be_used_is_status_78(tmp_path: Path) -> None:
    assert run("migrate", tmp_path / "none.yml").returncode == 78
