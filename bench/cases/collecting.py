"""Collection: deciding what is garbage, freeing it, and what that costs those who pull meanwhile."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice

from bench import collecting, load
from bench.cases.case import Case
from bench.cases.life import highest
from bench.collecting import Cost, Yard
from bench.field import Field, note
from bench.results import AtMost, Measurement, Sooner
from bench.scripted import IMAGES, Store
from bench.servers import Kind, Server
from bench.wire import Unexpected

_OURS, _COMMAND, _THEIRS = str(Kind.STACKYARD), "command", str(Kind.REFERENCE)
_BOTH, _LARGE = "both", "large"
_LINKED = 10  # images per repository of the large store that Distribution's view shows: those that go
_SHORT_LINGER = {"stackyard": {"gc": {"linger": "0s"}}}
_SHORT_UNDO = {"stackyard": {"gc": {"undo": "1s"}}}
_RATE, _CONNECTIONS, _PULLED = 1000, 16, 200
_TURN = 5.0  # seconds

Turn = Callable[[], Cost]
Contest = Callable[[Field], Awaitable[dict[str, Measurement]]]


async def _yard(field: Field) -> Yard:
    """The store that both collect."""
    if _BOTH not in field.yards:
        folder, store = field.folder / _BOTH, Store(field.profile.garbage)
        yard = await collecting.make(store, folder, field.programs, links=IMAGES, more=_SHORT_LINGER)
        yard.hold(on=False)
        yard.keep_rows()
        field.yards[_BOTH] = yard
    return field.yards[_BOTH]


async def _large(field: Field) -> Yard:
    """The store that is ours alone: everything at its defaults, but that what was deleted may go at once."""
    if _LARGE not in field.yards:
        folder, store = field.folder / _LARGE, Store(field.profile.large)
        yard = await collecting.make(store, folder, field.programs, links=_LINKED, kept=False, more=_SHORT_UNDO)
        yard.keep_rows()
        field.yards[_LARGE] = yard
    return field.yards[_LARGE]


# -- beside docker-registry


async def _decide(field: Field) -> dict[str, Measurement]:
    yard = await _yard(field)

    def command(server: Server) -> Cost:
        return _command(field, yard, server, "--dry-run", says="would free")

    with yard.served() as server:
        turns = {
            _OURS: lambda: _ask(yard, server),
            _COMMAND: lambda: command(server),
            _THEIRS: lambda: _look(field, yard),
        }
        return _turns(field.profile.collections, turns)


async def _free(field: Field) -> dict[str, Measurement]:
    yard = await _yard(field)

    def ask(server: Server) -> Cost:
        _ask(yard, server)  # the first who asks waits until the API is loaded
        cost, result = collecting.collect(server)
        _require(result["blobs"] == yard.store.garbage_blobs, str(result))
        return cost

    def command(server: Server) -> Cost:
        return _command(field, yard, server, says="freed")

    def fresh(collect: Callable[[Server], Cost]) -> Cost:
        yard.restore()
        with yard.served() as server:
            cost = collect(server)
        _check_rest(yard)
        return cost

    turns = {_OURS: lambda: fresh(ask), _COMMAND: lambda: fresh(command), _THEIRS: lambda: _sweep(field, yard)}
    return _turns(field.profile.collections, turns, warm=False)


def _command(field: Field, yard: Yard, server: Server, *options: str, says: str) -> Cost:
    """`stackyard gc`, with what it costs the server."""
    before = server.process.cpu()
    cost, said = collecting.command(field.programs.stackyard, "gc", *options, *_options(yard))
    _require(f"{says} {yard.store.garbage_blobs:,} blobs" in said, said)
    return Cost(cost.seconds, cost.cpu + server.process.cpu() - before)


def _asked(contest: Contest) -> Contest:
    """The contest between what a server was asked and docker-registry's command."""
    return _shown(contest, _OURS)


def _commanded(contest: Contest) -> Contest:
    """The same contest, between the commands."""
    return _shown(contest, _COMMAND)


def _shown(contest: Contest, ours: str) -> Contest:
    async def run(field: Field) -> dict[str, Measurement]:
        if contest.__name__ not in field.contests:
            field.contests[contest.__name__] = await contest(field)
        measured = field.contests[contest.__name__]
        return {_OURS: measured[ours], _THEIRS: measured[_THEIRS]}

    return run


def _ask(yard: Yard, server: Server) -> Cost:
    """Our dry run in a server that runs."""
    cost, result = collecting.collect(server, dry_run=True)
    found = (result["manifests"], result["blobs"])
    _require(found == (yard.store.garbage_manifests, yard.store.garbage_blobs), str(found))
    return cost


def _look(field: Field, yard: Yard) -> Cost:
    """docker-registry's dry run."""
    return _reference(field, yard, "--dry-run")


def _sweep(field: Field, yard: Yard) -> Cost:
    """docker-registry's collection."""
    yard.restore()
    cost = _reference(field, yard)
    _check_files(yard)
    return cost


def _reference(field: Field, yard: Yard, *options: str) -> Cost:
    cost, said = collecting.command(field.programs.reference, "garbage-collect", *options, yard.reference)
    found = re.search(r"(\d+) blobs marked, (\d+) blobs and", said)
    _require(found is not None and int(found[2]) == yard.store.garbage_blobs, said[-500:])
    return cost


def _options(yard: Yard) -> Sequence[str]:
    return "--grace", "0", "--config", str(yard.config)


def _turns(rounds: int, turns: Mapping[str, Turn], *, warm: bool = True) -> dict[str, Measurement]:
    """As `Field.contest`, for what is timed where it is done."""
    measured = {name: Measurement() for name in turns}
    for number in range(-1 if warm else 0, rounds):
        order = list(turns.items())
        for name, turn in order if number % 2 else reversed(order):
            cost = turn()
            if number >= 0:
                measured[name].values.append(cost.seconds)
                measured[name].costs.append(cost.cpu)
    return measured


# -- a store of a size that nobody stops for


async def _decide_large(field: Field) -> dict[str, Measurement]:
    yard = await _large(field)
    with yard.served() as server:
        return _turns(field.profile.collections, {_OURS: lambda: _ask(yard, server)})


async def _beside(field: Field) -> dict[str, Measurement]:
    """p99 of pulls while the background collects, in p99 of those while it has to leave everything as it is."""
    yard = await _large(field)
    paths = [image.path for image in islice(yard.store.kept(), _PULLED)]
    measured = Measurement()
    with yard.served() as server:
        for number in range(field.profile.pairs):
            slow: dict[bool, float] = {}
            for collects in (False, True) if number % 2 else (True, False):
                await collecting.switch(yard, on=collects)
                before = yard.progress()
                took = load.paced(server, paths, _TURN, rate=_RATE, connections=_CONNECTIONS)
                after = yard.progress()
                _require((after != before) is collects, f"collecting is to be {collects}: {before}, {after}")
                slow[collects] = _p99(took)
            note(f"    p99 {1e3 * slow[False]:.2f} ms, {1e3 * slow[True]:.2f} ms beside the collection")
            measured.values.append(slow[True] / slow[False])
        yard.hold(on=True)
    return {_OURS: measured}


async def _free_large(field: Field) -> dict[str, Measurement]:
    yard = await _large(field)
    yard.restore()
    measured = Measurement()
    with yard.served() as server:
        _ask(yard, server)  # the API is loaded by who asks first
        before = server.process.pss()
        yard.hold(on=False)
        with highest(server) as samples:
            cost, _ = collecting.collect(server)
        field.growth = max(samples) - before
    _check_rest(yard, kept=False)
    measured.values.append(cost.seconds)
    measured.costs.append(cost.cpu)
    measured.pss = before + field.growth
    return {_OURS: measured}


async def _grow(field: Field) -> dict[str, Measurement]:
    """What `_free_large` saw."""
    if field.growth is None:
        await _free_large(field)
    return {_OURS: Measurement([field.growth or 0.0])}


def _p99(took: Sequence[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


# -- whether it was done right


def _check_rest(yard: Yard, *, kept: bool = True) -> None:
    """Exactly the garbage is gone, from rows and files."""
    store = yard.store
    blobs = store.blobs + store.manifests - store.garbage_blobs
    _require(yard.count("blob") == yard.count("blob", "state = 'live'") == blobs, "blobs: wrong rows are left")
    _require(yard.count("manifest") == store.manifests - store.garbage_manifests, "manifests: wrong rows are left")
    _check_files(yard, kept=kept)


def _check_files(yard: Yard, *, kept: bool = True) -> None:
    _require(yard.missing([blob.digest for blob in yard.garbage]) == len(yard.garbage), "bytes of garbage are left")
    _require(not kept or not yard.missing(yard.kept), "bytes are gone that are needed")


def _require(true: bool, said: str) -> None:
    if not true:
        raise Unexpected(said[-2000:])


CASES = (
    Case("gc-decide", "Deciding what is garbage, 100 000 blobs", "s", "run", (Sooner(100, _THEIRS),), _asked(_decide)),
    Case("gc-decide-command", "Deciding by a command, with its start", "s", "run", (), _commanded(_decide)),
    Case("gc-free", "Freeing it, 100 000 blobs", "s", "run", (Sooner(5, _THEIRS),), _asked(_free)),
    Case("gc-free-command", "Freeing by a command, with its start", "s", "run", (), _commanded(_free)),
    Case("gc-decide-large", "Deciding what is garbage, 1 000 000 blobs", "s", "run", (), _decide_large),
    Case(
        "gc-beside",
        "p99 of manifest GET while the background collects, in that while it does not",
        "x",
        "",
        (AtMost(2, "x"),),
        _beside,
    ),
    Case("gc-free-large", "Freeing it, 1 000 000 blobs, while the server serves", "s", "run", (), _free_large),
    Case("gc-growth", "Memory added by that", "MB", "", (AtMost(200, "MB"),), _grow),
)
