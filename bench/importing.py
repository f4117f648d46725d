"""How fast a volume of docker-registry is imported, and what a push beside it waits: `python -m bench.importing`.

The tree is made by script, as docker-registry writes it: each image has a configuration of its own and shares its
layers. The push is a small blob and a manifest on one connection, again and again: first on an empty registry, then
while the import runs.
"""

import argparse
import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import stackyard  # noqa: E402
from tests.support.running import Running  # noqa: E402
from tests.support.trees import CONFIG, IMAGE, Descriptor, Tree, of  # noqa: E402

LAYERS = 5
PER_REPOSITORY = 500
LONGEST = 3600.0  # seconds


@dataclass
class Pushes:
    """A client that pushes one small image after the other."""

    server: Running
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self, *, seconds: float = LONGEST) -> None:
        """Push until told to stop, or for so long."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        end, number = time.monotonic() + seconds, 0
        while not self._ended.is_set() and time.monotonic() < end:
            number += 1
            began = time.monotonic()
            self._push(connection, b'{"n": %d, "at": %d}' % (number, time.time_ns()) + b" " * 1000)
            self.seconds.append(time.monotonic() - began)
        connection.close()

    def stop(self) -> None:
        """Let the one under way end."""
        self._ended.set()

    def p99(self) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[int(len(ordered) * 0.99)]

    def _push(self, connection: http.client.HTTPConnection, config: bytes) -> None:
        described = {"mediaType": CONFIG, "digest": of(config), "size": len(config)}
        self._send(
            connection, "POST", f"/v2/pushed/blobs/uploads/?digest={of(config)}", "application/octet-stream", config
        )
        manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": described, "layers": []}
        self._send(connection, "PUT", "/v2/pushed/manifests/latest", IMAGE, json.dumps(manifest).encode())

    def _send(self, connection: http.client.HTTPConnection, method: str, url: str, kind: str, body: bytes) -> None:
        connection.request(method, url, body=body, headers={"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            self.failed.append(f"{method} {answer.status} {text[:200]!r}")


def make(root: Path, manifests: int) -> None:
    """A volume of so many images. Written with few calls: there are six files and a dozen folders to each."""
    tree = Tree(root)
    for number in range(manifests):
        repository = f"team{number // PER_REPOSITORY % 10}/app{number // PER_REPOSITORY}"
        if number % PER_REPOSITORY == 0:
            layers = [tree.layer(repository, b"%d of %d" % (each, number) * 50) for each in range(LAYERS)]
        _make_image(tree, repository, f"v{number}", b'{"os": "linux", "n": %d}' % number, layers)


def _make_image(tree: Tree, repository: str, tag: str, config: bytes, layers: list[Descriptor]) -> None:
    described = {"mediaType": CONFIG, "digest": of(config), "size": len(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": described, "layers": layers}).encode()
    digest, base = of(manifest), str(tree.repository(repository))
    for folder, name, content in (
        (str(tree.blob_path(of(config)).parent), "data", config),
        (f"{base}/_layers/sha256/{of(config)[7:]}", "link", of(config).encode()),
        (str(tree.blob_path(digest).parent), "data", manifest),
        (f"{base}/_manifests/revisions/sha256/{digest[7:]}", "link", digest.encode()),
        (f"{base}/_manifests/tags/{tag}/index/sha256/{digest[7:]}", "link", digest.encode()),
        (f"{base}/_manifests/tags/{tag}/current", "link", digest.encode()),
    ):
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(descriptor, content)
        os.close(descriptor)


@dataclass(frozen=True)
class Measured:
    """An import, and the pushes before and during it."""

    manifests: int
    ready: float
    """Seconds until the server answered."""
    took: float
    """Seconds from then on until the volume was imported."""
    alone: Pushes
    beside: Pushes

    @property
    def rate(self) -> float:
        """Manifests per second."""
        return self.manifests / self.took

    @property
    def ratio(self) -> float:
        """How many times as long the slow pushes take while the import runs."""
        return self.beside.p99() / self.alone.p99()

    @property
    def failed(self) -> list[str]:
        return self.alone.failed + self.beside.failed


def measure(manifests: int, folder: Path) -> Measured:
    """Make a volume of so many manifests in `folder`, and import it."""
    print(f"a volume of {manifests} manifests is made", file=sys.stderr)
    make(folder / "full" / "data", manifests)
    with stackyard.start({}, folder=folder / "empty") as server:
        alone = Pushes(server)
        alone.run(seconds=10)
    began = time.monotonic()
    with stackyard.start({}, folder=folder / "full") as server:
        ready = time.monotonic() - began
        beside = Pushes(server)
        client = threading.Thread(target=beside.run)
        client.start()
        server.process.wait_for(lambda: "the volume is imported" in server.log, "the import", timeout=LONGEST)
        took = time.monotonic() - began - ready
        beside.stop()
        client.join()
    return Measured(manifests, ready, took, alone, beside)


def tell(measured: Measured) -> bool:
    """Print the figures; whether they are what they should be."""
    alone, beside = measured.alone, measured.beside
    print(
        f"ready after {measured.ready:.2f} s; {measured.manifests} manifests in {measured.took:.1f} s: "
        f"{measured.rate:.0f} a second"
    )
    print(
        f"p99 of a push: {alone.p99():.1f} ms alone ({len(alone.seconds)}), {beside.p99():.1f} ms beside the import "
        f"({len(beside.seconds)}): {measured.ratio:.2f} times as long; {len(measured.failed)} failed"
    )
    for line in measured.failed[:5]:
        print(line)
    return measured.rate >= 1000 and measured.ratio <= 3 and not measured.failed


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the volumes go; removed at the end")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-import-"))
    try:
        return 0 if tell(measure(options.manifests, folder)) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
