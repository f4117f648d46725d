"""A client that pushes, mounts, tags and deletes without a pause, and notes in its ledger what it was told."""

import hashlib
import http.client
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from tests.crash.ledger import Ledger, Session
from tests.support import workers
from tests.support.images import CONFIG, INDEX, LAYER, MANIFEST

_NAMES = [f"t{number}" for number in range(5)]
_SMALL, _LARGE = 4 << 10, 3 << 20  # bytes


class Unanswered(Exception):
    """The connection broke before the answer was there."""


class Pusher:
    """A thread that pushes on one connection until told to stop. A broken connection is made again.

    Attributes:
        acknowledged: Requests answered as they should be.
        worker: Which worker serves the connection; None while that is not known.
        broken: For each broken connection the worker that served it, None when that was never known. (One that was
            never made is not among them.)
        complaint: An answer that no crash excuses; it ends the thread.
    """

    def __init__(self, port: int, ledger: Ledger, others: Sequence[Ledger], randomness: random.Random) -> None:
        self.ledger = ledger
        self.acknowledged = 0
        self.broken: list[int | None] = []
        self.complaint: Exception | None = None
        self._port = port
        self._others = others
        self._random = randomness
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name=ledger.repository, daemon=True)
        self._workers: list[int] = []
        self.worker: int | None = None
        self._connection: HTTPConnection | None = None

    def start(self, pids: Sequence[int]) -> None:
        """Begin, noting of each connection which of these workers serves it."""
        self._workers = list(pids)
        self._thread.start()

    def finish(self) -> None:
        """Stop after the request under way, and wait for that."""
        self._enough.set()
        self._thread.join()
        if self.complaint:
            raise self.complaint

    def _run(self) -> None:
        steps = self._steps()
        try:
            while not self._enough.is_set():
                try:
                    self._random.choice(steps)()
                except Unanswered:
                    self._enough.wait(0.01)  # when nobody listens, asking again and again would only take the CPU
        except Exception as error:  # kept for `finish`: a thread's exception reaches nobody
            self.complaint = error
        finally:
            self._hang_up()

    def _steps(self) -> list[Callable[[], None]]:
        blobs = [self._push_at_once, self._push_in_parts, self._push_streamed, self._leave_open, self._finish_left_open]
        return [*blobs, *blobs, self._mount, self._put_image, self._put_image, self._put_index, self._delete_tag]

    # -- blobs

    def _push_at_once(self) -> None:
        content, digest = self._new_content()
        self._push(digest, "POST", self._path(f"blobs/uploads/?digest={digest}"), content)

    def _push_in_parts(self) -> None:
        """POST, two PATCHes of which the second says its range, PUT with the rest."""
        content, digest = self._new_content()
        third = len(content) // 3
        location = self._open_session()
        self._ask(202, "PATCH", location, content[:third])
        if third:
            self._ask(202, "PATCH", location, content[third : 2 * third], {"Content-Range": f"{third}-{2 * third - 1}"})
        self._push(digest, "PUT", f"{location}?digest={digest}", content[2 * third :])

    def _push_streamed(self) -> None:
        """As docker does: one PATCH without a length, and a PUT without a body."""
        content, digest = self._new_content()
        location = self._open_session()
        pieces = (content[start : start + 100_000] for start in range(0, len(content), 100_000))
        self._ask(202, "PATCH", location, pieces, {"Transfer-Encoding": "chunked"})
        self._push(digest, "PUT", f"{location}?digest={digest}", b"")

    def _leave_open(self) -> None:
        if len(self.ledger.sessions) > 2:
            return
        content, _ = self._new_content()
        offset = self._random.randint(1, len(content))
        location = self._open_session()
        self._ask(202, "PATCH", location, content[:offset])
        self.ledger.sessions.append(Session(location, content, offset))

    def _finish_left_open(self) -> None:
        if not self.ledger.sessions:
            return
        session = self.ledger.sessions.pop(0)
        digest = _digest(session.content)
        self._push(digest, "PUT", f"{session.location}?digest={digest}", session.content[session.offset :])

    def _mount(self) -> None:
        other = self._random.choice(self._others)
        there = list(other.blobs)  # copied: another thread adds to it
        if there:
            digest = self._random.choice(there)
            query = f"blobs/uploads/?mount={digest}&from={other.repository}"
            self._push(digest, "POST", self._path(query), b"")

    def _push(self, digest: str, method: str, path: str, body: bytes) -> None:
        self.ledger.doubtful_blobs.add(digest)
        self._ask(201, method, path, body)
        self.ledger.doubtful_blobs.discard(digest)
        self.ledger.blobs.add(digest)

    def _open_session(self) -> str:
        location = self._ask(202, "POST", self._path("blobs/uploads/"), b"").headers["Location"]
        return urlsplit(location).path

    # -- manifests

    def _put_image(self) -> None:
        blobs = sorted(self.ledger.blobs)
        if blobs:
            config, *layers = self._random.choices(blobs, k=3)
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _descriptor(CONFIG, config),
                "layers": [_descriptor(LAYER, layer) for layer in layers],
            }
            self._put(document)

    def _put_index(self) -> None:
        manifests = sorted(self.ledger.manifests)
        if manifests:
            children = [_descriptor(MANIFEST, child) for child in self._random.choices(manifests, k=2)]
            self._put({"schemaVersion": 2, "mediaType": INDEX, "manifests": children})

    def _put(self, document: Mapping[str, Any]) -> None:
        """Under a tag, with a note that makes every manifest another one."""
        annotations = {"org.example.note": self._random.randbytes(12).hex()}
        body = json.dumps({**document, "annotations": annotations}).encode()
        name, digest = self._random.choice(_NAMES), _digest(body)
        if name in self.ledger.doubtful_tags:
            return
        self.ledger.doubtful_manifests.add(digest)
        self.ledger.doubtful_tags[name] = digest
        self.ledger.tags.setdefault(name, None)
        self._ask(201, "PUT", self._path(f"manifests/{name}"), body, {"Content-Type": document["mediaType"]})
        self.ledger.doubtful_manifests.discard(digest)
        self.ledger.manifests.add(digest)
        self.ledger.tags[name] = self.ledger.doubtful_tags.pop(name)

    def _delete_tag(self) -> None:
        certain = [
            name for name, digest in self.ledger.tags.items() if digest and name not in self.ledger.doubtful_tags
        ]
        if certain:
            name = self._random.choice(certain)
            self.ledger.doubtful_tags[name] = None
            self._ask(202, "DELETE", self._path(f"manifests/{name}"), b"")
            self.ledger.tags[name] = self.ledger.doubtful_tags.pop(name)

    # -- the wire

    def _new_content(self) -> tuple[bytes, str]:
        size = self._random.randint(1, _SMALL if self._random.random() < 0.9 else _LARGE)
        content = self._random.randbytes(size)
        return content, _digest(content)

    def _path(self, rest: str) -> str:
        return f"/v2/{self.ledger.repository}/{rest}"

    def _ask(
        self,
        expected: int,
        method: str,
        path: str,
        body: bytes | Iterator[bytes],
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """The answer, read to its end. Raises Unanswered; any other status than `expected` is a complaint."""
        connection = self._connected()
        chunked = not isinstance(body, bytes)
        try:
            connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.broken.append(self.worker)
            self._hang_up()
            raise Unanswered(str(error)) from error
        assert answer.status == expected, f"{method} {path} answers {answer.status}: {said.decode(errors='replace')}"
        self.acknowledged += 1
        if self.worker is None and self._workers and connection.sock:
            self.worker = workers.serving(connection.sock, self._workers)
        return answer

    def _connected(self) -> HTTPConnection:
        if self._connection is None:
            connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.connect()
            except OSError as error:
                raise Unanswered(str(error)) from error
            self._connection = connection
        return self._connection

    def _hang_up(self) -> None:
        self.worker = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, digest: str) -> dict[str, Any]:
    """Of a size that is made up: it is not what these tests are about, and a registry stores what it was sent."""
    return {"mediaType": media_type, "digest": digest, "size": 1}
