"""Real clients that push and pull through a proxy while nodes come and go, and what each of them was told."""

import hashlib
import json
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.looping import Layouts, Pool
from tests.support import images
from tests.support.client import Client
from tests.support.images import Image
from tests.support.nodes import Node
from tests.support.processes import Done, Failed
from tests.support.running import MANIFESTS

POOL = 40  # layers that images share
PULLS = 2  # for each push


class Patient(Layouts):
    """skopeo, told to try again: by itself it does not, where docker and podman do."""

    def __call__(self, *argv: str | Path, stdin: bytes = b"") -> Done:
        retrying = ("--retry-times", "5") if argv[0] == "copy" else ()
        return super().__call__(argv[0], *retrying, *argv[1:], stdin=stdin)


@dataclass(frozen=True)
class Pushed:
    """What was acknowledged."""

    tag: str
    config: str
    """What a client must find under the tag."""


@dataclass
class Goal:
    """How many operations there are to be, for all clients together; more while `open`."""

    left: int
    open: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Whether there is another operation to do."""
        with self.lock:
            self.left -= 1
            return self.left >= 0 or self.open


class Worker:
    """One client at work in a repository of its own, on one thread. No operation that fails ends it."""

    def __init__(self, client: Client, address: str, folder: Path, *, seed: int) -> None:
        self.client = client
        self.repository = f"scale/{folder.name}"
        self.reference = f"{address}/{self.repository}"
        self.folder = folder
        self.random = random.Random(seed)
        self.pool = Pool(POOL, self.random)
        self.pushed: list[Pushed] = []
        self.doubtful: list[Pushed] = []
        """Pushed, and the client gave up: there and whole, or not there."""
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.wrong: list[str] = []
        """Other bytes than were pushed; no kill excuses them."""
        self.complaint: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self, goal: Goal) -> None:
        """Push and pull until the goal is reached."""
        self.counts.clear()
        self.failures.clear()
        self._thread = threading.Thread(target=self._work, args=[goal])
        self._thread.start()

    @property
    def done(self) -> int:
        """How many operations have succeeded since the start."""
        return self.counts["push"] + self.counts["pull"]

    def join(self) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join()

    def _work(self, goal: Goal) -> None:
        try:
            while goal.take():
                if not self.pushed or self.random.random() < 1 / (1 + PULLS):
                    self._count("push", self._push)
                else:
                    self._count("pull", self._pull)
        except BaseException as error:  # told by the test
            self.complaint = error

    def _count(self, kind: str, operation: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            operation()
        except Failed as failed:
            self.counts[f"{kind} failed"] += 1
            self.failures.append(f"{kind} by {self.client.name} after {time.monotonic() - began:.1f} s: {failed}")
        else:
            self.counts[kind] += 1

    def _push(self) -> None:
        tag = f"v{len(self.pushed) + len(self.doubtful)}"
        image = self._make(tag)
        reference = f"{self.reference}:{tag}"
        self.client.load(image, reference)
        told = self.doubtful
        try:
            self.client.push(reference)
            told = self.pushed
        finally:
            told.append(Pushed(tag, image.config))
            self.client.forget(reference)

    def _make(self, tag: str) -> Image:
        folder = self.folder / "image"
        shutil.rmtree(folder, ignore_errors=True)
        own = f"{self.client.name} {tag} {self.random.random()}".encode()
        return images.shared(folder, f"{self.repository}:{tag}", [*self.pool.choose(), own])

    def _pull(self) -> None:
        wanted = self.random.choice(self.pushed)
        reference = f"{self.reference}:{wanted.tag}"
        found = self.client.pull(reference)
        self.client.forget(reference)
        if found != wanted.config:
            self.wrong.append(f"{reference} is {found}, not {wanted.config}")

    def check(self, nodes: Sequence[Node]) -> int:
        """Everything acknowledged is there and whole, and nothing is half there. How many blobs and manifests."""
        found = 0
        for number, pushed in enumerate(self.pushed):
            whole = _read_whole(nodes[number % len(nodes)], self.repository, pushed)
            assert whole, f"{self.repository}:{pushed.tag} was acknowledged and is gone"
            found += whole
            for node in nodes:
                assert node.request("HEAD", f"/v2/{self.repository}/manifests/{pushed.tag}").status == 200
        return found + sum(_read_whole(nodes[0], self.repository, doubtful) for doubtful in self.doubtful)


def _read_whole(node: Node, repository: str, pushed: Pushed) -> int:
    """How many blobs and manifests it consists of, all whole; 0: it is not there."""
    where = f"/v2/{repository}/manifests/{pushed.tag}"
    answer = node.request("GET", where, headers={"Accept": ", ".join(MANIFESTS)})
    if answer.status == 404:
        return 0
    assert answer.status == 200, f"{where} answers {answer.status}"
    assert answer.headers["Docker-Content-Digest"] == _of(answer.body)
    document: dict[str, Any] = json.loads(answer.body)
    assert document["config"]["digest"] == pushed.config
    parts = (document["config"], *document["layers"])
    for one in parts:
        blob = node.request("GET", f"/v2/{repository}/blobs/{one['digest']}")
        assert (blob.status, _of(blob.body)) == (200, one["digest"]), f"{repository} lost {one['digest']}"
    return 1 + len(parts)


def _of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
