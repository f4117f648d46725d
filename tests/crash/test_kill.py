"""`kill -9` at any moment of a push: what was acknowledged is there and whole, and nothing else is to be seen.

STACKYARD_CRASHES says how many times (20), STACKYARD_CRASH_SEED which ones (random, and printed).
"""

import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import pytest
from tests.crash.ledger import Ledger
from tests.crash.pusher import Pusher
from tests.crash.volume import Volume
from tests.support import stackyard, workers
from tests.support.processes import is_running, wait_until
from tests.support.running import Running

CRASHES = int(os.environ.get("STACKYARD_CRASHES", "20"))
SEED = int(os.environ.get("STACKYARD_CRASH_SEED", "0")) or secrets.randbits(32)
WORKERS = 2
PUSHERS = 6
AGAIN = 50  # how much of what survived earlier crashes is read again after each one; at the end all of it is
CONFIG = {"stackyard": {"workers": WORKERS}, "log": {"accesslog": {"disabled": True}}}

pytestmark = [pytest.mark.serial, pytest.mark.timeout(60 + 10 * CRASHES)]


class Crashes:
    """A server that is killed again and again while clients push to it."""

    def __init__(self, folder: Path, randomness: random.Random) -> None:
        self.folder = folder
        self.random = randomness
        self.server = stackyard.start(CONFIG, folder=folder)
        self.ledgers = [Ledger(f"crash/{number}") for number in range(PUSHERS)]
        self.volume = Volume(self.server.data)
        self.counts: Counter[str] = Counter()

    def crash(self, target: str) -> None:
        """Kill the target while everybody pushes, then check everything that may have suffered."""
        pids = self.workers()
        pushers = push_to(self.server, pids, self.ledgers, self.random)
        time.sleep(self.random.uniform(0.02, 0.8))  # the moment of the crash: any
        if target == "worker":
            self._kill_worker(pids, pushers)
        else:
            self._kill_server(target, pids, pushers)
        self.counts[target] += 1
        self.counts["acknowledged"] += sum(pusher.acknowledged for pusher in pushers)
        self.counts["unanswered"] += sum(len(pusher.broken) for pusher in pushers)
        self.check(AGAIN)

    def check(self, again: int) -> None:
        """Read what is new, what is in doubt and `again` of the rest."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        for ledger in self.ledgers:
            old = sorted(ledger.checked)
            ledger.check(connection, ledger.unchecked.union(self.random.sample(old, min(again, len(old)))))
        connection.close()
        self.volume.check_files()
        assert "Traceback" not in self.server.log, self.server.log

    def workers(self) -> list[int]:
        """The workers, once all are there."""
        wait_until(lambda: len(workers.pids(self.server.process.pid)) == WORKERS, "all workers to be there")
        return workers.pids(self.server.process.pid)

    def _kill_worker(self, pids: list[int], pushers: list[Pusher]) -> None:
        victim = self.random.choice(pids)
        workers.kill([victim])
        wait_until_served(pushers)
        for pusher in pushers:
            pusher.finish()
        suffered = {worker for pusher in pushers for worker in pusher.broken if worker}
        assert suffered <= {victim}, "a connection to a worker that lives was broken"

    def _kill_server(self, target: str, pids: list[int], pushers: list[Pusher]) -> None:
        supervisor = self.server.process.pid
        if target == "all":
            for pid in self.random.sample([supervisor, *pids], len(pids) + 1):
                os.kill(pid, 9)
        workers.kill([supervisor])
        wait_until(lambda: not any(map(is_running, pids)), "the workers to end with their supervisor")
        for pusher in pushers:
            pusher.finish()
        self.server = stackyard.start(CONFIG, folder=self.folder)


def push_to(server: Running, pids: Sequence[int], ledgers: Sequence[Ledger], randomness: random.Random) -> list[Pusher]:
    """A client for each ledger, at work."""
    pushers = [Pusher(server.port, each, ledgers, random.Random(randomness.getrandbits(64))) for each in ledgers]
    for pusher in pushers:
        pusher.start(pids)
    return pushers


def wait_until_served(pushers: Sequence[Pusher]) -> None:
    """Everybody gets answers, from now on. (A complaint is told by `Pusher.finish`.)"""
    goals = [(pusher, pusher.acknowledged + 3) for pusher in pushers]
    wait_until(lambda: all(one.acknowledged >= goal or one.complaint for one, goal in goals), "everybody to be served")


def test_what_was_acknowledged_survives_any_kill_and_nothing_half_written_is_visible(tmp_path: Path) -> None:
    print(f"\n{CRASHES} crashes, STACKYARD_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    crashes = Crashes(tmp_path, random.Random(SEED))
    try:
        for _, target in zip(range(CRASHES), cycle(["supervisor", "worker", "all"])):
            crashes.crash(target)
        crashes.check(again=1_000_000)
    finally:
        crashes.server.stop()
        print(dict(crashes.counts))  # noqa: T201

    crashes.volume.check_rows()
    assert any(ledger.manifests for ledger in crashes.ledgers)
    assert crashes.counts["unanswered"] > CRASHES, "hardly anything was under way when the server was killed"


def test_a_killed_worker_breaks_its_own_connections_only_and_is_replaced(tmp_path: Path) -> None:
    ledgers = [Ledger(f"crash/{number}") for number in range(8)]
    with stackyard.start(CONFIG, folder=tmp_path) as server:
        before = workers.pids(server.process.pid)
        pushers = push_to(server, before, ledgers, random.Random(SEED))
        wait_until(lambda: all(pusher.worker or pusher.complaint for pusher in pushers), "every worker to be known")
        victim, survivor = before
        safe = [pusher for pusher in pushers if pusher.worker == survivor]

        workers.kill([victim])
        wait_until_served(pushers)
        for pusher in pushers:
            pusher.finish()

        assert 0 < len(safe) < len(pushers)
        assert [pusher.broken for pusher in safe] == [[]] * len(safe)
        wait_until(lambda: len(workers.pids(server.process.pid)) == WORKERS, "the worker to be replaced")
        assert survivor in workers.pids(server.process.pid)
