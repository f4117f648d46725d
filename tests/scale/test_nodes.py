"""docker, podman and skopeo push and pull through nginx while nodes are killed, restarted and cut off.

Nothing that was acknowledged may be lost and no other bytes may be served, whatever happens; and a rolling restart
costs no pull. How many operations fail otherwise is printed. An operation is a whole command with its retries.

STACKYARD_SCALE says how many operations there are under each kind of trouble, STACKYARD_SCALE_SEED which;
STACKYARD_SCALE_STORE another store than a folder of this machine (see conftest).
"""

import asyncio
import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.scale.conftest import SCALE, store
from tests.scale.working import Goal, Patient, Worker
from tests.support import postgresql
from tests.support.client import Client
from tests.support.dockerd import Docker, Dockerd
from tests.support.nodes import Network, Node, ShippedNginx, cluster, reachable, shared
from tests.support.podman import Podman

OPERATIONS = SCALE or 24
SEED = int(os.environ.get("STACKYARD_SCALE_SEED", "0")) or secrets.randbits(32)
EVERY = 10.0 if SCALE else 3.0  # seconds from one kill to the next
LEAST = 2 if SCALE else 1  # times that each trouble happens, however soon the operations are done


@dataclass
class Site:
    """Nodes, the proxy before them, and who works through it."""

    nodes: list[Node]
    proxy: ShippedNginx
    workers: list[Worker]
    engine: postgresql.Server
    network: Network | None = None


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    folder = tmp_path_factory.mktemp("clients")
    daemon = Dockerd()
    yield [
        Docker(daemon, folder / "docker"),
        Podman(folder / "podman"),
        Patient(folder / "skopeo-1"),
        Patient(folder / "skopeo-2"),
    ]
    daemon.stop()


@pytest.fixture(scope="module")
def site(
    engine: postgresql.Server, clients: Sequence[Client], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Three nodes on the loopback."""
    folder = tmp_path_factory.mktemp("site")
    with opened(folder, asyncio.run(engine.create()), clients, engine) as found:
        yield found


class opened:
    """A site with everything in `folder`."""

    def __init__(
        self,
        folder: Path,
        database: str,
        clients: Sequence[Client],
        engine: postgresql.Server,
        network: Network | None = None,
    ) -> None:
        self._folder = folder
        self._clients = clients
        self._common = shared(database, store(folder))
        self._engine = engine
        self._network = network
        self._until_the_end = ExitStack()

    def __enter__(self) -> Site:
        nodes = self._until_the_end.enter_context(cluster(self._folder, self._common, network=self._network))
        proxy = ShippedNginx(nodes)
        self._until_the_end.callback(proxy.stop)
        seeds = random.Random(SEED)
        workers = [
            Worker(client, proxy.address, self._folder / f"worker-{number}", seed=seeds.getrandbits(32))
            for number, client in enumerate(self._clients)
        ]
        return Site(nodes, proxy, workers, self._engine, self._network)

    def __exit__(self, *_: object) -> None:
        self._until_the_end.close()


Trouble = Callable[[Site, random.Random], None]


def killed(site: Site, randomness: random.Random) -> None:
    """One node, all its processes at once; it is started again at once, as systemd does."""
    victim = randomness.choice(site.nodes)
    victim.kill()
    victim.start()


def restarted_one_by_one(site: Site, _: random.Random) -> None:
    """Each is told to stop, and started again; the next one goes when it is ready."""
    for node in site.nodes:
        assert node.end() == 0
        node.start()


def database_restarted(site: Site, _: random.Random) -> None:
    """As an operator does: running statements are ended."""
    with site.engine.stopped():
        pass
    for node in site.nodes:
        node.wait_ready()


def cut_off(site: Site, randomness: random.Random) -> None:
    """One node hears nobody, and nobody hears it: not the proxy, not the database."""
    assert site.network is not None
    victim = randomness.choice(site.nodes)
    before = sum(worker.done for worker in site.workers)
    with site.network.cut(victim.name):
        cut = time.monotonic()
        while time.monotonic() < cut + 2 * EVERY or sum(worker.done for worker in site.workers) < before + 5:
            assert time.monotonic() < cut + 300, "the others do not go on"
            threading.Event().wait(0.1)
    victim.wait_ready()


def run(site: Site, trouble: Trouble, *, every: float) -> Counter[str]:
    """Everybody works until the operations are done and the trouble has come LEAST times. What came of it."""
    randomness, goal, times, began = random.Random(SEED), Goal(OPERATIONS), 0, time.monotonic()
    for worker in site.workers:
        worker.start(goal)
    try:
        while times < LEAST or goal.left > 0:
            due = time.monotonic() + every
            trouble(site, randomness)
            times += 1
            while time.monotonic() < due and (goal.left > 0 or times < LEAST):
                threading.Event().wait(0.05)
            if any(worker.complaint for worker in site.workers):
                break
    finally:
        goal.open, goal.left = False, min(goal.left, 0)
        for worker in site.workers:
            worker.join()
    counts = sum((worker.counts for worker in site.workers), Counter({trouble.__name__: times}))
    print(f"\n{dict(counts)}, {time.monotonic() - began:.0f} s, STACKYARD_SCALE_SEED={SEED}")  # noqa: T201
    for failure in [failure for worker in site.workers for failure in worker.failures]:
        print(f"  {failure[:200]} … {failure[-500:]}")  # noqa: T201
    return counts


def check(site: Site) -> None:
    """Nothing is lost, nothing is wrong, and no node made a mistake of its own."""
    assert [worker.complaint for worker in site.workers if worker.complaint] == []
    assert [wrong for worker in site.workers for wrong in worker.wrong] == []
    found = sum(worker.check(site.nodes) for worker in site.workers)
    pushed = sum(len(worker.pushed) for worker in site.workers)
    print(f"  {pushed} pushed images, {found} manifests and blobs read again: all whole")  # noqa: T201
    for node in site.nodes:
        assert 'msg="unexpected error"' not in node.server.log, node.server.log[-20_000:]


def test_nothing_is_lost_while_nodes_are_killed(site: Site) -> None:
    counts = run(site, killed, every=EVERY)

    check(site)
    assert counts["push"] + counts["pull"] > 0


def test_no_pull_fails_while_all_nodes_restart_one_by_one(site: Site) -> None:
    counts = run(site, restarted_one_by_one, every=EVERY)

    check(site)
    assert counts["pull"] > 0
    assert counts["pull failed"] == 0


def test_nothing_is_lost_while_the_database_restarts(site: Site) -> None:
    counts = run(site, database_restarted, every=EVERY)

    check(site)
    assert counts["push"] + counts["pull"] > 0


def test_nothing_is_lost_while_a_node_is_cut_off(
    engine: postgresql.Server, clients: Sequence[Client], tmp_path: Path
) -> None:
    network = Network()
    try:
        database = asyncio.run(engine.create())
        with reachable(engine.socket, network) as port:
            name = database.rpartition("@/")[2].partition("?")[0]
            url = f"postgresql://postgres@{network.host}:{port}/{name}"
            with opened(tmp_path, url, clients, engine, network) as site:
                counts = run(site, cut_off, every=EVERY)

                check(site)
    finally:
        network.stop()
    assert counts["push"] + counts["pull"] > 0
