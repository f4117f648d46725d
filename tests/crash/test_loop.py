"""Real clients push, pull and delete in a loop while collectors run without a pause, are killed and are frozen.

Two servers on one volume, and a third process that has none: each collects by itself. Every push goes to one server and
is pulled from the other. STACKYARD_PUSHES says how many pushes (50), STACKYARD_PROMISE how many seconds of promise
(10, the least there is), STACKYARD_LEASE how many seconds a lease lasts (3; shipped are 30), STACKYARD_LOOP_SEED which
images and which victims (random, and printed).
"""

import asyncio
import json
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.crash.collectors import AT_WORK, PAST_ITS_LEASE, Collecting, Commands, Trouble
from tests.crash.looping import Layouts, Looper, Node, Turns
from tests.support import docker_registry, postgresql, running
from tests.support.client import Client
from tests.support.containerd import Containerd, Ctr
from tests.support.dockerd import Docker, Dockerd
from tests.support.podman import Podman
from tests.support.processes import wait_until

from stackyard.oci import layout

PUSHES = int(os.environ.get("STACKYARD_PUSHES", "50"))
PROMISE = int(os.environ.get("STACKYARD_PROMISE", "10"))
LEASE = float(os.environ.get("STACKYARD_LEASE", "3"))
SEED = int(os.environ.get("STACKYARD_LOOP_SEED", "0")) or secrets.randbits(32)
LAYERS_PER_SECOND = 5  # of promise: so many layers that each is unused for about as long as it is promised
_PATIENCE = 10.0 * PUSHES  # seconds until the troubles have to be met
PROGRAM: list[str | Path] = [sys.executable, Path(__file__).with_name("quick_leases.py")]
ENVIRONMENT = {"LEASE_SECONDS": str(LEASE)}

pytestmark = [pytest.mark.serial, pytest.mark.timeout(600 + 10 * PUSHES)]


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty one."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / layout.DATABASE}"
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    return asyncio.run(server.create())


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[list[Client]]:
    """Three that share layers byte for byte, and three that have their own way of packing them."""
    with ExitStack() as until_the_end:
        dockerd, containerd = Dockerd(), Containerd()
        until_the_end.callback(dockerd.stop)
        until_the_end.callback(containerd.stop)
        yield [
            *(Layouts(tmp_path / f"skopeo-{number}") for number in range(3)),
            Docker(dockerd, tmp_path / "docker"),
            Podman(tmp_path / "podman"),
            Ctr(containerd),
        ]


def configuration(folder: Path, database: str, socket: Path | str) -> dict[str, Any]:
    return {
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "log": {"accesslog": {"disabled": True}},
        "stackyard": {
            "workers": 2,
            "database": {"url": database},
            "gc": {"promise": f"{PROMISE}s", "linger": "2s"},
            "api": {"socket": str(socket)},
        },
    }


def start(folder: Path, name: str, database: str) -> Node:
    """A server on the one volume in `folder`."""
    place = folder / name
    socket = place / "admin.sock"
    server = running.launch(PROGRAM, configuration(folder, database, socket), ENVIRONMENT, folder=place)
    server.wait_ready()
    server.process.wait_for(socket.exists, "its local socket")
    return Node(server, socket)


def stored(data: Path) -> set[str]:
    """The digests of all bytes of blobs and manifests on the volume."""
    files = (data / layout.DISTRIBUTION / "blobs").glob("*/*/*/data*")
    return {f"{file.parts[-4]}:{file.parts[-2]}" for file in files}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_no_push_and_no_pull_fails_whatever_happens_to_collectors(
    tmp_path: Path, database: str, clients: list[Client]
) -> None:
    print(f"\n{PUSHES} pushes, STACKYARD_LOOP_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    began = time.monotonic()
    randomness = random.Random(SEED)
    with ExitStack() as until_the_end:
        nodes = [start(tmp_path, "one", database)]
        until_the_end.enter_context(nodes[0].server)
        nodes.append(start(tmp_path, "two", database))
        until_the_end.enter_context(nodes[1].server)
        (tmp_path / "apart.yml").write_text(
            yaml.safe_dump(
                {"version": "0.1", "http": {"addr": "127.0.0.1:0"}} | configuration(tmp_path, database, "none")
            )
        )
        commands = [Commands(PROGRAM, node.server.config, ENVIRONMENT) for node in nodes]
        asked = Collecting(commands)
        apart = Collecting([Commands(PROGRAM, tmp_path / "apart.yml", ENVIRONMENT)])
        trouble = Trouble(database, LEASE, [node.server for node in nodes], apart, randomness)
        loopers = [
            Looper(client, nodes, tmp_path / f"images-{number}", promise=PROMISE, seed=randomness.getrandbits(32))
            for number, client in enumerate(clients)
        ]
        try:
            work(loopers, [asked, apart], trouble)
        finally:
            counts = (
                sum(
                    [looper.counts for looper in loopers],
                    Counter(runs=asked.runs + apart.runs, given_up=asked.given_up + apart.given_up),
                )
                + trouble.counts
            )
            took = time.monotonic() - began
            print(f"{dict(counts)}, freed {asked.freed + apart.freed} blobs, {took:.0f} s")  # noqa: T201
        complaints = [looper.complaint for looper in loopers if looper.complaint]
        assert not complaints, complaints
        assert (asked.complaint, apart.complaint) == ("", "")
        check_all(nodes, loopers, commands[0])
    with docker_registry.start(configuration(tmp_path, "", ""), folder=tmp_path / "theirs") as theirs:
        for looper in loopers:
            looper.check(theirs)

    assert counts["pushes"] + sum(len(looper.slow) for looper in loopers) == PUSHES
    assert sum(len(looper.slow) for looper in loopers) <= PUSHES // 10, "hardly a push was as fast as promised"
    assert all(looper.counts["pushes"] for looper in loopers), "a client did nothing"
    assert asked.freed + apart.freed, "nothing was collected meanwhile"
    assert counts[PAST_ITS_LEASE]
    assert counts[AT_WORK]


def work(loopers: list[Looper], collecting: list[Collecting], trouble: Trouble) -> None:
    """Until all is pushed that is to be pushed, and each kind of trouble was met."""
    turns = Turns(PUSHES)
    latest = time.monotonic() + _PATIENCE
    for each in collecting:
        each.start()
    try:
        for looper in loopers:
            looper.start(turns, PROMISE * LAYERS_PER_SECOND)
        while any(looper.is_at_work for looper in loopers) or (
            time.monotonic() < latest and not (trouble.counts[AT_WORK] and trouble.counts[PAST_ITS_LEASE])
        ):
            trouble.strike()
            if any(looper.complaint for looper in loopers) or any(each.complaint for each in collecting):
                turns.left = 0
                latest = 0.0
    finally:
        turns.left = 0
        for looper in loopers:
            looper.join()
        for each in collecting:
            each.stop()


def check_all(nodes: list[Node], loopers: list[Looper], commands: Commands) -> None:
    """What should be there is there, whole, and after the promise nothing else is."""
    data = nodes[0].server.data
    needed = set().union(*(looper.check(node.server) for looper in loopers for node in nodes))
    assert [wrong for looper in loopers for wrong in looper.unseen(nodes[1].server)] == []

    def is_clean() -> bool:
        commands.run("gc", "--grace", "0")
        return stored(data) == needed

    wait_until(is_clean, "everything to go that nothing needs", timeout=PROMISE + 120)
    left = json.loads(commands.run("gc", "--dry-run", "--grace", "0", "--json"))
    assert (left["blobs"], left["manifests"]) == (0, 0)
    assert "all is well" in commands.run("check")
    for looper in loopers:
        looper.check(nodes[0].server)
    for node in nodes:
        assert "Traceback" not in node.server.log, node.server.log
