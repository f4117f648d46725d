"""One upload session, many connections, any worker: each request finds what the last one left, and one writer wins."""

import secrets
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from tests.crash.callers import REPOSITORY, Caller, HalfSent, both, files
from tests.support.running import Running

from stackyard.oci.digests import Digest


def test_every_request_of_a_session_may_come_to_another_worker(server: Running) -> None:
    content = secrets.token_bytes(900_000)
    with both(server) as (one, other):
        session = one.start()
        assert other("PATCH", session, content[:300_000]) == 202
        assert one("GET", session) == 204
        assert one.headers["range"] == "0-299999"
        assert one("PATCH", session, content[300_000:600_000], Content_Range="300000-599999") == 202
        assert other("GET", session) == 204
        assert other.headers["range"] == "0-599999"
        assert other("PATCH", session, content[600_000:800_000]) == 202
        assert one("PUT", f"{session}?digest={Digest.of(content)}", content[800_000:]) == 201

        assert other.blob(Digest.of(content)) == content
        assert other("GET", session) == 404


def test_a_wrong_digest_is_refused_whichever_worker_hashed_the_bytes(server: Running) -> None:
    """Neither worker has seen all of the bytes, so the answer cannot come from a running hash alone."""
    content = secrets.token_bytes(500_000)
    wrong = Digest.of(content[:-1] + bytes([content[-1] ^ 1]))
    with both(server) as (one, other):
        session = one.start()
        assert one("PATCH", session, content[:200_000]) == 202
        assert other("PATCH", session, content[200_000:]) == 202

        for caller in (one, other):
            assert caller("PUT", f"{session}?digest={wrong}", b"") == 400
            assert caller.blob(wrong) is None
        assert one("PUT", f"{session}?digest={Digest.of(content)}", b"") == 201
        assert other.blob(Digest.of(content)) == content


def test_a_cancelled_session_is_gone_for_every_worker(server: Running) -> None:
    with both(server) as (one, other):
        session = one.start()
        assert one("PATCH", session, b"bytes") == 202
        assert other("DELETE", session) == 204

        assert one("PATCH", session, b"more") == 404
        assert one("PUT", f"{session}?digest={Digest.of(b'bytes')}", b"") == 404
        assert one.blob(Digest.of(b"bytes")) is None


def test_of_two_writers_the_second_is_told_where_the_session_stands(server: Running) -> None:
    content = secrets.token_bytes(8 << 20)
    with both(server) as (one, other):
        session = one.start()
        assert one("PATCH", session, content[:1000]) == 202
        first = HalfSent(server, one, session, content[1000:])
        for method, path in (("PATCH", session), ("PUT", f"{session}?digest={Digest.of(b'other')}")):
            assert other(method, path, b"other") == 416
            assert other.headers["range"] == "0-999"
            assert urlsplit(other.headers["location"]).path == session
            assert b"BLOB_UPLOAD_INVALID" in other.body

        assert first.finish() == 202

        assert other("PUT", f"{session}?digest={Digest.of(content)}", b"") == 201
        assert one.blob(Digest.of(content)) == content
        assert one.blob(Digest.of(b"other")) is None


def test_a_session_that_is_cancelled_under_its_writer_leaves_nothing(server: Running) -> None:
    content = secrets.token_bytes(8 << 20)
    with both(server) as (one, other):
        session = one.start()
        writer = HalfSent(server, one, session, content)
        assert other("DELETE", session) == 204

        assert writer.finish() in (404, 416)
        assert other("GET", session) == 404
        assert other.blob(Digest.of(content)) is None
        assert files(server, session) == {}


def test_of_many_who_finish_a_session_at_once_one_wins_and_the_blob_is_whole(server: Running) -> None:
    with both(server) as callers:
        for _ in range(20):
            content = secrets.token_bytes(300_000)
            session = callers[0].start()
            assert callers[0]("PATCH", session, content[:100_000]) == 202

            statuses = at_once(callers, "PUT", f"{session}?digest={Digest.of(content)}", content[100_000:])

            assert statuses.count(201) == 1
            assert set(statuses) <= {201, 404, 416}
            assert callers[0].blob(Digest.of(content)) == content


def test_one_blob_pushed_by_many_at_once_is_theirs_all(server: Running) -> None:
    with both(server) as callers:
        for _ in range(20):
            content = secrets.token_bytes(100_000)
            path = f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(content)}"

            assert at_once(callers, "POST", path, content) == [201, 201]
            assert [caller.blob(Digest.of(content)) for caller in callers] == [content, content]


def at_once(callers: Sequence[Caller], method: str, path: str, body: bytes) -> list[int]:
    """What each of them is answered, when all ask at the same moment."""
    ready, statuses = threading.Barrier(len(callers)), list[int]()

    def ask(caller: Caller) -> None:
        ready.wait()
        statuses.append(caller(method, path, body))

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == len(callers)
    return statuses
