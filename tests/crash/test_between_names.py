"""A worker killed when a blob already has its own name and still the upload's: after link(2), before unlink(2)."""

import http.client
import secrets
from pathlib import Path

import pytest
from tests.crash.test_leftovers import start
from tests.crash.volume import Volume
from tests.support import strace, workers
from tests.support.processes import wait_until
from tests.support.running import Running
from tests.support.strace import Strace

from stackyard.oci import layout
from stackyard.oci.digests import Digest

BLOBS = "/v2/between/names/blobs"
CONTENT = secrets.token_bytes(300_000)  # a small one gets its name first and its bytes then
DIGEST = Digest.of(CONTENT)
KEPT = {"enabled": False}
PURGED = {"enabled": True, "age": "1s", "interval": "1s"}

pytestmark = pytest.mark.serial


@pytest.fixture(autouse=True)
def _traceable() -> None:
    strace.need()


def kill_between_names(server: Running, method: str, path: str, body: bytes) -> None:
    """Send a request that publishes, and kill its worker as it is about to take the upload's name away."""
    before = workers.pids(server.process.pid)
    # A signal comes as the call ends, so the call is also made to fail.
    inject = "unlink:error=EIO:signal=KILL:when=1"
    tracers = [Strace(pid, server.folder / f"trace-{pid}", "unlink", inject=inject) for pid in before]
    with pytest.raises((ConnectionError, http.client.HTTPException)):  # and no silence until a timeout
        server.request(method, path, body=body)
    for tracer in tracers:
        tracer.stop()
    wait_until(lambda: len(set(workers.pids(server.process.pid)) - set(before)) == 1, "the worker to be replaced")
    server.wait_ready()
    [upload] = uploads(server)
    assert upload.samefile(server.data / layout.blob(DIGEST, 0))
    assert server.request("GET", f"{BLOBS}/{DIGEST}").status == 404


def uploads(server: Running) -> list[Path]:
    return list(server.data.glob(f"{layout.UPLOADS}/*"))


def check(server: Running) -> None:
    """The blob is there and whole, and so is every other published file; of the upload nothing is left."""
    assert server.request("GET", f"{BLOBS}/{DIGEST}").body == CONTENT
    Volume(server.data).check_files()
    assert uploads(server) == []
    assert "Traceback" not in server.log, server.log


def test_a_client_that_goes_on_gets_a_whole_blob_and_leaves_no_upload(tmp_path: Path) -> None:
    with start(tmp_path, KEPT) as server:
        session = server.request("POST", f"{BLOBS}/uploads/", body=b"").headers["Location"].removeprefix(server.url)
        assert server.request("PATCH", session, body=CONTENT[:60_000]).status == 202
        finishing = ("PUT", f"{session}?digest={DIGEST}", CONTENT[60_000:])
        kill_between_names(server, *finishing)

        method, path, body = finishing
        wait_until(lambda: server.request(method, path, body=body).status == 201, "the killed worker's claim to end")

        check(server)


def test_a_client_that_begins_again_gets_a_whole_blob_and_the_old_upload_is_purged(tmp_path: Path) -> None:
    pushing = ("POST", f"{BLOBS}/uploads/?digest={DIGEST}", CONTENT)
    with start(tmp_path, KEPT) as server:
        kill_between_names(server, *pushing)
        method, path, body = pushing
        assert server.request(method, path, body=body).status == 201

    with start(tmp_path, PURGED) as again:
        wait_until(lambda: uploads(again) == [], "the upload to be purged")

        check(again)
