"""A full disk: pushes are refused in words, reads go on, nothing half-written is visible, and space heals it."""

import json
import secrets
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.http import content
from tests.support import processes, stackyard, tools
from tests.support.processes import Failed, wait_until
from tests.support.running import Answer, Running

from stackyard.oci import layout
from stackyard.oci.digests import Digest

REPOSITORY = "full/disk"
MIB = 1 << 20
DISK = 24 * MIB
SMALL, LARGE = secrets.token_bytes(10_000), secrets.token_bytes(32 * MIB)

pytestmark = pytest.mark.serial


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    tools.need_root("mounting a small disk needs it")
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        processes.run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder)
    except Failed as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    yield folder
    processes.run("umount", "--lazy", folder)


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Running]:
    """A registry on that disk, with an image in it."""
    with stackyard.start(on(disk), folder=tmp_path / "server") as running:
        for body in (content.CONFIG, content.LAYER):
            assert push(running, body).status == 201
        assert put(running, "image", content.image()).status == 201
        yield running
        assert "Traceback" not in running.log, running.log


def on(disk: Path) -> dict[str, Any]:
    """The configuration of a registry on that disk."""
    # Nothing is kept free: here the disk itself refuses. What is otherwise, `test_low_space` shows.
    return {
        "stackyard": {"workers": 2, "storage": {"reserve": 0, "ballast": 0}},
        "storage": {"filesystem": {"rootdirectory": str(disk / "data")}},
    }


class Filler:
    """A file of somebody else's that takes all the space there is."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "filler"
        with self._file.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def remove(self) -> None:
        self._file.unlink()


def push(server: Running, body: bytes) -> Answer:
    return server.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(body)}", body=body)


def put(server: Running, reference: str, manifest: bytes) -> Answer:
    headers = {"Content-Type": json.loads(manifest)["mediaType"]}
    return server.request("PUT", f"/v2/{REPOSITORY}/manifests/{reference}", headers=headers, body=manifest)


def start(server: Running) -> str:
    answer = server.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    assert answer.status == 202
    return answer.headers["Location"].removeprefix(f"http://127.0.0.1:{server.port}")


def check_refused(answer: Answer) -> None:
    """In the specification's form, with the reason; worth another try."""
    assert answer.status in (503, 507), answer
    error = json.loads(answer.body)["errors"][0]
    assert error["code"] == "UNAVAILABLE"
    assert "space" in error["message"] or "does not answer" in error["message"]
    assert answer.headers["Retry-After"]


def check_readable(server: Running) -> None:
    """What was there before is there."""
    for body in (content.CONFIG, content.LAYER):
        path = f"/v2/{REPOSITORY}/blobs/{Digest.of(body)}"
        assert server.request("GET", path).body == body
        assert server.request("HEAD", path).status == 200
    assert server.manifest(REPOSITORY, "image").body == content.image()
    assert "image" in json.loads(server.request("GET", f"/v2/{REPOSITORY}/tags/list").body)["tags"]
    assert json.loads(server.request("GET", "/v2/_catalog").body) == {"repositories": [REPOSITORY]}


def check_invisible(server: Running, body: bytes) -> None:
    """Nothing of it is a blob, by its digest or in its place."""
    digest = Digest.of(body)
    assert server.request("HEAD", f"/v2/{REPOSITORY}/blobs/{digest}").status == 404
    assert not (server.data / layout.blob(digest, 0)).exists()


def uploading(server: Running) -> int:
    """Bytes that unfinished uploads take on the disk."""
    return sum(file.stat().st_size for file in server.data.glob(f"{layout.UPLOADS}/*"))


def test_a_blob_that_does_not_fit_is_refused_and_takes_no_space(server: Running) -> None:
    for _ in range(3):
        check_refused(push(server, LARGE))

        check_invisible(server, LARGE)
        check_readable(server)
        assert uploading(server) == 0
        assert push(server, secrets.token_bytes(10_000)).status == 201


@pytest.mark.parametrize("before", [b"", SMALL], ids=["new", "begun"])
def test_a_chunk_that_does_not_fit_is_refused_and_takes_no_space(server: Running, before: bytes) -> None:
    """Or one push that is too large would keep the disk full until somebody purges it."""
    session = start(server)
    if before:
        assert server.request("PATCH", session, body=before).status == 202
    check_refused(server.request("PATCH", session, body=LARGE))

    check_readable(server)
    assert uploading(server) == len(before)
    assert push(server, secrets.token_bytes(MIB)).status == 201
    rest = secrets.token_bytes(1000)
    digest = Digest.of(before + rest)
    assert server.request("PUT", f"{session}?digest={digest}", body=rest).status == 201
    assert server.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}").body == before + rest


def test_a_last_chunk_that_does_not_fit_is_refused_and_leaves_the_session(server: Running) -> None:
    session = start(server)
    assert server.request("PATCH", session, body=SMALL).status == 202
    whole = Digest.of(SMALL + LARGE)

    check_refused(server.request("PUT", f"{session}?digest={whole}", body=LARGE))

    check_invisible(server, SMALL + LARGE)
    assert uploading(server) == len(SMALL)
    assert server.request("PUT", f"{session}?digest={Digest.of(SMALL)}", body=b"").status == 201


def test_a_full_disk_refuses_every_write_and_serves_every_read(server: Running, disk: Path) -> None:
    """Not even the database can grow."""
    kept = start(server)
    assert server.request("PATCH", kept, body=SMALL).status == 202
    filler = Filler(disk)
    acknowledged, refused = fill_database(server)

    check_refused(push(server, SMALL))
    check_refused(server.request("PATCH", kept, body=SMALL))
    check_refused(server.request("PUT", f"{kept}?digest={Digest.of(SMALL)}", body=b""))
    check_readable(server)
    check_manifests(server, acknowledged, refused)

    filler.remove()
    wait_until(lambda: push(server, SMALL).status == 201, "pushes to succeed again")
    for manifest in refused:
        assert put(server, Digest.of(manifest), manifest).status == 201
    check_manifests(server, [*acknowledged, *refused], [])
    check_readable(server)


def test_a_server_that_was_killed_starts_on_the_full_disk(server: Running, disk: Path) -> None:
    filler = Filler(disk)
    acknowledged, refused = fill_database(server)
    server.kill(signal.SIGKILL)
    server.process.wait()

    with stackyard.start(on(disk), folder=server.folder) as again:
        check_readable(again)
        check_manifests(again, acknowledged, refused)
        if (answer := push(again, SMALL)).status != 201:
            check_refused(answer)
        filler.remove()
        assert push(again, SMALL).status == 201


def test_a_disk_too_full_to_open_the_database_is_told_in_one_line(server: Running, disk: Path) -> None:
    """After an orderly end SQLite has to make its two helper files anew, before it can even read."""
    server.stop()
    database = server.data / layout.DATABASE
    assert [file for file in database.parent.glob(f"{database.name}-*") if file.stat().st_size] == []
    filler = Filler(disk)

    failed = stackyard.launch(on(disk), folder=server.folder)
    assert failed.process.wait() == 1
    assert "disk is full" in failed.log.splitlines()[-1]
    assert "Traceback" not in failed.log

    filler.remove()
    with stackyard.start(on(disk), folder=server.folder) as again:
        check_readable(again)
        assert push(again, SMALL).status == 201


def fill_database(server: Running) -> tuple[list[bytes], list[bytes]]:
    """Put manifests until the database takes no more: those that were acknowledged, and three that were not."""
    acknowledged: list[bytes] = []
    refused: list[bytes] = []
    while len(refused) < 3:
        note = secrets.token_hex(50_000 if not refused else 10_000)
        manifest = content.index(annotations={"org.example.note": note})
        answer = put(server, Digest.of(manifest), manifest)
        if answer.status == 201:
            acknowledged.append(manifest)
        else:
            check_refused(answer)
            refused.append(manifest)
        assert len(acknowledged) < 1000
    return acknowledged, refused


def check_manifests(server: Running, there: list[bytes], absent: list[bytes]) -> None:
    for manifest in there:
        assert server.manifest(REPOSITORY, Digest.of(manifest)).body == manifest
    for manifest in absent:
        assert server.manifest(REPOSITORY, Digest.of(manifest)).status == 404
