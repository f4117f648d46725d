"""Collectors that work without a pause, and are killed and frozen meanwhile."""

import asyncio
import os
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from tests.support import workers
from tests.support.processes import is_running, wait_until
from tests.support.running import Running

from stackyard.metadata.driver import module as sqlite
from stackyard.metadata.holds import COLLECTION

_PATIENCE = 600.0  # seconds: whoever works on a job may be killed, and keeps its leases for a while, several times
AT_WORK, PAST_ITS_LEASE = "killed at work", "frozen past its lease"

GIVEN_UP = "given up: its process ended"


@dataclass(frozen=True)
class Commands:
    """`stackyard gc` and its neighbours, with one configuration."""

    program: Sequence[str | Path]
    config: Path
    environment: Mapping[str, str]

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Begin."""
        command = [*map(str, self.program), *words, "--config", str(self.config)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | self.environment
        )

    def run(self, *words: str) -> str:
        """What it prints. Raises AssertionError when it fails."""
        process = self.start(*words)
        out, err = process.communicate(timeout=_PATIENCE)
        assert process.returncode == 0, f"{' '.join(words)} ended with {process.returncode}: {out}{err}"
        return out


class Collecting:
    """`stackyard gc --grace 0`, again and again."""

    def __init__(self, commands: Sequence[Commands]) -> None:
        """Take turns with these configurations."""
        self._commands = commands
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.runs = 0
        self.freed = 0
        """Blobs."""
        self.given_up = 0
        """Runs that were hit ten times, each time in the middle."""
        self.pid: int | None = None
        self.killed: set[int] = set()
        """Processes whose end is no failure of theirs."""
        self.complaint: str = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the run that is under way."""
        self._enough.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._enough.is_set() and not self.complaint:
            process = self._commands[self.runs % len(self._commands)].start("gc", "--grace", "0")
            self.pid = process.pid
            try:
                out, err = process.communicate(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                self.complaint = f"did not end: {out}{err}"
                return
            finally:
                self.pid = None
            self.runs += 1
            self.freed += sum(int(number) for number in re.findall(r"freed (\d+) blobs", out))
            if GIVEN_UP in err:
                self.given_up += 1
            elif process.returncode and process.pid not in self.killed:
                self.complaint = f"ended with {process.returncode}: {out}{err}"


@dataclass(frozen=True)
class Holder:
    """Who holds the lease of the collection."""

    pid: int | None
    fence: int


def holder(url: str) -> Holder:
    """Who does now."""
    query = f"SELECT holder, fence FROM lease WHERE name = '{COLLECTION}'"
    if url.startswith("sqlite:"):
        with closing(sqlite.connect(url.removeprefix("sqlite:///"))) as database:
            row = database.execute(query).fetchone()
    else:
        row = asyncio.run(_fetch(url, query))
    if row is None:
        return Holder(None, 0)
    return Holder(int(row[0].split(":")[1]) if row[0] else None, row[1])


async def _fetch(url: str, query: str) -> tuple[str | None, int] | None:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(query)
        return None if row is None else tuple(row)
    finally:
        await connection.close()


@dataclass
class Trouble:
    """What happens to collectors. One of them is picked at a time, mostly the one that holds the lease."""

    url: str
    lease: float
    """Seconds that a lease outlives its holder's last word."""
    servers: Sequence[Running]
    apart: Collecting
    """Whose processes collect by themselves, without a server."""
    randomness: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        """Kill one, or freeze it for longer than its lease; first each of them once at its work."""
        time.sleep(self.randomness.uniform(0.1, self.lease / 2))  # the moment: any; often enough they come to an end
        victims = self._collectors()
        aimed = self.randomness.random() < 0.7 or not (self.counts[PAST_ITS_LEASE] and self.counts[AT_WORK])
        pid = (self._holder_of(victims) if aimed else None) or self.randomness.choice(victims)
        spared = self.randomness.random() < 0.6 if self.counts[AT_WORK] else not self.counts[PAST_ITS_LEASE]
        with suppress(ProcessLookupError, FileNotFoundError):  # it ended by itself
            if spared or not self.counts[PAST_ITS_LEASE]:
                self._freeze(pid)
            else:
                self._kill(pid)

    def _holder_of(self, victims: Sequence[int]) -> int | None:
        """Which of them is collecting, if one is within a few seconds."""
        found: list[int] = []

        def is_held() -> bool:
            pid = holder(self.url).pid
            if pid is not None and pid in victims:
                found.append(pid)
            return bool(found)

        with suppress(AssertionError):
            wait_until(is_held, "a collector at work", timeout=3)
            time.sleep(self.randomness.uniform(0, 0.1))  # somewhere in the middle
        return found[0] if found else None

    def _collectors(self) -> list[int]:
        wait_until(lambda: all(workers.background(one.process.pid) for one in self.servers), "every collector to live")
        found = [pid for server in self.servers for pid in workers.background(server.process.pid)]
        own = self.apart.pid
        return [*found, own] if own else found

    def _kill(self, pid: int) -> None:
        was_working = holder(self.url).pid == pid
        self.apart.killed.add(pid)
        os.kill(pid, 9)
        wait_until(lambda: not is_running(pid), f"{pid} to end")
        self.counts[AT_WORK if was_working else "killed"] += 1

    def _freeze(self, pid: int) -> None:
        with workers.frozen(pid):
            if self._stops_everybody(pid):
                time.sleep(self.randomness.uniform(0, 1))  # nobody can take over: all wait
                self.counts["frozen with the database's lock"] += 1
                return
            if holder(self.url).pid != pid:
                self.counts["frozen at rest"] += 1
                return
            wait_until(self._is_taken_over(pid), "somebody to take over", timeout=_PATIENCE)
            self.counts[PAST_ITS_LEASE] += 1
            time.sleep(self.randomness.uniform(0, 1))  # so that the other is somewhere in the middle

    def _is_taken_over(self, pid: int) -> Callable[[], bool]:
        return lambda: holder(self.url).pid not in (pid, None)

    def _stops_everybody(self, pid: int) -> bool:
        """Whether it holds the lock for which all writers of a SQLite file queue."""
        if not self.url.startswith("sqlite:"):
            return False
        inode = Path(f"{self.url.removeprefix('sqlite:///')}.lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] != "->" and words[4] == str(pid) and words[5].rpartition(":")[2] == str(inode):
                return True
        return False
