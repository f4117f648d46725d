"""What a client does to push, and many clients that do it at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

from bench import content
from bench.content import Blob
from bench.servers import Server
from bench.wire import Answer, Connection

T = TypeVar("T")

BYTES = {"Content-Type": "application/octet-stream"}
LAYERS = 8
"""Layers of the image that is pulled: its manifest then has about 1.5 KiB, the size of a common one."""


async def monolithic(connection: Connection, repository: str, blob: Blob) -> None:
    """POST, then PUT with all bytes, as containerd and skopeo push."""
    opened = await connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    await connection.request("PUT", _with_digest(opened, blob), blob.body, expect=201, headers=BYTES)


async def streamed(connection: Connection, repository: str, blob: Blob) -> None:
    """POST, PATCH with all bytes, then an empty PUT, as Docker pushes."""
    opened = await connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    patched = await connection.request("PATCH", _location(opened), blob.body, expect=202, headers=BYTES)
    await connection.request("PUT", _with_digest(patched, blob), expect=201)


async def manifest(connection: Connection, repository: str, reference: str, payload: bytes) -> None:
    path = f"/v2/{repository}/manifests/{reference}"
    await connection.request("PUT", path, (payload,), expect=201, headers={"Content-Type": content.MANIFEST})


async def mount(connection: Connection, source: str, target: str, blob: Blob) -> None:
    path = f"/v2/{target}/blobs/uploads/?mount={blob.digest}&from={source}"
    await connection.request("POST", path, expect=201)


async def image(connection: Connection, repository: str, layers: int = LAYERS) -> tuple[Blob, list[Blob]]:
    """The config and the small layers of an image, pushed; the manifest is the caller's."""
    small = content.unique(1024)
    config, *rest = [next(small) for _ in range(layers + 1)]
    for blob in (config, *rest):
        await monolithic(connection, repository, blob)
    return config, rest


async def by_many(
    server: Server, clients: int, jobs: Iterable[T], do: Callable[[Connection, T], Awaitable[None]]
) -> int:
    """Do all jobs, each client taking the next one on its own connection; how many there were."""
    waiting: Iterator[T] = iter(jobs)
    done = await asyncio.gather(*(_work(server, waiting, do) for _ in range(clients)))
    return sum(done)


async def _work(server: Server, waiting: Iterator[T], do: Callable[[Connection, T], Awaitable[None]]) -> int:
    done = 0
    with Connection(server) as connection:
        for job in waiting:
            await do(connection, job)
            done += 1
    return done


def _location(answer: Answer) -> str:
    parts = urlsplit(answer.headers["location"])
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _with_digest(answer: Answer, blob: Blob) -> str:
    location = _location(answer)
    return f"{location}{'&' if '?' in location else '?'}digest={blob.digest}"
