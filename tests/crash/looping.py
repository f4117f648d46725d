"""Real clients that push, pull and delete in a loop, and what each of them must find in the end."""

import hashlib
import itertools
import json
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support import images
from tests.support.client import Client
from tests.support.images import Image
from tests.support.podman import Skopeo
from tests.support.processes import Done, Failed
from tests.support.running import Running

TAGS = ["v1", "v2", "v3"]


class Layouts(Skopeo):
    """skopeo, copying OCI layouts: byte for byte, so that layers are shared with whoever pushes them."""

    def push(self, reference: str) -> Done:
        """The layout that is loaded under this name."""
        return self(
            "copy", f"--dest-{self.verify[2:]}", f"oci:{self._loaded[reference].layout}", f"docker://{reference}"
        )


@dataclass(frozen=True)
class Node:
    """One of the servers on one volume."""

    server: Running
    socket: Path

    def delete_repository(self, repository: str) -> None:
        """As an administrator on its machine."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=60) as client:
            answer = client.delete(f"http://local/api/v1/repositories/{repository}")
        assert answer.status_code == 204, answer.text


@dataclass
class Pool:
    """Layers of which images are made. Each is in a few of them, now and then in none."""

    size: int
    randomness: random.Random

    def choose(self) -> list[bytes]:
        """Some of them: small ones, and such as are not taken into memory whole."""
        numbers = self.randomness.sample(range(self.size), self.randomness.randint(1, 3))
        return [random.Random(number).randbytes(300_000 if number % 5 == 0 else 3_000) for number in numbers]


@dataclass
class Turns:
    """How many pushes there are still to be, for all clients together."""

    left: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Whether there is one for whoever asks."""
        with self.lock:
            self.left -= 1
            return self.left >= 0


class Looper:
    """One client at work in repositories of its own, on one thread, and what these must hold."""

    def __init__(self, client: Client, nodes: Sequence[Node], folder: Path, *, promise: float, seed: int) -> None:
        self.client = client
        self.name = f"loop/{folder.name}"
        self.nodes = nodes
        self.folder = folder
        self.promise = promise
        self.random = random.Random(seed)
        self.pool = Pool(0, self.random)
        self.manifests: dict[str, set[str]] = {}
        """Of each repository, by digest, tagged or not."""
        self.tags: dict[str, dict[str, str]] = {}
        self.counts: Counter[str] = Counter()
        self.complaint: BaseException | None = None
        self.slow: list[str] = []
        """What was refused to pushes that took longer than anything was promised to them."""
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def start(self, turns: Turns, pool_size: int) -> None:
        """Push, pull and delete until there are no more turns."""
        self.pool = Pool(pool_size, self.random)
        self._thread = threading.Thread(target=self._work, args=[turns])
        self._thread.start()

    @property
    def is_at_work(self) -> bool:
        """Whether it goes on."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join()

    def _work(self, turns: Turns) -> None:
        try:
            while turns.take():
                self._step()
        except BaseException as error:  # told by the test
            self.complaint = error

    def _step(self) -> None:
        repository = f"{self.name}/{self.random.choice('ab')}"
        tag = self.random.choice(TAGS)
        if not self._push(repository, tag):
            return
        if self.random.random() < 0.5:
            self._pull_any()
        deletion: Callable[[], None] = self.random.choice(
            [self._delete_tag, self._delete_manifest, self._delete_manifest, self._delete_repository, lambda: None]
        )
        deletion()

    # -- pushing and pulling

    def _push(self, repository: str, tag: str) -> bool:
        """Whether it came to something: not, when it took longer than a promise."""
        image = self._make()
        into, out_of = self.random.sample(self.nodes, 2)
        reference = f"{into.server.address}/{repository}:{tag}"
        self.client.load(image, reference)
        began = time.monotonic()
        try:
            self.client.push(reference)
        except Failed as failed:
            if time.monotonic() - began < self.promise / 2:
                raise
            self.slow.append(str(failed))
            self.client.forget(reference)
            return False
        self.counts["pushes"] += 1
        self.client.forget(reference)
        answer = out_of.server.manifest(repository, tag)
        assert answer.status == 200, f"{repository}:{tag} was pushed and answers {answer.status}"
        digest = answer.headers["Docker-Content-Digest"]
        assert digest == _of(answer.body)
        assert json.loads(answer.body)["config"]["digest"] == image.config
        if isinstance(self.client, Layouts):
            assert digest == image.digest
        self.manifests.setdefault(repository, set()).add(digest)
        self.tags.setdefault(repository, {})[tag] = digest
        self._pull(f"{out_of.server.address}/{repository}:{tag}", image.config)
        return True

    def _make(self) -> Image:
        number = next(self._numbers)
        folder = self.folder / str(number)
        shutil.rmtree(self.folder / str(number - 1), ignore_errors=True)
        own = f"{self.client.name} {number} {self.random.random()}".encode()
        return images.shared(folder, f"{self.name}:{number}", [*self.pool.choose(), own])

    def _pull_any(self) -> None:
        """Something that was pushed before, by tag or by digest."""
        known = [(repository, digest) for repository, digests in self.manifests.items() for digest in sorted(digests)]
        if not known:
            return
        repository, digest = self.random.choice(known)
        node = self.random.choice(self.nodes)
        config = json.loads(node.server.manifest(repository, digest).body)["config"]["digest"]
        self._pull(f"{node.server.address}/{repository}@{digest}", config)

    def _pull(self, reference: str, config: str) -> None:
        assert self.client.pull(reference) == config
        self.client.forget(reference)
        self.counts["pulls"] += 1

    # -- deleting

    def _delete_tag(self) -> None:
        tagged = [(repository, tag) for repository, tags in self.tags.items() for tag in tags]
        if tagged:
            repository, tag = self.random.choice(tagged)
            self._delete(repository, tag)
            del self.tags[repository][tag]
            self.counts["tags deleted"] += 1

    def _delete_manifest(self) -> None:
        known = [(repository, digest) for repository, digests in self.manifests.items() for digest in sorted(digests)]
        if known:
            repository, digest = self.random.choice(known)
            self._delete(repository, digest)
            self.manifests[repository].discard(digest)
            tags = self.tags[repository]
            self.tags[repository] = {tag: each for tag, each in tags.items() if each != digest}
            self.counts["manifests deleted"] += 1

    def _delete(self, repository: str, reference: str) -> None:
        node = self.random.choice(self.nodes)
        answer = node.server.request("DELETE", f"/v2/{repository}/manifests/{reference}")
        assert answer.status == 202, answer

    def _delete_repository(self) -> None:
        if self.manifests:
            repository = self.random.choice(sorted(self.manifests))
            self.random.choice(self.nodes).delete_repository(repository)
            del self.manifests[repository], self.tags[repository]
            self.counts["repositories deleted"] += 1

    # -- in the end

    def check(self, server: Running) -> set[str]:
        """Everything that must be there is, whole; the digests of all of it."""
        found: set[str] = set()
        for repository, digests in self.manifests.items():
            for tag, digest in self.tags[repository].items():
                assert server.manifest(repository, tag).headers["Docker-Content-Digest"] == digest
            for digest in digests:
                found |= set(_read_whole(server, repository, digest))
        return found

    def unseen(self, server: Running) -> list[str]:
        """Tags that are listed and should not be, or the other way round."""
        wrong = []
        for repository, tags in self.tags.items():
            answer = server.request("GET", f"/v2/{repository}/tags/list")
            listed = json.loads(answer.body).get("tags") or []
            if sorted(listed) != sorted(tags):
                wrong.append(f"{repository} lists {listed} in place of {sorted(tags)}")
        return wrong


def _read_whole(server: Running, repository: str, digest: str) -> Iterator[str]:
    answer = server.manifest(repository, digest)
    assert (answer.status, _of(answer.body)) == (200, digest), f"{repository}@{digest} answers {answer.status}"
    yield digest
    document: dict[str, Any] = json.loads(answer.body)
    for one in (document["config"], *document["layers"]):
        blob = server.request("GET", f"/v2/{repository}/blobs/{one['digest']}")
        assert (blob.status, _of(blob.body)) == (200, one["digest"]), f"{repository} lost {one['digest']}"
        yield one["digest"]


def _of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
