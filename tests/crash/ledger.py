"""What one client was told by a registry, and what it asked without hearing the answer."""

import hashlib
import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPConnection

from tests.support.running import MANIFESTS


@dataclass
class Session:
    """An upload that was left open on purpose, to be finished after the crash."""

    location: str
    content: bytes
    offset: int
    """Bytes that the last 202 acknowledged."""


@dataclass
class Ledger:
    """One repository, pushed to by one client at a time. `check` settles every doubt by asking."""

    repository: str
    blobs: set[str] = field(default_factory=set)
    """Digests answered with 201."""
    manifests: set[str] = field(default_factory=set)
    tags: dict[str, str | None] = field(default_factory=dict)
    """Digests as last answered; None: deleted."""
    sessions: list[Session] = field(default_factory=list)

    doubtful_blobs: set[str] = field(default_factory=set)
    """Asked for, and the answer never came: there and whole, or not there."""
    doubtful_manifests: set[str] = field(default_factory=set)
    doubtful_tags: dict[str, str | None] = field(default_factory=dict)
    """What was asked, where `tags` has what was before."""

    checked: set[str] = field(default_factory=set)
    """Read again after an earlier crash."""

    @property
    def unchecked(self) -> set[str]:
        """What was acknowledged and never read again."""
        return (self.blobs | self.manifests) - self.checked

    def check(self, connection: HTTPConnection, wanted: Iterable[str]) -> None:
        """Read `wanted` and all doubtful content again; every tag and every open session too.

        Raises AssertionError: something acknowledged is gone or changed, or something is half there.
        """
        reader = _Reader(connection, self.repository)
        for digest in wanted:
            kind = "blobs" if digest in self.blobs else "manifests"
            assert reader.is_whole(kind, digest), f"{kind} of {self.repository} lost {digest}, which was acknowledged"
            self.checked.add(digest)
        self.blobs |= {digest for digest in self.doubtful_blobs if reader.is_whole("blobs", digest)}
        self.manifests |= {digest for digest in self.doubtful_manifests if reader.is_whole("manifests", digest)}
        self.doubtful_blobs.clear()
        self.doubtful_manifests.clear()
        self._check_tags(reader)
        for session in self.sessions:
            assert reader.offset(session.location) == session.offset, "a session lost or won bytes"

    def _check_tags(self, reader: "_Reader") -> None:
        found = {name: reader.tag(name) for name in self.tags}
        for name, digest in found.items():
            possible = {self.tags[name], self.doubtful_tags.get(name, self.tags[name])}
            assert digest in possible, f"{self.repository}:{name} is {digest}, not one of {possible}"
        listed = sorted(name for name, digest in found.items() if digest)
        assert reader.tags() == listed, f"{self.repository} lists other tags than it has"
        assert set(filter(None, found.values())) <= self.manifests, "a tag points to what is not there"
        self.tags = found
        self.doubtful_tags.clear()


@dataclass
class _Reader:
    """Reads one repository over one connection."""

    connection: HTTPConnection
    repository: str

    def is_whole(self, kind: str, digest: str) -> bool:
        """Whether it is there; what is there has to be whole."""
        answer = self._ask("GET", f"{kind}/{digest}")
        hasher, size = hashlib.new(digest.partition(":")[0]), 0
        while piece := answer.read(1 << 20):
            hasher.update(piece)
            size += len(piece)
        if answer.status == 404:
            return False
        assert answer.status == 200, f"{digest} of {self.repository} answers {answer.status}"
        assert hasher.hexdigest() == digest.partition(":")[2], f"{digest} of {self.repository} has other {size} bytes"
        return True

    def tag(self, name: str) -> str | None:
        """What the tag points to."""
        answer = self._ask("HEAD", f"manifests/{name}")
        answer.read()
        assert answer.status in (200, 404), f"{self.repository}:{name} answers {answer.status}"
        return answer.headers["Docker-Content-Digest"] if answer.status == 200 else None

    def tags(self) -> list[str]:
        """The list of tags; none, when nobody knows the repository."""
        answer = self._ask("GET", "tags/list")
        listed: list[str] = json.loads(answer.read()).get("tags", [])
        return listed

    def offset(self, location: str) -> int:
        """How far the session at this path is."""
        self.connection.request("GET", location)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 204, f"the open session {location} answers {answer.status}"
        return int(answer.headers["Range"].removeprefix("0-")) + 1

    def _ask(self, method: str, path: str) -> http.client.HTTPResponse:
        headers = {"Accept": ", ".join(MANIFESTS)}
        self.connection.request(method, f"/v2/{self.repository}/{path}", headers=headers)
        return self.connection.getresponse()
