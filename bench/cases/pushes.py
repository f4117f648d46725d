"""Writing: every byte is on the disk before the answer, by all registries."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bench import content, pushing
from bench.cases.case import Case
from bench.content import Blob
from bench.field import Field, Work, note
from bench.profiles import Profile
from bench.results import AtMost, Faster, Measurement
from bench.servers import Kind, Server
from bench.wire import Connection

T = TypeVar("T")

_CLIENTS = 8
_REPOSITORY = "bench/pushed"
TAGGED = "bench/tagged"
"""The repository of very many tags."""


def until(seconds: float, jobs: Iterator[T]) -> Iterator[T]:
    """The jobs that begin within that time; one at least."""
    end = time.monotonic() + seconds
    yield next(jobs)
    yield from itertools.takewhile(lambda _: time.monotonic() < end, jobs)


def large(profile: Profile) -> Callable[[Server], Work]:
    """Layers, one after the other; the work is in GB."""
    layers = content.unique(profile.layer)

    def push(server: Server) -> Work:
        async def work(seconds: float) -> float:
            with Connection(server) as connection:
                for layer in itertools.islice(layers, profile.layers):
                    await pushing.streamed(connection, _REPOSITORY, layer)
            return profile.layers * profile.layer / 1e9

        return work

    return push


def small() -> Callable[[Server], Work]:
    """Blobs of 1 KiB, by several clients."""
    blobs = content.unique(1024)

    async def one(connection: Connection, blob: Blob) -> None:
        await pushing.monolithic(connection, _REPOSITORY, blob)

    def push(server: Server) -> Work:
        async def work(seconds: float) -> float:
            return await pushing.by_many(server, _CLIENTS, until(seconds, blobs), one)

        return work

    return push


async def _large(field: Field) -> dict[str, Measurement]:
    push = large(field.profile)
    return await field.contest({server: push(server) for server in await field.all(nginx=False)})


async def _small(field: Field) -> dict[str, Measurement]:
    push = small()
    return await field.contest({server: push(server) for server in await field.all(nginx=False)})


async def _manifests(field: Field) -> dict[str, Measurement]:
    numbers = itertools.count()

    async def prepared(server: Server) -> Work:
        with Connection(server) as connection:
            config, layers = await pushing.image(connection, _REPOSITORY)

        async def one(connection: Connection, number: int) -> None:
            payload = content.manifest(config, layers, number=str(number))
            await pushing.manifest(connection, _REPOSITORY, f"v{number}", payload)

        async def work(seconds: float) -> float:
            end = time.monotonic() + seconds
            jobs = itertools.takewhile(lambda _: time.monotonic() < end, numbers)
            return await pushing.by_many(server, _CLIENTS, jobs, one)

        return work

    return await field.contest({server: await prepared(server) for server in await field.all(nginx=False)})


async def tagged(field: Field, server: Server) -> list[Measurement]:
    """Push image after image to one repository, each with a layer and a tag of its own; seconds per push by window.

    Done once per server: whoever asks next gets the same answer.
    """
    if str(server) not in field.tagged:
        note(f"    pushing {field.profile.tags} tags to {server}")
        field.tagged[str(server)] = [await _window(server, start, field) for start in _starts(field)]
    return field.tagged[str(server)]


async def _slope(field: Field) -> dict[str, Measurement]:
    registries = await field.all(nginx=False)
    # In steps, so that both meet the same weather.
    for start in _starts(field):
        for server in registries:
            field.tagged.setdefault(str(server), []).append(await _window(server, start, field))
        note(f"    tag {start + field.profile.window}")
    return {str(server): _growth(field.tagged[str(server)]) for server in registries}


def _starts(field: Field) -> range:
    return range(0, field.profile.tags, field.profile.window)


async def _window(server: Server, start: int, field: Field) -> Measurement:
    layers = content.unique(1024)
    with Connection(server) as connection:
        config, _ = await pushing.image(connection, TAGGED, 0)

    async def one(connection: Connection, number: int) -> None:
        layer = next(layers)
        await pushing.monolithic(connection, TAGGED, layer)
        await pushing.manifest(connection, TAGGED, f"v{number:05}", content.manifest(config, [layer]))

    cpu, began = server.process.cpu(), time.perf_counter()
    numbers = range(start, start + field.profile.window)
    done = await pushing.by_many(server, _CLIENTS, numbers, one)
    seconds = time.perf_counter() - began
    return Measurement([seconds / done], [(server.process.cpu() - cpu) / done])


def _growth(windows: list[Measurement]) -> Measurement:
    """What the last push costs, in the cost of the first, on the straight line through all windows."""
    return Measurement([last_to_first([window.value for window in windows])], [window.costs[0] for window in windows])


def last_to_first(values: list[float]) -> float:
    slope, first = statistics.linear_regression(range(len(values)), values)
    return (first + slope * (len(values) - 1)) / first


CASES = (
    Case("push-100m", "Push of a 100 MiB layer", "GB/s", "GB", (Faster(2, Kind.REFERENCE),), _large),
    Case("push-1k", "Push of a 1 KiB blob, 8 clients", "pushes/s", "push", (Faster(4, Kind.REFERENCE),), _small),
    Case(
        "push-manifest", "Push of a manifest, 8 clients", "pushes/s", "push", (Faster(3, Kind.REFERENCE),), _manifests
    ),
    Case(
        "push-growth",
        "Seconds of push 10 000 to one repository, in those of the first",
        "x",
        "push",
        # Flat, but for the noise of the machine.
        (AtMost(1.1, "x"),),
        _slope,
    ),
)
