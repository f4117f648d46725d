"""Coroutines that run before there is a task for them."""

import asyncio
from typing import Any

import pytest

from stackyard.server import prompt


async def test_nothing_is_left_of_one_that_never_waits() -> None:
    done = []

    async def never_waits() -> None:
        done.append(asyncio.current_task() is test)

    test = asyncio.current_task()

    assert prompt.begin(never_waits()) is None
    assert done == [True]


async def test_what_it_raises_before_it_waits_is_raised_at_once() -> None:
    async def fails() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        prompt.begin(fails())


async def test_task_goes_on_where_it_waited() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    seen: list[Any] = []

    async def waits() -> None:
        seen.append(await future)
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            seen.append(asyncio.current_task())

    rest = prompt.begin(waits())
    assert rest is not None
    task = asyncio.create_task(rest)
    future.set_result("came")
    await task

    assert seen == ["came", task]


async def test_failure_of_what_is_waited_for_reaches_it_and_comes_out_of_the_task() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen = []

    async def waits() -> None:
        try:
            await future
        except OSError as error:
            seen.append(error)
        raise LookupError

    rest = prompt.begin(waits())
    assert rest is not None
    future.set_exception(OSError("gone"))

    with pytest.raises(LookupError):
        await asyncio.create_task(rest)
    assert [str(error) for error in seen] == ["gone"]


async def test_cancelling_the_task_reaches_it_where_it_waits() -> None:
    seen = []

    async def waits() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("cancelled")

    rest = prompt.begin(waits())
    assert rest is not None
    task = asyncio.create_task(rest)
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
