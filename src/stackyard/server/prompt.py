"""Running a coroutine before there is a task for it."""

import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeAlias

Steps: TypeAlias = Coroutine[Any, Any, None]


def begin(coroutine: Steps) -> Steps | None:
    """Run the coroutine until it first waits; what is left of it, for a task, or None.

    Until then there is no current task, which `asyncio.timeout` needs, for example. What it raises is raised here.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return _rest(coroutine, awaited)


async def _rest(coroutine: Steps, awaited: Any) -> None:
    await _steps(coroutine, awaited)


@types.coroutine
def _steps(coroutine: Steps, awaited: Any) -> Generator[Any, None, None]:
    """Hand to the task what the coroutine waits for, and to the coroutine what the task says then."""
    while True:
        step: Callable[[], Any]
        try:
            yield awaited
        except BaseException as error:
            step = partial(coroutine.throw, error)
        else:
            step = partial(coroutine.send, None)
        try:
            awaited = step()
        except StopIteration:
            return
