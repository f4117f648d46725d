"""The field of a run: its folder, its running servers with the same content, and the turns they take."""

import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import children, machine, population, pushing, servers
from bench.collecting import Yard
from bench.ground import Ground
from bench.importing import Measured
from bench.profiles import Profile
from bench.results import Measurement
from bench.servers import Kind, Programs, Server, Setting
from bench.wire import Connection

REPOSITORY, TAG = "bench/app", "latest"
REGISTRIES = (Kind.STACKYARD, Kind.REFERENCE)

Work = Callable[[float], Awaitable[float]]
"""Works for about that many seconds and returns how much was done, in the unit of the case."""

_WARM_UP = 0.5  # seconds


@dataclass
class Field:
    """Everything a case needs. Closing it ends its servers and removes its folder."""

    folder: Path
    profile: Profile
    programs: Programs
    kinds: frozenset[Kind]
    """Which programs take part."""
    tagged: dict[str, list[Measurement]] = field(default_factory=dict)
    """What filling the repository of many tags cost, by server."""
    yards: dict[str, Yard] = field(default_factory=dict)
    """Stores with garbage, by what they are for."""
    contests: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    """Contests of which several cases tell, by name."""
    growth: float | None = None
    """MB that collecting the large one added."""
    imported: Measured | None = None
    """The import that was measured."""
    filled: set[Server] = field(default_factory=set)
    """Servers on the common ground that hold their content."""
    _running: dict[tuple[Kind, Setting], Server] = field(default_factory=dict)
    _population: population.Population | None = None
    _ground: Ground | None = None

    @property
    def ground(self) -> Ground:
        """The object store, the database and the servers on them."""
        if self._ground is None:
            self._ground = Ground(self.folder / "ground", self.programs)
        return self._ground

    @property
    def population(self) -> population.Population:
        """The content that all servers hold."""
        if self._population is None:
            self._population = population.make(self.profile.layer)
        return self._population

    async def server(self, kind: Kind, setting: Setting = Setting.PLAIN) -> Server:
        """That server, holding the content; started when it is asked for first."""
        if (kind, setting) not in self._running:
            note(f"    starting {kind}, {setting}")
            self._running[kind, setting] = await self._start(kind, setting)
        return self._running[kind, setting]

    def restarted(self, server: Server) -> Server:
        """The same server over the same data, started anew."""
        server.process.stop()
        fresh = servers.start(self.programs, server.kind, server.setting, server.data.parent)
        self._running[server.kind, server.setting] = fresh
        return fresh

    async def all(self, setting: Setting = Setting.PLAIN, *, nginx: bool = True) -> list[Server]:
        """All programs that take part, in that setting."""
        kinds = [kind for kind in Kind if kind in self.kinds and (nginx or kind in REGISTRIES)]
        return [await self.server(kind, setting) for kind in kinds]

    async def contest(self, contestants: Mapping[Server, Work], rounds: int | None = None) -> dict[str, Measurement]:
        """Let them take turns, in opposite order every other round, after one turn that does not count."""
        measured = {str(server): Measurement() for server in contestants}
        for number in range(-1, rounds or self.profile.rounds):
            turns = list(contestants.items())
            for server, work in turns if number % 2 else reversed(turns):
                value, cost = await _turn(server, work, _WARM_UP if number < 0 else self.profile.seconds)
                if number >= 0:
                    measured[str(server)].values.append(value)
                    measured[str(server)].costs.append(cost)
        for server in contestants:
            measured[str(server)].pss = server.pss()
        return measured

    def strangers(self) -> float:
        """CPU seconds used so far by processes that are no part of this run."""
        return machine.busy() - children.family()

    def close(self) -> None:
        if self._ground is not None:
            self._ground.close()
        for server in self._running.values():
            server.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _start(self, kind: Kind, setting: Setting) -> Server:
        folder = self.folder / f"{kind}-{setting}".replace(" ", "-").lower()
        if kind is Kind.NGINX:
            self.population.write(folder / "data", REPOSITORY, TAG)
            return servers.start(self.programs, kind, setting, folder)
        if kind is Kind.REFERENCE and setting is Setting.LARGE:
            population.write_catalog(folder / "data", self.profile.repositories)
        # Filled over plain HTTP, then started as asked.
        plain = servers.start(self.programs, kind, Setting.PLAIN, folder)
        try:
            await self._fill(plain, setting)
        except BaseException:
            plain.process.stop()
            raise
        if setting is Setting.PLAIN:
            return plain
        plain.process.stop()
        return servers.start(self.programs, kind, setting, folder)

    async def _fill(self, plain: Server, setting: Setting) -> None:
        with Connection(plain) as connection:
            for blob in self.population.blobs:
                await pushing.monolithic(connection, REPOSITORY, blob)
            await pushing.manifest(connection, REPOSITORY, TAG, self.population.manifest)
        if plain.kind is Kind.STACKYARD and setting is Setting.LARGE:
            await population.push_catalog(plain, self.profile.repositories, self.profile.manifests)


def note(text: str) -> None:
    """Say what is going on, without mixing it with the results."""
    print(text, file=sys.stderr, flush=True)


async def _turn(server: Server, work: Work, seconds: float) -> tuple[float, float]:
    """Work per second, and CPU seconds of the server per unit of work."""
    cpu, began = server.cpu(), time.perf_counter()
    done = await work(seconds)
    elapsed, cpu = time.perf_counter() - began, server.cpu() - cpu
    return done / elapsed, cpu / (done or 1)
