"""A process of its own that pushes through a FilesystemStore: for tests that trace it, kill it or race it.

    pusher.py ROOT publish UPLOAD BLOB TEXT      write, finish durably, publish, then print "published"
    pusher.py ROOT put BLOB TEXT                 put it, then print "put"
    pusher.py ROOT together COUNT TEXT           put so many at blobs/<number>/data in one go, then print "put"
    pusher.py ROOT links COUNT                   write so many small files links/<number>/link, then print "written"
    pusher.py ROOT write UPLOAD BYTES            write for ever in pieces, printing "wrote" once BYTES are accepted
    pusher.py ROOT race NAME                     for each line on stdin: publish NAME to blobs/<line>, print the outcome
    pusher.py ROOT loop NAME                     publish without end, printing each location once it is published

Failures are printed as "<class>: <text>; kept <size>" and end it with 3.
"""

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from stackyard.storage.driver import LocationTaken, StorageError
from stackyard.storage.filesystem import FilesystemStore
from stackyard.storage.filesystem.smallfiles import FilesystemSmallFiles


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def write(store: FilesystemStore, location: str, content: bytes) -> None:
    async with store.writer(location, 0) as writer:
        try:
            await writer.write(content)
            await writer.finish(durable=True)
        except StorageError as failure:
            say(f"{type(failure).__name__}: {failure}; kept {writer.size}")
            sys.exit(3)


async def publish(store: FilesystemStore, upload: str, blob: str, text: str) -> None:
    await write(store, upload, text.encode())
    try:
        await store.publish(upload, blob, len(text.encode()))
    except StorageError as failure:
        say(f"{type(failure).__name__}: {failure}; kept {await store.size(upload)}")
        sys.exit(3)
    say("published")


async def put(store: FilesystemStore, blob: str, text: str) -> None:
    try:
        await store.put(blob, text.encode())
    except StorageError as failure:
        say(f"{type(failure).__name__}: {failure}; kept {await store.size(blob) or 0}")
        sys.exit(3)
    say("put")


async def together(store: FilesystemStore, count: str, text: str) -> None:
    try:
        await store.put_all({f"blobs/{number}/data": text.encode() for number in range(int(count))})
    except StorageError as failure:
        say(f"{type(failure).__name__}: {failure}; kept {len([found async for found in store.walk('blobs')])}")
        sys.exit(3)
    say("put")


async def links(store: FilesystemStore, count: str) -> None:
    files = FilesystemSmallFiles(Path(sys.argv[1]))
    try:
        await files.write({f"links/{number}/link": b"link" for number in range(int(count))})
    except StorageError as failure:
        say(f"{type(failure).__name__}: {failure}; kept {len([found async for found in store.walk('links')])}")
        sys.exit(3)
    await files.close()
    say("written")


async def write_for_ever(store: FilesystemStore, upload: str, enough: str) -> None:
    said = False
    async with store.writer(upload, 0) as writer:
        while True:
            await writer.write(b"0123456789abcdef" * 4096)
            if not said and writer.size >= int(enough):
                said = True
                say("wrote")


async def race(store: FilesystemStore, name: str) -> None:
    for line in sys.stdin:
        upload, blob = f"uploads/{name}/{line.strip()}", f"blobs/{line.strip()}/data"
        await write(store, upload, name.encode() * 1000)
        try:
            await store.publish(upload, blob, 1000 * len(name.encode()))
            say("won")
        except LocationTaken:
            say("lost")


async def loop(store: FilesystemStore, name: str) -> None:
    for number in itertools.count():
        blob = f"blobs/{number % 7}/{name}-{number}/data"
        await write(store, f"uploads/{name}-{number}/0", blob.encode() * 3000)
        await store.publish(f"uploads/{name}-{number}/0", blob, 3000 * len(blob.encode()))
        say(blob)


VERBS: dict[str, Callable[..., Awaitable[None]]] = {
    "publish": publish,
    "put": put,
    "together": together,
    "links": links,
    "write": write_for_ever,
    "race": race,
    "loop": loop,
}


async def main(root: str, verb: str, *arguments: str) -> None:
    store = FilesystemStore(Path(root), threads=4)
    await VERBS[verb](store, *arguments)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
