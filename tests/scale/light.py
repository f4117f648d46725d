"""A client that costs little and retries as docker does: thousands of whole pushes and pulls in minutes.

docker sends and fetches each layer up to five times, and waits 5, 10, 15 and 20 seconds in between; what is not a
layer, so a manifest, it asks for once.
"""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from tests.scale.working import Goal
from tests.support.images import CONFIG, LAYER, MANIFEST

ATTEMPTS = 5
PAUSE = 5.0  # seconds, times the number of failures so far
PUSHES = 0.1  # of all operations
LAYERS = [random.Random(number).randbytes(2_000) for number in range(50)]
"""Shared by all images, so that most of a push is asking what is there, as it is with real ones."""

T = TypeVar("T")


class Broken(Exception):
    """An answer that docker takes for a failure."""


@dataclass
class Tally:
    """What all light clients did together."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Other bytes than were pushed, or none: of what was acknowledged."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, failure: str = "") -> None:
        """One operation ended."""
        with self.lock:
            self.counts[f"{kind} failed" if failure else kind] += 1
            if failure:
                self.failures.append(f"{kind}: {failure}")

    @property
    def all(self) -> int:
        """Operations, whatever came of them."""
        return sum(self.counts[key] for key in ("push", "pull", "push failed", "pull failed"))

    @property
    def availability(self) -> float:
        """The share of all operations that succeeded."""
        return (self.counts["push"] + self.counts["pull"]) / self.all


class Light(threading.Thread):
    """Pushes to and pulls from a repository of its own until the goal is reached."""

    def __init__(self, address: str, number: int, goal: Goal, tally: Tally, *, seed: int) -> None:
        super().__init__(name=f"light-{number}")
        self.complaint: BaseException | None = None
        self.pushed: dict[str, bytes] = {}
        """Manifests by tag, as acknowledged."""
        self.repository = f"light/{number}"
        self._base = f"/v2/{self.repository}"
        self._client = httpx.Client(base_url=f"http://{address}", timeout=300, follow_redirects=True)
        self._goal = goal
        self._tally = tally
        self._random = random.Random(seed)
        self._count = 0

    def run(self) -> None:
        try:
            while self._goal.take():
                pushing = not self.pushed or self._random.random() < PUSHES
                try:
                    (self._push if pushing else self._pull)()
                except (Broken, httpx.HTTPError) as error:
                    self._tally.note("push" if pushing else "pull", repr(error))
                else:
                    self._tally.note("push" if pushing else "pull")
        except BaseException as error:  # told by the test
            self.complaint = error
        finally:
            self._client.close()

    def _push(self) -> None:
        self._count += 1
        tag = f"v{self._count}"
        layers = self._random.sample(LAYERS, 2)
        config = json.dumps({"of": self.repository, "number": self._count}).encode()
        described = []
        for content, kind in ((config, CONFIG), *((layer, LAYER) for layer in layers)):
            self._often(lambda content=content: self._upload(content))  # type: ignore[misc]
            described.append({"mediaType": kind, "digest": _of(content), "size": len(content)})
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        manifest = json.dumps(document).encode()
        self._ask(201, "PUT", f"{self._base}/manifests/{tag}", content=manifest, headers={"Content-Type": MANIFEST})
        self.pushed[tag] = manifest

    def _upload(self, content: bytes) -> None:
        if self._ask(None, "HEAD", f"{self._base}/blobs/{_of(content)}").status_code == 200:
            return
        where = self._ask(202, "POST", f"{self._base}/blobs/uploads/").headers["location"]
        where = self._ask(202, "PATCH", where, content=_pieces(content)).headers["location"]
        self._ask(201, "PUT", where, params={"digest": _of(content)})

    def _pull(self) -> None:
        tag = self._random.choice(list(self.pushed))
        manifest = self._ask(200, "GET", f"{self._base}/manifests/{tag}", headers={"Accept": MANIFEST}).content
        if manifest != self.pushed[tag]:
            self._tally.wrong.append(f"{self.repository}:{tag} has other bytes")
        document: dict[str, Any] = json.loads(manifest)
        for one in (document["config"], *document["layers"]):
            content = self._often(lambda one=one: self._download(one["digest"]))  # type: ignore[misc]
            if _of(content) != one["digest"]:
                self._tally.wrong.append(f"{one['digest']} of {self.repository} has other bytes")

    def _download(self, digest: str) -> bytes:
        return self._ask(200, "GET", f"{self._base}/blobs/{digest}").content

    def _often(self, attempt: Callable[[], T]) -> T:
        """What docker does with a layer."""
        for failures in range(1, ATTEMPTS):
            with suppress(Broken, httpx.HTTPError):
                return attempt()
            self._tally.counts["layers tried again"] += 1
            time.sleep(PAUSE * failures)
        return attempt()

    def _ask(self, expected: int | None, method: str, url: str, **more: Any) -> httpx.Response:
        answer = self._client.request(method, url, **more)
        right = answer.status_code == expected if expected else answer.status_code in (200, 404)
        if not right:
            if answer.status_code == 404:
                self._tally.wrong.append(f"{method} {url} answers 404")
            raise Broken(f"{method} {url} answers {answer.status_code}: {answer.text[:200]}")
        return answer


def _pieces(content: bytes) -> Iterator[bytes]:
    """Sent in chunks, without a length, as docker does."""
    yield content


def _of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
