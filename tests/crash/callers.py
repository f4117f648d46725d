"""Connections to known workers of a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.support import workers
from tests.support.processes import wait_until
from tests.support.running import Running

from stackyard.oci import layout
from stackyard.oci.digests import Digest

REPOSITORY = "spread/out"


class Caller:
    """One connection to one known worker."""

    def __init__(self, server: Running, worker: int, pids: list[int]) -> None:
        self.worker = worker
        self.connection: HTTPConnection = workers.connect_to(worker, server.port, pids)
        self.headers: dict[str, str] = {}
        self.body = b""

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """The answer's status."""
        self.connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        return self.read()

    def read(self) -> int:
        """The status of the answer that is due."""
        answer = self.connection.getresponse()
        self.headers, self.body = {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        return answer.status

    def start(self) -> str:
        """The path of a new session."""
        assert self("POST", f"/v2/{REPOSITORY}/blobs/uploads/", b"") == 202
        return urlsplit(self.headers["location"]).path

    def blob(self, digest: Digest) -> bytes | None:
        """What lies under this digest, None when nothing does."""
        status = self("GET", f"/v2/{REPOSITORY}/blobs/{digest}")
        assert status in (200, 404)
        return self.body if status == 200 else None


@contextmanager
def both(server: Running) -> Iterator[tuple[Caller, Caller]]:
    """A connection to each of the two workers."""
    wait_until(lambda: len(workers.pids(server.process.pid)) == 2, "both workers to be there")
    pids = workers.pids(server.process.pid)
    one, other = (Caller(server, pid, pids) for pid in pids)
    try:
        yield one, other
    finally:
        one.connection.close()
        other.connection.close()


class HalfSent:
    """A request whose body has come to the server's disk in part."""

    def __init__(self, server: Running, caller: Caller, session: str, content: bytes, finishing: str = "") -> None:
        """A PATCH of the content, or, with a digest to finish with, a PUT."""
        self._caller = caller
        self._rest = content[len(content) // 2 :]
        before = written(server, session)
        connection = caller.connection
        connection.putrequest(*("PUT", f"{session}?digest={finishing}") if finishing else ("PATCH", session))
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content[: len(content) // 2])
        wait_until(lambda: written(server, session) > before, "the request to be under way")

    def send_rest(self) -> None:
        """Also to a worker that does not read: the kernel takes it."""
        self._caller.connection.send(self._rest)

    def finish(self) -> int:
        """Send the rest; the answer's status."""
        self.send_rest()
        return self._caller.read()


def files(server: Running, session: str) -> dict[str, int]:
    """The session's files by name, and their sizes."""
    pattern = f"{layout.UPLOADS}/{session.rpartition('/')[2]}.*"
    return {file.name: file.stat().st_size for file in server.data.glob(pattern)}


def written(server: Running, session: str) -> int:
    """Bytes of the session that have come to the disk."""
    return sum(files(server, session).values())
