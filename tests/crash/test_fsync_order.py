"""201 means durable: what the server asks of the kernel before it answers a push, in the right order.

`kill -9` cannot show this, because the kernel keeps what a killed process wrote. So every call of a server is traced
from its first moment on, while it serves one push after the other.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.http import content
from tests.support import stackyard, strace, workers
from tests.support.processes import wait_until
from tests.support.running import Running
from tests.support.strace import Call, Strace

from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_INDEX, OCI_MANIFEST

TRACED = (
    "openat,mkdir,mkdirat,link,linkat,rename,renameat,renameat2,fsync,fdatasync,"
    "write,writev,pwrite64,pwritev,sendto,sendmsg"
)
SYNCS = ("fsync", "fdatasync")
AT_ONCE, IN_PARTS, ELSEWHERE = b"pushed at once" * 10_000, b"pushed in parts" * 60_000, b"small, to the other worker"
EMPTY_INDEX, IMAGE = content.index(), content.image()

pytestmark = pytest.mark.serial


@dataclass
class Trace:
    """What was traced while a server was started and pushed to."""

    calls: list[Call]
    root: Path

    def answer(self, digest: str) -> Call:
        """The call that handed the 201 for this content to the socket."""
        return next(call for call in self.answers() if digest in call.arguments)

    def answers(self) -> Iterator[Call]:
        """Every 201, in order."""
        return (
            call for call in self.calls if call.file.startswith("socket:") and "HTTP/1.1 201 Created" in call.arguments
        )

    def between(self, first: int, last: int) -> list[Call]:
        """The calls that began after the line `first` and had ended before the line `last`."""
        return [call for call in self.calls if call.begun > first and call.ended < last and call.succeeded]

    def synced(self, path: Path | str, *, after: Call, before: Call) -> Call:
        """The first sync of this file or folder between two calls."""
        found = [
            call for call in self.between(after.ended, before.begun) if call.name in SYNCS and call.file == str(path)
        ]
        assert found, f"{path} was not synced between {after} and {before}"
        return found[0]

    def publication(self, digest: Digest) -> Call:
        """The call that gave the bytes their final name, or a small blob's file, for its bytes, the one it keeps."""
        return next(call for call in self.calls if call.succeeded and self._names(call, str(self.blob(digest))))

    def _names(self, call: Call, path: str) -> bool:
        makes = call.name.startswith(("link", "rename")) or (call.name == "openat" and "O_EXCL" in call.arguments)
        return makes and call.paths[-1] == path

    def durable(self, digest: Digest) -> Call:
        """The sync after which the bytes and their name survive."""
        named, answered = self.publication(digest), self.answer(digest)
        folder = self.synced(self.blob(digest).parent, after=named, before=answered)
        return self.synced(self.blob(digest).parent.parent, after=folder, before=answered)

    def blob(self, digest: Digest) -> Path:
        """Where the blob's first copy lies."""
        return self.root / layout.blob(digest, 0)

    @property
    def log(self) -> str:
        """The database's write-ahead log."""
        return str(self.root / layout.DATABASE) + "-wal"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A server of two workers on a folder that does not exist yet, traced through one push of every kind."""
    folder = tmp_path_factory.mktemp("traced")
    root = folder / "not/there/yet"
    config = {"stackyard": {"workers": 2}, "storage": {"filesystem": {"rootdirectory": str(root)}}}
    stopped = ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh"]  # until strace is there
    strace.need()
    server = stackyard.launch(config, folder=folder, inside=stopped)
    try:
        wait_until(lambda: workers.is_stopped(server.process.pid), "the server to wait for strace")
        tracer = Strace(server.process.pid, folder / "trace", TRACED)
        os.kill(server.process.pid, signal.SIGCONT)
        server.process.wait_line('msg="serving"')
        push_all(server)
        # It writes as well, and waits for no sync, as nobody waits for it.
        [background] = workers.background(server.process.pid)
        others = {int(task.name) for task in Path(f"/proc/{background}/task").iterdir()}
    finally:
        server.stop()
    tracer.wait()
    return Trace([call for call in tracer.calls() if call.thread not in others], root)


def push_all(server: Running) -> None:
    """The first thing that this server ever keeps has no blob, so that no blob's syncs help it."""
    put(server, "a", EMPTY_INDEX, OCI_INDEX)
    pids = workers.pids(server.process.pid)
    one, other = (workers.connect_to(pid, server.port, pids) for pid in pids)
    push(one, AT_ONCE)
    push(other, ELSEWHERE)
    location = ask(one, 202, "POST", "/v2/a/blobs/uploads/", b"")
    ask(one, 202, "PATCH", location, IN_PARTS[:300_000])
    ask(other, 202, "PATCH", location, IN_PARTS[300_000:600_000])
    ask(one, 201, "PUT", f"{location}?digest={Digest.of(IN_PARTS)}", IN_PARTS[600_000:])
    push(one, content.CONFIG)
    push(other, content.LAYER)
    ask(other, 201, "POST", f"/v2/b/blobs/uploads/?mount={Digest.of(content.LAYER)}&from=a", b"")
    put(server, "a", IMAGE, OCI_MANIFEST)
    for connection in (one, other):
        connection.close()


def push(connection: HTTPConnection, body: bytes) -> None:
    ask(connection, 201, "POST", f"/v2/a/blobs/uploads/?digest={Digest.of(body)}", body)


def ask(connection: HTTPConnection, status: int, method: str, path: str, body: bytes) -> str:
    connection.request(method, path, body)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == status, said
    return answer.headers["Location"]


def put(server: Running, repository: str, manifest: bytes, media_type: str) -> None:
    path = f"/v2/{repository}/manifests/{Digest.of(manifest)}"
    answer = server.request("PUT", path, headers={"Content-Type": media_type}, body=manifest)
    assert answer.status == 201, answer.body


BLOBS = pytest.mark.parametrize(
    "digest", [Digest.of(each) for each in (AT_ONCE, IN_PARTS, ELSEWHERE)], ids=["at-once", "in-parts", "other-worker"]
)


@pytest.mark.parametrize("digest", [Digest.of(AT_ONCE), Digest.of(IN_PARTS)], ids=["at-once", "in-parts"])
def test_bytes_are_synced_after_the_last_of_them_and_before_they_get_their_name(trace: Trace, digest: Digest) -> None:
    named = trace.publication(digest)
    source = named.paths[0]
    written = [call for call in trace.calls if "write" in call.name and call.file == source]

    trace.synced(source, after=written[-1], before=named)
    assert not [call for call in trace.calls if "write" in call.name and call.file == str(trace.blob(digest))]


def test_a_small_blob_is_synced_where_it_stays(trace: Trace) -> None:
    digest = Digest.of(ELSEWHERE)
    written = [call for call in trace.calls if "write" in call.name and call.file == str(trace.blob(digest))]

    trace.synced(trace.blob(digest), after=written[-1], before=trace.durable(digest))


@BLOBS
def test_every_folder_of_a_blob_is_synced_after_its_name_is_there(trace: Trace, digest: Digest) -> None:
    """By each worker for itself: it cannot know whether a neighbour that made one has come to its sync."""
    named, answered = trace.publication(digest), trace.answer(digest)
    parents = trace.blob(digest).parents
    first_of_this_worker = digest != Digest.of(IN_PARTS)

    for folder in parents[: parents.index(trace.root) + 1] if first_of_this_worker else parents[:2]:
        trace.synced(folder, after=named, before=answered)


@BLOBS
def test_row_is_written_after_the_bytes_are_durable_and_synced_before_the_answer(trace: Trace, digest: Digest) -> None:
    durable, answered = trace.durable(digest), trace.answer(digest)

    rows = [call for call in trace.between(durable.ended, answered.begun) if is_written(call, trace.log)]

    assert rows, "no row was written after the bytes were durable"
    trace.synced(trace.log, after=rows[-1], before=answered)


@pytest.mark.parametrize("digest", [Digest.of(EMPTY_INDEX), Digest.of(IMAGE)], ids=["first-of-all", "with-blobs"])
def test_manifest_is_synced_before_the_answer(trace: Trace, digest: Digest) -> None:
    check_rows_are_synced(trace, trace.answer(digest))


def test_mount_is_synced_before_the_answer(trace: Trace) -> None:
    layer = Digest.of(content.LAYER)
    mounted = next(call for call in trace.answers() if f"/v2/b/blobs/{layer}" in call.arguments)

    check_rows_are_synced(trace, mounted)


def test_folders_and_files_of_the_database_are_synced_before_the_first_answer(trace: Trace) -> None:
    first = next(trace.answers())
    database = trace.root / layout.DATABASE

    for folder in (database.parent, *database.parent.parents[:3]):
        made = [call for call in trace.calls if call.name.startswith("mkdir") and call.paths == [str(folder)]]
        trace.synced(folder.parent, after=next(call for call in made if call.succeeded), before=first)
    for file in (str(database), trace.log):
        opened = (call for call in trace.calls if call.name == "openat" and call.paths == [file])
        made_file = next(call for call in opened if "O_CREAT" in call.arguments and call.succeeded)
        trace.synced(database.parent, after=made_file, before=first)


def check_rows_are_synced(trace: Trace, answered: Call) -> None:
    before = [call.ended for call in trace.answers() if call.ended < answered.begun]
    rows = [call for call in trace.between(max(before, default=0), answered.begun) if is_written(call, trace.log)]
    assert rows, "nothing was written for this answer"
    trace.synced(trace.log, after=rows[-1], before=answered)


def is_written(call: Call, file: str) -> bool:
    return call.name == "pwrite64" and call.file == file
