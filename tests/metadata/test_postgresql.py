"""What is PostgreSQL's own: races that are run again, and a server that does not answer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from tests.metadata.making import HOUR, pushed, put
from tests.support.certificates import Authority
from tests.support.postgresql import Server, serve
from tests.support.processes import wait_until

from stackyard.metadata import leases, migrate, postgresql, repositories
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.errors import CannotStart, DatabaseUnavailable
from stackyard.metadata.manifests import RESOLVE


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    opened = await open_database(postgresql_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize("state", ["40001", "40P01", "23505"])
async def test_a_race_runs_the_function_again(database: Database, state: str) -> None:
    attempts: list[int] = []

    def racing(c: Connection) -> int:
        attempts.append(repositories.ensure_listed(c, f"r{len(attempts)}"))
        if len(attempts) < 3:
            c.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'race' USING ERRCODE = '{state}'; END $$"))
        return len(attempts)

    assert await database.write(racing) == 3
    assert await database.read(repositories.page, after="", limit=10) == ["r2"]


async def test_a_race_that_never_ends_is_told(database: Database) -> None:
    def racing(c: Connection) -> None:
        c.execute(text("DO $$ BEGIN RAISE EXCEPTION 'race' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(DBAPIError):
        await database.write(racing)


async def test_a_mistake_is_not_run_again(database: Database) -> None:
    attempts: list[int] = []

    def wrong(c: Connection) -> None:
        attempts.append(1)
        c.execute(text("SELECT 1 / 0"))

    with pytest.raises(DBAPIError):
        await database.write(wrong)
    assert len(attempts) == 1


async def test_a_function_that_fails_leaves_nothing(database: Database) -> None:
    def fail(c: Connection) -> None:
        repositories.ensure_listed(c, "half-done")
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    assert await database.read(repositories.page, after="", limit=10) == []


async def test_names_are_in_byte_order_whatever_the_server_s_locale(database: Database) -> None:
    for name in ("a_b", "a-b", "ab", "a.b", "a/b"):
        await database.write(repositories.ensure_listed, name)

    assert await database.read(repositories.page, after="", limit=10) == ["a-b", "a.b", "a/b", "a_b", "ab"]


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await open_database(f"postgresql://nobody@/none?host={tmp_path}")


async def test_a_server_that_is_not_there_is_told_in_one_sentence_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be reached") as told:
        await asyncio.to_thread(migrate.migrate, f"postgresql://nobody:secret@/none?host={tmp_path}")
    assert "secret" not in str(told.value)


async def test_a_database_that_is_not_there_is_told_at_the_start(postgresql_server: Server) -> None:
    with pytest.raises(CannotStart, match='"none" does not exist'):
        await asyncio.to_thread(migrate.migrate, postgresql_server.url("none"))


async def test_an_operation_whose_connection_ended_between_two_steps_is_unavailable(database: Database) -> None:
    """The driver's own error for it, which is neither of its other two kinds."""

    def interrupted(c: Connection) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    with pytest.raises(DatabaseUnavailable):
        await database.write(interrupted)


async def test_connections_that_broke_are_made_anew(database: Database, postgresql_url: str) -> None:
    """A restart of the server costs the requests that were under way, and no others."""
    await database.write(put, "a", pushed(b"m"), "v1")
    assert await database.fetch(RESOLVE, "a", "v1") is not None
    killer = await open_database(postgresql_url)
    await killer.read(_end_all_others)
    await killer.close()

    outcomes = [await _try(database) for _ in range(6)]

    assert set(outcomes[:-1]) <= {"read", "unavailable"}
    assert outcomes[-1] == "read"
    assert await database.fetch(RESOLVE, "a", "v1") is not None


async def test_more_callers_than_connections_wait_their_turn(postgresql_url: str) -> None:
    database = await open_database(postgresql_url, connections=2)

    await asyncio.gather(
        *(database.write(repositories.ensure_listed, f"r{number}") for number in range(20)),
        *(database.fetch(RESOLVE, "a", "v1") for _ in range(20)),
        *(database.read(repositories.page, after="", limit=1) for _ in range(20)),
    )

    assert len(await database.read(repositories.page, after="", limit=100)) == 20
    await database.close()


async def test_who_stands_still_in_a_transaction_loses_its_locks_and_does_it_again(
    database: Database, postgresql_url: str
) -> None:
    """As a process that was frozen: the server ends its transaction, and another one has its locks."""
    times: list[int] = []

    def stand_still(c: Connection) -> None:
        times.append(repositories.ensure_listed(c, "a"))
        if len(times) == 1:
            c.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
            asyncio.run_coroutine_threadsafe(other.write(repositories.ensure_listed, "a"), loop).result(20)
        c.execute(text("SELECT 1"))

    loop = asyncio.get_running_loop()
    other = await open_database(postgresql_url)

    def freeze() -> None:
        async def run() -> None:
            frozen = await open_database(postgresql_url)
            try:
                await frozen.write(stand_still)
            finally:
                await frozen.close()

        asyncio.run(run())

    await asyncio.to_thread(freeze)
    assert len(times) == 2
    assert await database.read(repositories.page, after="", limit=10) == ["a"]
    await other.close()


async def test_who_stands_still_within_a_statement_loses_its_locks(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that was frozen as a statement was prepared: the server's own limits do not see it."""
    monkeypatch.setitem(postgresql._SETTINGS, "idle_in_transaction_session_timeout", "100ms")
    monkeypatch.setitem(postgresql._SETTINGS, "lock_timeout", "200ms")
    database = await open_database(postgresql_url)
    frozen = await asyncpg.connect(postgresql_url, server_settings=postgresql._SETTINGS)
    await frozen.execute("BEGIN; INSERT INTO lease (name, fence) VALUES ('job.gc', 1)")
    frozen._transport.pause_reading()
    reading = asyncio.create_task(frozen.fetchval("SELECT 1"))
    while not await database.read(_stands_still):
        pass

    assert await database.write(leases.acquire, "job.gc", holder="b", span=timedelta(minutes=1)) is not None

    frozen._transport.resume_reading()
    with pytest.raises(postgresql._DRIVER_ERRORS):
        await reading
    frozen.terminate()
    await database.close()


async def test_locks_of_a_frozen_process_go_before_others_give_up(database: Database) -> None:
    """A frozen collector costs a push some seconds, and does not fail it."""

    def milliseconds(c: Connection, name: str) -> int:
        found: int = c.scalar(text("SELECT setting::int FROM pg_settings WHERE name = :name"), {"name": name})
        return found

    idle = await database.read(milliseconds, "idle_in_transaction_session_timeout")
    patience = await database.read(milliseconds, "lock_timeout")

    assert 0 < idle <= patience * postgresql._ATTEMPTS_AT_A_LOCK / 2


def _stands_still(c: Connection) -> bool:
    sql = (
        "SELECT true FROM pg_stat_activity WHERE query = 'SELECT 1' AND state = 'active' AND wait_event = 'ClientRead'"
    )
    return c.scalar(text(sql)) is not None


def _end_all_others(c: Connection) -> None:
    c.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    ).all()


async def _try(database: Database) -> str:
    try:
        await database.read(repositories.page, after="", limit=1)
        await database.fetch(RESOLVE, "a", "v1")
    except DatabaseUnavailable:
        return "unavailable"
    return "read"


@pytest.mark.serial
async def test_a_server_that_stands_still_is_unavailable_and_works_again_when_it_goes_on(
    database: Database, postgresql_server: Server
) -> None:
    """As one behind a cut network: nothing is refused, and nothing comes back."""
    await database.write(put, "a", pushed(b"m"), "v1")
    assert await database.fetch(RESOLVE, "a", "v1") is not None

    with postgresql_server.frozen():
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(
                *(_attempt(database.fetch(RESOLVE, "a", "v1")) for _ in range(12)),
                *(_attempt(database.read(repositories.page, after="", limit=1)) for _ in range(12)),
                *(_attempt(database.write(repositories.ensure_listed, "b")) for _ in range(12)),
            )
    assert set(outcomes) == {"unavailable"}

    async with asyncio.timeout(60):
        while await _attempt(database.fetch(RESOLVE, "a", "v1")) == "unavailable":
            await asyncio.sleep(0.05)
        while await _attempt(database.write(repositories.ensure_listed, "b")) == "unavailable":
            await asyncio.sleep(0.05)
    assert await database.read(repositories.page, after="", limit=10) == ["a", "b"]


async def _attempt(asked: Awaitable[object]) -> str:
    try:
        await asked
    except DatabaseUnavailable:
        return "unavailable"
    return "answered"


def test_a_server_over_tls_is_verified_as_the_url_says(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")

    async def is_encrypted(url: str) -> object:
        database = await open_database(url)
        found = await database.read(
            lambda c: c.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
        )
        await database.close()
        return found

    with serve(tls=authority.issue("127.0.0.1")) as server:
        good = server.tls_url("shared", sslmode="verify-full", sslrootcert=authority.certificate)
        migrate.migrate(good)
        assert asyncio.run(is_encrypted(good)) is True

        for refused in (
            server.tls_url("shared", sslmode="verify-full", sslrootcert=stranger.certificate),
            server.tls_url("shared", sslmode="disable"),
        ):
            with pytest.raises(CannotStart, match="cannot be reached"):
                migrate.migrate(refused)


@pytest.mark.serial
def test_a_restart_of_the_server_is_borne_with(postgresql_server: Server) -> None:
    """Whoever asks in the moment of it, or just after, waits for it and is answered."""
    url = asyncio.run(postgresql_server.emptied())
    ended = threading.Event()
    answered = dict.fromkeys(("fetch", "read", "write"), 0)

    async def ask(kind: str, question: Callable[[], Awaitable[object]]) -> None:
        while not ended.is_set():
            await question()
            answered[kind] += 1

    async def ask_all() -> None:
        database = await open_database(url)
        await database.write(put, "a", pushed(b"m"), "v1")
        await asyncio.gather(
            ask("fetch", lambda: database.fetch(RESOLVE, "a", "v1")),
            ask("read", lambda: database.read(repositories.page, after="", limit=1)),
            # One that is cut off while it commits is not done again: it may have been committed.
            ask("write", lambda: _attempt(database.write(leases.acquire, "one", holder="me", span=HOUR))),
        )
        await database.close()

    def wait_for_answers() -> None:
        before = dict(answered)
        wait_until(lambda: asking.done() or all(answered[kind] > before[kind] + 5 for kind in before), "answers")

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(asyncio.run, ask_all())
        for _ in range(3):
            wait_for_answers()
            with postgresql_server.stopped():  # in this thread: a server ends with the one that started it
                pass
        wait_for_answers()
        ended.set()
        asking.result(30)
