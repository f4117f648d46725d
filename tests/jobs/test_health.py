"""Health checks in the background."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from stackyard.jobs.health import Check, Health

SOON = timedelta(milliseconds=1)


class Thing:
    """Something that works, or not, and counts how often it was asked."""

    def __init__(self, *, works: bool) -> None:
        self.works = works
        self.asked = 0

    async def probe(self) -> None:
        self.asked += 1
        if not self.works:
            raise OSError("it is broken")


@contextmanager
def watching(*checks: Check) -> Iterator[Health]:
    health = Health(checks)
    task = asyncio.create_task(health.run())
    yield health
    task.cancel()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_what_fails_is_named_with_its_reason_until_it_works_again() -> None:
    good, bad = Thing(works=True), Thing(works=False)

    with watching(Check("good", good.probe, SOON), Check("bad", bad.probe, SOON)) as health:
        await until(lambda: bool(health.failing))
        assert health.failing == {"bad": "it is broken"}
        bad.works = True
        await until(lambda: not health.failing)

    assert good.asked


async def test_fewer_failures_than_the_threshold_are_no_failure() -> None:
    bad = Thing(works=False)

    with watching(Check("bad", bad.probe, SOON, threshold=3)) as health:
        await until(lambda: bad.asked == 2)
        assert not health.failing
        await until(lambda: bool(health.failing))

    assert bad.asked >= 3


async def test_check_that_never_answers_fails() -> None:
    with watching(Check("silent", _silence, SOON, timeout=SOON)) as health:
        await until(lambda: bool(health.failing))

    assert health.failing == {"silent": "no answer within 0.001 s"}


async def _silence() -> None:
    await asyncio.Event().wait()
