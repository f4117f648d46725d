"""The life of a server: its start, its memory at rest and under many transfers."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from bench import content, load, pushing
from bench.cases.case import Case
from bench.content import Blob
from bench.field import REPOSITORY, Field
from bench.results import AtMost, Measurement
from bench.servers import Server, Setting
from bench.wire import Connection

_SETTLE = 2  # seconds after a start
_SAMPLE = 0.1  # seconds


async def _ready(field: Field) -> dict[str, Measurement]:
    measured = {server.kind: Measurement() for server in await field.all(Setting.LARGE, nginx=False)}
    for _ in range(field.profile.starts):
        for kind, measurement in measured.items():
            server = await field.server(kind, Setting.LARGE)
            server.process.stop()
            began = time.perf_counter()
            fresh = field.restarted(server)
            measurement.values.append(time.perf_counter() - began)
            measurement.pss = fresh.process.pss()
    return {str(kind): measurement for kind, measurement in measured.items()}


async def _idle(field: Field) -> dict[str, Measurement]:
    fresh = [field.restarted(server) for server in await field.all(Setting.LARGE, nginx=False)]
    time.sleep(_SETTLE)
    return {str(server.kind): Measurement([server.process.pss()]) for server in fresh}


async def _pushes(field: Field) -> dict[str, Measurement]:
    layers = content.unique(field.profile.layer)

    async def one(connection: Connection, layer: Blob) -> None:
        await pushing.streamed(connection, REPOSITORY, layer)

    async def push(server: Server) -> None:
        count = field.profile.pushes
        await pushing.by_many(server, count, (next(layers) for _ in range(count)), one)

    return await _added(field, push)


async def _pulls(field: Field) -> dict[str, Measurement]:
    large = field.population.large

    async def pull(server: Server) -> None:
        path = f"/v2/{REPOSITORY}/blobs/{large.digest}"
        load.downloads(server, path, large.size, connections=field.profile.pulls, each=1)

    return await _added(field, pull)


async def _added(field: Field, work: Callable[[Server], Awaitable[None]]) -> dict[str, Measurement]:
    """The highest memory during the work less that of the server just started, in MB."""
    measured: dict[str, Measurement] = {}
    for server in await field.all(nginx=False):
        fresh = field.restarted(server)
        time.sleep(_SETTLE)
        before = fresh.process.pss()
        with highest(fresh) as samples:
            await work(fresh)
        measured[str(server)] = Measurement([max(samples) - before], pss=before)
    return measured


@contextmanager
def highest(server: Server) -> Iterator[list[float]]:
    """Samples of the memory, taken by a thread meanwhile."""
    samples = [server.process.pss()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE):
            samples.append(server.process.pss())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


CASES = (
    Case("ready", "Start until the first answer, 100 000 manifests stored", "s", "", (AtMost(1.5, "s"),), _ready),
    Case("idle", "Memory at rest, supervisor and workers", "MB", "", (AtMost(120, "MB"),), _idle),
    Case("pss-pushes", "Memory added by 100 pushes of 100 MiB at once", "MB", "", (AtMost(200, "MB"),), _pushes),
    Case("pss-pulls", "Memory added by 200 pulls of 100 MiB at once", "MB", "", (AtMost(200, "MB"),), _pulls),
)
