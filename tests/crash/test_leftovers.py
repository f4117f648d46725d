"""What killed servers leave of unfinished uploads goes away by itself, and nothing else does."""

import os
import secrets
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.crash.callers import REPOSITORY, HalfSent, both
from tests.support import running, workers
from tests.support.processes import wait_until
from tests.support.running import Running

from stackyard.oci import layout
from stackyard.oci.digests import Digest

QUICK_CLAIMS: list[str | Path] = [sys.executable, Path(__file__).with_name("quick_claims.py")]
CONTENT = secrets.token_bytes(8 << 20)
DAY = 86400  # seconds


def start(folder: Path, purging: Mapping[str, Any]) -> Running:
    config = {"stackyard": {"workers": 2}, "storage": {"maintenance": {"uploadpurging": purging}}}
    server = running.launch(QUICK_CLAIMS, config, folder=folder)
    server.wait_ready()
    return server


def kill(server: Running) -> None:
    workers.kill([server.process.pid, *workers.children(server.process.pid)])


def leave_uploads(server: Running) -> Digest:
    """One of each kind, and one blob; then the server is killed."""
    with both(server) as (one, other):
        assert one("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(CONTENT)}", CONTENT) == 201
        assert one("PATCH", one.start(), CONTENT) == 202
        appending = one.start()
        HalfSent(server, one, appending, CONTENT)
        finishing = other.start()
        HalfSent(server, other, finishing, CONTENT, Digest.of(b"whatever"))
        kill(server)
    return Digest.of(CONTENT)


def orphan(server: Running, age: float) -> Path:
    """A file of an upload that no row knows, last written `age` seconds ago."""
    file = server.data / layout.upload(uuid.uuid4().hex, 0)
    file.write_bytes(CONTENT)
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_killed_uploads_are_swept_and_what_may_be_at_work_elsewhere_is_not(tmp_path: Path) -> None:
    server = start(tmp_path, {"enabled": False})
    digest = leave_uploads(server)
    old, young = orphan(server, 2 * DAY), orphan(server, DAY / 2)
    uploads = old.parent
    assert len(list(uploads.iterdir())) == 5

    with start(tmp_path, {"enabled": True, "age": "1s", "interval": "1s"}) as again:
        wait_until(lambda: set(uploads.iterdir()) == {young}, "the uploads to be swept")

        assert again.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}").body == CONTENT
        assert "Traceback" not in again.log
    published = [file for file in (again.data / layout.DISTRIBUTION).rglob("*") if file.is_file()]
    assert published == [again.data / layout.blob(digest, 0)]


def test_what_would_be_swept_is_only_told_in_a_dry_run(tmp_path: Path) -> None:
    server = start(tmp_path, {"enabled": False})
    leave_uploads(server)
    uploads = orphan(server, 2 * DAY).parent
    before = set(uploads.iterdir())

    with start(tmp_path, {"enabled": True, "age": "1s", "interval": "1s", "dryrun": True}) as again:
        again.process.wait_line('"unfinished uploads purged" part=stackyard.jobs count=3 dry_run=True')
        again.process.wait_line('"files of ended uploads removed" part=stackyard.jobs count=1 dry_run=True')

    assert set(uploads.iterdir()) == before
