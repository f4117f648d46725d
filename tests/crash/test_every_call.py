"""A worker killed at each single call of a push, one after the other: strace sends the signal as the call begins.

All calls with STACKYARD_CRASHES at 200 or more, otherwise a few of them, chosen at random.
"""

import contextlib
import hashlib
import http.client
import itertools
import random
import secrets
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.crash.test_kill import CRASHES, SEED
from tests.crash.volume import Volume
from tests.http import content
from tests.support import stackyard, strace, workers
from tests.support.running import Running
from tests.support.strace import Strace

from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_MANIFEST

REPOSITORY = "every/call"
CALLS = {"mkdir": 2, "linkat": 1, "unlink": 1, "fsync": 12, "pwrite64": 12}
"""What changes something on the disk, and about how many of each one thread makes for a push: strace counts them for
each thread by itself."""
ALL = CRASHES >= 200
FEW = 8

pytestmark = [pytest.mark.serial, pytest.mark.timeout(1800 if ALL else 120)]


@dataclass
class AtOnce:
    """A blob in one request."""

    body: bytes
    kind: str = "blobs"

    @property
    def digest(self) -> Digest:
        return Digest.of(self.body)

    def __call__(self, connection: HTTPConnection) -> None:
        ask(connection, 201, "POST", uploads(f"?digest={self.digest}"), self.body)


class InParts(AtOnce):
    """A blob in four."""

    def __call__(self, connection: HTTPConnection) -> None:
        session = ask(connection, 202, "POST", uploads(), b"")
        ask(connection, 202, "PATCH", session, self.body[:1000])
        ask(connection, 202, "PATCH", session, self.body[1000:-1000])
        ask(connection, 201, "PUT", f"{session}?digest={self.digest}", self.body[-1000:])


class Tagged(AtOnce):
    """A manifest."""

    def __call__(self, connection: HTTPConnection) -> None:
        path = f"/v2/{REPOSITORY}/manifests/latest"
        ask(connection, 201, "PUT", path, self.body, {"Content-Type": OCI_MANIFEST})


def at_once() -> AtOnce:
    return AtOnce(secrets.token_bytes(5000))


def in_parts() -> AtOnce:
    return InParts(secrets.token_bytes(2 << 20))


def manifest() -> AtOnce:
    return Tagged(content.image(annotations={"org.example.note": secrets.token_hex(8)}), "manifests")


PUSHES = [at_once, in_parts, manifest]


def ask(
    connection: HTTPConnection, status: int, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
) -> str:
    """The answer's Location."""
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == status, said
    return urlsplit(answer.headers["Location"]).path


def uploads(query: str = "") -> str:
    return f"/v2/{REPOSITORY}/blobs/uploads/{query}"


class Killing:
    """Servers on one folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._start() as server:
            self.volume = Volume(server.data)
            for body in (content.CONFIG, content.LAYER):
                send(server, AtOnce(body))

    def kill_at(self, call: str, number: int, push: AtOnce) -> bool:
        """Kill the worker as one of its threads begins this call for the `number`th time; whether it came to that."""
        with self._start() as server:
            (worker,) = workers.pids(server.process.pid)
            inject = f"{call}:signal=KILL:when={number}"
            tracer = Strace(worker, self.folder / "trace", call, inject=inject)
            acknowledged = True
            try:
                send(server, push)
            except (OSError, http.client.HTTPException):
                acknowledged = False
            tracer.stop()
            server.wait_ready()  # its successor is there
            self._check(server, push, acknowledged)
            return not acknowledged

    def _start(self) -> Running:
        return stackyard.start({"stackyard": {"workers": 1}}, folder=self.folder)

    def _check(self, server: Running, push: AtOnce, acknowledged: bool) -> None:
        """It is there and whole, or was not acknowledged; and it can be pushed again."""
        path = f"/v2/{REPOSITORY}/{push.kind}/{push.digest}"
        answer = server.request("GET", path)
        assert answer.status == 200 or (answer.status == 404 and not acknowledged)
        if answer.status == 404:
            send(server, push)
            answer = server.request("GET", path)
        assert answer.status == 200
        assert hashlib.sha256(answer.body).hexdigest() == push.digest.hex
        self.volume.check_files()
        assert "Traceback" not in server.log, server.log


def send(server: Running, push: AtOnce) -> None:
    """On a connection of its own."""
    with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        push(connection)


def kill_at_all_points(killing: Killing) -> int:
    """At how many: of each kind of call, until a push ends before there is another."""
    points = 0
    for make, call in itertools.product(PUSHES, CALLS):
        number = 1
        while killing.kill_at(call, number, make()):
            number += 1
        points += number - 1
    return points


def kill_at_few_points(killing: Killing) -> int:
    """At how many of `FEW` that may or may not exist."""
    chosen = random.Random(SEED)
    points = [(call, number) for call, most in CALLS.items() for number in range(1, most + 1)]
    return sum(killing.kill_at(*point, chosen.choice(PUSHES)()) for point in chosen.sample(points, FEW))


def test_worker_killed_at_any_call_of_a_push_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    strace.need()
    killing = Killing(tmp_path)

    points = kill_at_all_points(killing) if ALL else kill_at_few_points(killing)

    print(f"\nkilled at {points} calls, STACKYARD_CRASH_SEED={SEED}")  # noqa: T201 - shown when it fails
    killing.volume.check_rows()
    assert points > (30 if ALL else 0)
