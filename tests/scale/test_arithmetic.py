"""The numbers of docs/high-availability.md: rows that an image makes and requests that clients make, counted again."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from tests.crash.looping import Layouts
from tests.support import images, postgresql, pushing
from tests.support.client import Client
from tests.support.dockerd import Docker, Dockerd
from tests.support.nodes import ROOT, Node, ShippedNginx, cluster, shared
from tests.support.podman import Podman
from tests.support.processes import wait_until

from stackyard.metadata import schema

DOC = ROOT / "docs/high-availability.md"
LAYERS = (1, 6)
"""Two numbers of layers tell a straight line."""
FLEETING = {"follow"}
"""Hints that go within seconds, so that how many there are depends on the moment."""


@pytest.fixture(scope="module")
def database(engine: postgresql.Server) -> str:
    return asyncio.run(engine.create())


@pytest.fixture(scope="module")
def nodes(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    folder = tmp_path_factory.mktemp("arithmetic")
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    common = shared(database, storage, distribution={"follow": False})
    with cluster(folder, common, count=1) as running:
        yield running


def rows(database: str) -> Counter[str]:
    """How many each table has now."""

    async def count() -> Counter[str]:
        connection = await asyncpg.connect(database)
        try:
            return Counter(
                {
                    table.name: await connection.fetchval(f"SELECT count(*) FROM {table.name}")
                    for table in schema.metadata.sorted_tables
                }
            )
        finally:
            await connection.close()

    return asyncio.run(count())


def push(node: Node, tag: str, count: int, salt: str) -> None:
    """An image of so many layers that nobody else has, in a repository that is there."""
    layers = [pushing.blob(node.server, "some/where", f"{salt} {number}".encode()) for number in range(count)]
    pushing.image(node.server, "some/where", tag, *layers, config=f'{{"of": "{salt}"}}'.encode())


def test_rows_of_an_image_are_as_the_document_says(nodes: list[Node], database: str) -> None:
    push(nodes[0], "first", 1, "first")
    made = []
    for count in LAYERS:
        before = rows(database)
        push(nodes[0], f"v{count}", count, f"of {count}")
        made.append(rows(database) - before)

    per_layer = {name: (made[1][name] - made[0][name]) / (LAYERS[1] - LAYERS[0]) for name in made[1]}
    per_image = {name: made[0][name] - LAYERS[0] * per_layer[name] for name in made[1]}
    print(f"\nper layer {per_layer}\nper image {per_image}")  # noqa: T201
    told = {name: (float(image), float(layer)) for name, image, layer in table(r"`(\w+)`", r"(\d+)", r"(\d+)")}
    assert told == {name: (per_image[name], per_layer[name]) for name in made[1] if name not in FLEETING}


def table(*columns: str) -> list[tuple[str, ...]]:
    """The rows of the document's tables that begin with these columns."""
    pattern = r"^\| " + r" \| ".join(columns) + r" \|"
    return re.findall(pattern, DOC.read_text(), re.MULTILINE)


@pytest.fixture(params=["docker", "podman", "skopeo"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    if request.param == "docker":
        daemon = Dockerd()
        yield Docker(daemon, tmp_path / "docker")
        daemon.stop()
    else:
        yield Podman(tmp_path / "podman") if request.param == "podman" else Layouts(tmp_path / "skopeo")


def test_requests_of_a_pull_are_as_the_document_says(nodes: list[Node], client: Client, tmp_path: Path) -> None:
    proxy = ShippedNginx(nodes)
    try:
        found: dict[str, list[int]] = {"push": [], "pull": []}
        for count in LAYERS:
            contents = [f"{client.name} {number} of {count}".encode() for number in range(count)]
            image = images.shared(tmp_path / f"image{count}", f"a/b:{count}", contents)
            reference = f"{proxy.address}/of/{client.name}:v{count}"
            client.load(image, reference)
            client.push(reference)
            client.forget(reference)
            found["push"].append(requests(proxy))
            client.pull(reference)
            client.forget(reference)
            found["pull"].append(requests(proxy))
    finally:
        proxy.stop()

    print(f"\n{client.name}: {found}")  # noqa: T201
    told = {row[0]: row[1:] for row in table(r"(\w+)", r"(\d+) \+ (\d+) L", r"(\d+) \+ (\d+) L")}
    assert told[client.name] == (*line(found["pull"]), *line(found["push"]))


def line(counts: Sequence[int]) -> tuple[str, str]:
    """What an image costs, and what each of its layers."""
    per_layer = (counts[1] - counts[0]) / (LAYERS[1] - LAYERS[0])
    return f"{counts[0] - LAYERS[0] * per_layer:g}", f"{per_layer:g}"


_seen: dict[int, int] = {}


def requests(proxy: ShippedNginx) -> int:
    """How many have come through since the last question, once no more come."""
    lines: list[int] = []

    def is_quiet() -> bool:
        lines.append(proxy.output.count("\n"))
        return len(lines) > 25 and len(set(lines[-25:])) == 1

    wait_until(is_quiet, "the log to be complete")
    before = _seen.get(proxy.port, 0)
    _seen[proxy.port] = lines[-1]
    return lines[-1] - before
