"""Running one verb: find the registry, ask, and tell what went wrong in one sentence."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable

from stackyard.cli.client import Client, Problem, find
from stackyard.cli.loading import EX_CONFIG, Unusable
from stackyard.cli.output import Output
from stackyard.cli.verbs import FAILED, Place
from stackyard.server.errors import StartError
from stackyard.server.privileges import CannotStepDown


def run(place: Place, work: Callable[[Client, Output], Awaitable[int]], *, as_json: bool) -> int:
    """The exit status of the work."""
    try:
        opening = find(place)
        return asyncio.run(_work(opening, work, Output(as_json=as_json)))
    except Unusable:
        return EX_CONFIG
    except (Problem, StartError, CannotStepDown) as error:
        sys.stderr.write(f"stackyard: {error}\n")
        return FAILED
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        return 130


async def _work(
    opening: Callable[[], "contextlib.AbstractAsyncContextManager[Client]"],
    work: Callable[[Client, Output], Awaitable[int]],
    out: Output,
) -> int:
    async with opening() as client:
        status = await work(client, out)
        out.close()
        return status
