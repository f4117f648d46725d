"""Blocking calls in threads, and the writer's use of them."""

import asyncio
import threading
from pathlib import Path

import pytest
from tests.storage.contract import KIB, UPLOAD

from stackyard.storage.filesystem.files import Files
from stackyard.storage.filesystem.shares import Shares
from stackyard.storage.filesystem.threads import Threads
from stackyard.storage.filesystem.writer import FileWriter, Tail


async def test_a_call_returns_and_raises_as_it_does_in_place() -> None:
    threads = Threads(2)

    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    await threads.close()


async def test_no_more_calls_are_at_work_than_there_may_be_threads() -> None:
    threads, lock, release = Threads(3), threading.Lock(), threading.Event()
    at_work, most = 0, 0

    def work() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            if most == 3:
                release.set()
        release.wait(10)
        with lock:
            at_work -= 1

    await asyncio.gather(*(threads.run(work) for _ in range(20)))
    await threads.close()

    assert most == 3


async def test_no_thread_is_started_before_it_is_needed() -> None:
    before = threading.active_count()
    threads = Threads(50)
    started = [threading.active_count() - before]
    for _ in range(5):
        await threads.run(int)
    started.append(threading.active_count() - before)
    await threads.close()

    assert started == [0, 1]


async def test_a_cancelled_caller_goes_on_only_when_the_call_has_ended() -> None:
    threads, release, ended = Threads(1), threading.Event(), threading.Event()

    def work() -> None:
        release.wait(10)
        ended.set()

    calling = asyncio.create_task(threads.run(work))
    for _ in range(3):
        await asyncio.sleep(0)
        calling.cancel()
    was_done = calling.done()
    release.set()

    with pytest.raises(asyncio.CancelledError):
        await calling
    assert not was_done
    assert ended.is_set()
    await threads.close()


async def test_close_lets_what_waits_in_line_end_first() -> None:
    threads = Threads(1)
    done: list[int] = []
    calls = [threads.start(done.append, number) for number in range(10)]

    await threads.close()
    for call in calls:
        await call.finished()

    assert done == list(range(10))


async def test_a_writer_accepts_two_pieces_while_the_disk_is_behind_and_then_waits(tmp_path: Path) -> None:
    threads, disk = Threads(1), threading.Event()
    busy = threads.start(disk.wait, 10)
    chunk = bytes(64 * KIB)

    async def push(writer: FileWriter) -> None:
        while writer.size < 16 << 20:
            await writer.write(chunk)
        await writer.finish(durable=False)

    async with FileWriter(threads, Shares(), Tail(Files(str(tmp_path)), UPLOAD, 0, None)) as writer:
        pushing = asyncio.create_task(push(writer))
        for _ in range(1000):
            await asyncio.sleep(0)
        accepted = writer.size
        disk.set()
        await busy.finished()
        await pushing

    assert accepted == 2 << 20
    assert (tmp_path / UPLOAD).stat().st_size == 16 << 20
    await threads.close()


def test_pieces_shrink_as_streams_open_and_grow_as_they_end() -> None:
    shares = Shares()
    sizes = []

    def open_streams(count: int) -> None:
        with shares.stream():
            sizes.append(shares.piece >> 10)
            if count > 1:
                open_streams(count - 1)

    open_streams(100)

    assert sizes[0] == sizes[15] == 1024
    assert sizes[31] == 512
    assert sizes[63] == sizes[99] == 256
    assert shares.piece == 1 << 20
