"""What quotas cost a push: `python -m bench.quotas [--pairs N] [--quotas 2]`.

Two servers side by side, one of them with a quota on the path that is pushed to, take turns in pairs, each pair in the
opposite order of the last. A push is an image of four blobs of 1 KiB that nobody has yet, and
its manifest under a new tag: the smallest there is, and so the one of which counting is the largest part.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import content, pushing, servers
from bench.field import note
from bench.servers import Kind, Programs, Server, Setting
from bench.wire import Connection

_REPOSITORY = "bench/quotas"
_CLIENTS, _LAYERS = 4, 3
_LIMITS = [{"prefix": "/", "bytes": "1TB", "repositories": 1000}, {"prefix": "bench/", "bytes": "1TB"}]


def main() -> int:
    """Measure and print; 1 when it is more than 5 %."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--pushes", type=int, default=400, help="per turn")
    parser.add_argument("--quotas", type=int, default=1, choices=(1, 2), help="2: one more, on the whole registry")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="quotas-", dir="build" if Path("build").is_dir() else None) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        ratios = runner.run(measure(Path(folder), **vars(options)))
    median = statistics.median(ratios)
    print(f"median of {len(ratios)} pairs: {100 * (median - 1):+.1f} % CPU per push")
    return int(median > 1.05)


async def measure(folder: Path, *, pairs: int, pushes: int, quotas: int) -> list[float]:
    """The CPU of a push with quotas, in that of one without: one number per pair."""
    programs = Programs(Path(sys.executable).parent / "stackyard", Path(), Path())
    limits = {"stackyard": {"quotas": _LIMITS[-quotas:]}}
    without = servers.start(programs, Kind.STACKYARD, Setting.PLAIN, folder / "without")
    with_quotas = servers.start(programs, Kind.STACKYARD, Setting.PLAIN, folder / "with", limits)
    try:
        ratios = []
        for number in range(-1, pairs):
            turns: Sequence[Server] = (without, with_quotas) if number % 2 else (with_quotas, without)
            costs = {str(turn.data): await _turn(turn, pushes if number >= 0 else pushes // 4) for turn in turns}
            plain, counted = costs[str(without.data)], costs[str(with_quotas.data)]
            if number >= 0:
                ratios.append(counted / plain)
                note(
                    f"{1e3 * plain:6.2f} ms without, {1e3 * counted:6.2f} ms with: {100 * (counted / plain - 1):+.1f} %"
                )
        return ratios
    finally:
        without.process.stop()
        with_quotas.process.stop()


async def _turn(server: Server, pushes: int) -> float:
    """CPU seconds of the server per push."""
    blobs = content.unique(1024)

    async def push(connection: Connection, number: int) -> None:
        config, *layers = [next(blobs) for _ in range(_LAYERS + 1)]
        for blob in (config, *layers):
            await pushing.monolithic(connection, _REPOSITORY, blob)
        await pushing.manifest(connection, _REPOSITORY, f"v{number}", content.manifest(config, layers))

    before = server.process.cpu()
    done = await pushing.by_many(server, _CLIENTS, range(pushes), push)
    return (server.process.cpu() - before) / done


if __name__ == "__main__":
    sys.exit(main())
