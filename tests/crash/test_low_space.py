"""A disk that fills up: pushes are refused in time, everything else goes on, and deleting makes room again."""

import http.client
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.cli.test_main import run
from tests.crash.test_disk_full import MIB, REPOSITORY, Filler, disk, push, put
from tests.http import content
from tests.support import stackyard
from tests.support.processes import wait_until
from tests.support.running import Answer, Running

from stackyard.oci.digests import Digest

__all__ = ["disk"]

pytestmark = pytest.mark.serial
LAYERS = [secrets.token_bytes(2 * MIB) for _ in range(5)]


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Running]:
    """A registry on a disk of 24 MiB, of which it keeps 4 MiB free and has 2 MiB as ballast."""
    with stackyard.start(on(disk), folder=tmp_path / "server") as running:
        wait_until(lambda: ballast(running).exists(), "the ballast to be made")
        for body in (content.CONFIG, *LAYERS):
            assert push(running, body).status == 201
        yield running
        assert "Traceback" not in running.log, running.log


def on(disk: Path) -> dict[str, Any]:
    """The configuration of a registry on that disk."""
    return {
        "stackyard": {
            "workers": 1,
            "storage": {"reserve": "4MiB", "ballast": "2MiB"},
            "gc": {"promise": "10s", "linger": "1s"},
        },
        "storage": {"filesystem": {"rootdirectory": str(disk / "data")}},
    }


def ballast(server: Running) -> Path:
    return server.data / "stackyard" / "stackyard.db-ballast"


def image(layer: bytes) -> bytes:
    return content.image(layers=[content.descriptor(layer)])


def check_refused(answer: Answer) -> None:
    assert answer.status == 507, answer
    [error] = json.loads(answer.body)["errors"]
    assert error["code"] == "UNAVAILABLE"
    assert "no space for pushes: less than 4 MiB of the registry's disk would stay free" in error["message"]
    assert "stackyard gc --grace 0" in error["message"]
    assert answer.headers["Retry-After"]


def check_readable(server: Running) -> None:
    for layer in LAYERS:
        assert server.request("GET", f"/v2/{REPOSITORY}/blobs/{Digest.of(layer)}").body == layer


def collect(server: Running) -> bool:
    """As the refusal says."""
    done = run("gc", "--grace", "0", "--config", server.config)
    assert done.returncode == 0, done.stderr
    return True


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_pushes_stop_at_the_reserve_and_pulls_go_on(server: Running, disk: Path) -> None:
    for number, layer in enumerate(LAYERS):
        assert put(server, f"v{number}", image(layer)).status == 201
    while (answer := push(server, secrets.token_bytes(MIB))).status == 201:
        pass

    check_refused(answer)
    assert 3.5 * MIB <= free(disk) < 5.5 * MIB  # the rows of what came last take some
    check_refused(
        server.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(LAYERS[0])}", body=LAYERS[0])
    )
    check_readable(server)
    assert "the disk is nearly full" not in server.log  # a push was too large, and no more


def test_a_stream_stops_at_the_reserve_and_takes_no_space(server: Running, disk: Path) -> None:
    session = server.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/").headers["Location"]
    before = free(disk)
    assert before > 6 * MIB

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    pieces = iter([bytes(MIB // 2)] * 40)
    connection.request("PATCH", urlsplit(session).path, pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    got = connection.getresponse()
    answer = Answer(got.status, got.headers, got.read())
    connection.close()

    check_refused(answer)
    wait_until(lambda: free(disk) >= before - MIB, "its bytes to be given back")
    check_readable(server)


def test_a_disk_that_somebody_else_filled_is_emptied_by_deleting(server: Running, disk: Path) -> None:
    """Not a byte is left, not even for the database: the ballast goes first."""
    for number, layer in enumerate(LAYERS):
        assert put(server, f"v{number}", image(layer)).status == 201
    filler = Filler(disk)
    assert free(disk) == 0
    wait_until(lambda: "the disk is nearly full" in server.log, "the server to notice")
    wait_until(lambda: push(server, b"x").status == 507, "the server to look")
    check_refused(push(server, b"x"))
    check_refused(put(server, "v9", image(LAYERS[0])))
    check_readable(server)

    for layer in LAYERS:
        path = f"/v2/{REPOSITORY}/manifests/{Digest.of(image(layer))}"
        answer = server.request("DELETE", path)
        assert answer.status == 202, answer
    assert not ballast(server).exists()
    check_refused(push(server, b"x"))
    wait_until(lambda: collect(server) and push(server, b"x").status == 201, "the promises to end", timeout=60)

    assert free(disk) > 0
    wait_until(lambda: ballast(server).exists(), "the ballast to be made again")
    filler.remove()


def test_a_server_starts_on_a_full_disk_by_its_ballast(server: Running, disk: Path) -> None:
    """After an orderly end SQLite has to make its two helper files anew, before it can even read."""
    server.stop()
    filler = Filler(disk)

    with stackyard.start(on(disk), folder=server.folder) as again:
        assert not ballast(again).exists()
        check_readable(again)
        check_refused(push(again, b"x"))
        filler.remove()
        wait_until(lambda: push(again, b"x").status == 201, "pushes to be taken again")
