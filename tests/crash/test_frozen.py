"""A writer that was frozen and wakes up too late changes nothing that was published, and no row."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.crash.callers import REPOSITORY, Caller, HalfSent, both, files
from tests.crash.volume import Volume
from tests.support import running, strace, workers
from tests.support.processes import wait_until
from tests.support.running import Running
from tests.support.strace import Strace

from stackyard.oci import layout
from stackyard.oci.digests import Digest

HEAD, LATE, TAIL = (secrets.token_bytes(8 << 20) for _ in range(3))
MEANT, MADE = Digest.of(HEAD + LATE), Digest.of(HEAD + TAIL)
"""What the frozen writer was sending, and what the session was finished with instead."""
QUICK_CLAIMS: list[str | Path] = [sys.executable, Path(__file__).with_name("quick_claims.py")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with start(tmp_path) as server:
        yield server


def start(folder: Path) -> Running:
    """Two workers, whose claims on uploads run out after two seconds of silence."""
    server = running.launch(QUICK_CLAIMS, {"stackyard": {"workers": 2}}, folder=folder)
    server.wait_ready()
    return server


def started(caller: Caller) -> str:
    """A session that holds HEAD."""
    session = caller.start()
    assert caller("PATCH", session, HEAD) == 202
    return session


def take_over(caller: Caller, session: str, path: str, body: bytes) -> int:
    """The answer once the other writer's claim has run out; until then it has to be 416."""
    statuses: list[int] = []

    def is_answered() -> bool:
        statuses.append(caller("PUT" if "digest=" in path else "PATCH", path, body))
        return statuses[-1] != 416

    wait_until(is_answered, "the claim of the frozen writer to run out")
    assert len(statuses) > 1, "the claim of a writer was not respected"
    return statuses[-1]


@contextmanager
def held_between_bytes_and_row(sleeper: Caller, other: Caller, server: Running) -> Iterator[tuple[str, Strace]]:
    """A session of HEAD that the sleeper finishes: the bytes lie where the blob's will be, and no row says so yet.

    strace holds the thread that is about to report that they do.
    """
    strace.need()
    session, digest = started(sleeper), Digest.of(HEAD)
    holder = Strace(sleeper.worker, server.folder / "held", "unlink", inject="unlink:delay_exit=60000000:when=1")
    sleeper.connection.request("PUT", f"{session}?digest={digest}", b"")
    try:
        wait_until(lambda: not files(server, session), "the bytes to be moved")
        assert (server.data / layout.blob(digest, 0)).exists()
        assert other.blob(digest) is None
        yield session, holder
    finally:
        holder.stop()


def check_lost_session(server: Running, other: Caller, session: str) -> None:
    """Its bytes are out of reach, so the client is told to begin again, and can."""
    digest = Digest.of(HEAD)
    assert take_over(other, session, f"{session}?digest={digest}", b"") == 404
    assert other("GET", session) == 404
    assert other.blob(digest) is None
    assert other("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest}", HEAD) == 201
    assert other.blob(digest) == HEAD
    # What the first one left is no blob, and is not mistaken for one: a location is never used twice.
    assert len(list((server.data / layout.blob(digest, 0)).parent.glob("data.*"))) == 1


def check_published(server: Running, *reading: Caller) -> None:
    """What was finished is whole, what was meant is not there, and no row promises anything else."""
    for caller in reading:
        assert caller.blob(MADE) == HEAD + TAIL
        assert caller.blob(MEANT) is None
    check_volume(server)


def check_volume(server: Running) -> None:
    """Every row of the stopped server is kept by bytes, and nothing was written twice."""
    server.stop()
    volume = Volume(server.data)
    volume.check_files()
    volume.check_rows()


@pytest.mark.parametrize("finishing", ["", MEANT], ids=["patch", "put"])
def test_frozen_writer_wakes_up_to_a_session_that_was_finished_without_it(server: Running, finishing: str) -> None:
    with both(server) as (sleeper, other):
        session = started(sleeper)
        sent = HalfSent(server, sleeper, session, LATE, finishing)
        with workers.frozen(sleeper.worker) as thaw:
            assert take_over(other, session, session, TAIL[:1000]) == 202
            assert other("PUT", f"{session}?digest={MADE}", TAIL[1000:]) == 201
            assert other.blob(MADE) == HEAD + TAIL
            thaw()
            assert sent.finish() in (404, 416)

        check_published(server, sleeper, other)


def test_new_connections_are_served_while_a_worker_is_frozen(server: Running) -> None:
    with both(server) as (sleeper, _), workers.frozen(sleeper.worker):
        for _ in range(30):
            body = secrets.token_bytes(100)
            path = f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(body)}"
            assert server.request("POST", path, body=body).status == 201


def test_frozen_writer_wakes_up_to_a_session_that_another_writes_to(server: Running) -> None:
    with both(server) as (sleeper, other):
        session = started(sleeper)
        sent = HalfSent(server, sleeper, session, LATE)
        with workers.frozen(sleeper.worker) as thaw:
            assert take_over(other, session, session, TAIL[:1000]) == 202
            thaw()
            assert sent.finish() in (404, 416)
        assert other("GET", session) == 204
        assert other.headers["range"] == f"0-{len(HEAD) + 999}"
        assert sleeper("PUT", f"{session}?digest={MADE}", TAIL[1000:]) == 201

        check_published(server, sleeper, other)


def test_writer_held_between_bytes_and_row_does_not_publish_a_session_that_was_lost(server: Running) -> None:
    with both(server) as (sleeper, other):
        with held_between_bytes_and_row(sleeper, other, server) as (session, holder):
            check_lost_session(server, other, session)
            holder.stop()
            assert sleeper.read() in (404, 416)

        assert [caller.blob(Digest.of(HEAD)) for caller in (sleeper, other)] == [HEAD, HEAD]
    check_volume(server)


def test_writer_killed_between_bytes_and_row_leaves_nothing_to_be_seen(server: Running) -> None:
    with both(server) as (victim, other), held_between_bytes_and_row(victim, other, server) as (session, _):
        workers.kill([victim.worker])
        check_lost_session(server, other, session)
    check_volume(server)
