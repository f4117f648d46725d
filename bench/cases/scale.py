"""Several nodes beside one, and one beside docker-registry, on an object store."""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from bench import children, content, pushing
from bench.cases import pushes, reads
from bench.cases.case import Case
from bench.content import Blob
from bench.field import REPOSITORY, TAG, Field, Work, note
from bench.ground import NODES, SHARE, Nodes
from bench.machine import Missing
from bench.results import Faster, Goal, Measurement
from bench.servers import Kind, Server, Setting
from bench.wire import Connection

_CLIENTS = 48
"""Enough for three nodes: each stands still for most of every tenth of a second, and holds its clients meanwhile."""
_WARM = 100  # images that nodes are pushed before they are limited
_PUSHED = "bench/pushed"
_OURS, _SQLITE, _THEIRS = str(Kind.STACKYARD), f"{Kind.STACKYARD}, {Setting.SQLITE}", str(Kind.REFERENCE)
_SECONDS = 2  # times the length of other turns: there are few pushes in a second
_CONFIG = content.blob(b"{}" + b" " * 1022)
_numbers = itertools.count()

Contest = Callable[[Field], Awaitable[dict[str, Measurement]]]


# -- one node and three, each held to its share


async def _nodes(field: Field, *, in_folder: bool = False) -> Sequence[Nodes]:
    if Kind.NGINX not in field.kinds:
        raise Missing("nginx is not installed")
    everybody = []
    for setting in NODES:
        nodes = field.ground.nodes(setting, in_folder=in_folder)
        if nodes.server not in field.filled:
            field.filled.add(nodes.server)
            note(f"    filling {setting}")
            await _fill(field, nodes.server)
            # What is done once in the life of a process is done before it has to be thrifty.
            await pushing.by_many(nodes.server, _CLIENTS, itertools.islice(_images(), _WARM), _push)
            nodes.hold()
        everybody.append(nodes)
    return everybody


async def _nodes_get(field: Field) -> dict[str, Measurement]:
    servers = [nodes.server for nodes in await _nodes(field)]
    return await _contest(field, _nodes_get, {server: reads.get(field, server, _CLIENTS) for server in servers})


async def _nodes_push(field: Field) -> dict[str, Measurement]:
    servers = [nodes.server for nodes in await _nodes(field)]
    return await _contest(field, _nodes_push, {server: _images_to(server) for server in servers})


async def _nodes_push_folder(field: Field) -> dict[str, Measurement]:
    servers = [nodes.server for nodes in await _nodes(field, in_folder=True)]
    return await _contest(field, _nodes_push_folder, {server: _images_to(server) for server in servers})


def _images_to(server: Server) -> Work:
    async def work(seconds: float) -> float:
        jobs = pushes.until(_SECONDS * seconds, _images())
        return await pushing.by_many(server, _CLIENTS, jobs, _push)

    return work


async def _used(field: Field) -> dict[str, Measurement]:
    """How much of what the nodes might have used they have used: what is missing is what something else limited."""
    found = {}
    for contest, what in ((_nodes_get, "GET"), (_nodes_push, "push"), (_nodes_push_folder, "push to a folder")):
        measured = await _once(field, contest)
        for setting, count in NODES.items():
            one = measured[f"{Kind.STACKYARD}, {setting}"]
            cores = [rate * cost for rate, cost in zip(one.values, one.costs, strict=True)]
            found[f"{Kind.STACKYARD}, {what}, {setting}"] = Measurement([100 * used / count / SHARE for used in cores])
    return found


def _images() -> Iterator[tuple[int, Blob]]:
    """Layers of 1 KiB that nobody has, each with the number of its image."""
    return zip(_numbers, content.unique(1024), strict=False)


async def _push(connection: Connection, image: tuple[int, Blob]) -> None:
    """The layer, and the manifest with a tag of its own; the configuration is there already."""
    number, layer = image
    await pushing.monolithic(connection, _PUSHED, layer)
    await pushing.manifest(connection, _PUSHED, f"v{number}", content.manifest(_CONFIG, [layer]))


# -- one beside docker-registry, both with the whole machine and on one store


async def _registries(field: Field) -> list[Server]:
    """Ours with its rows in PostgreSQL, ours with them in SQLite, and docker-registry."""
    wanted = [(Kind.STACKYARD, Setting.PLAIN), (Kind.STACKYARD, Setting.SQLITE), (Kind.REFERENCE, Setting.PLAIN)]
    servers = [field.ground.alone(kind, setting) for kind, setting in wanted if kind in field.kinds]
    for server in servers:
        if server not in field.filled:
            field.filled.add(server)
            await _fill(field, server)
    return servers


async def _small(field: Field) -> dict[str, Measurement]:
    push = pushes.small()
    return await _contest(field, _small, {server: push(server) for server in await _registries(field)})


async def _large(field: Field) -> dict[str, Measurement]:
    push, layers_per_gb = pushes.large(field.profile), 1e9 / field.profile.layer
    servers = await _registries(field)
    return await _contest(field, _large, {server: push(server) for server in servers}, operations=layers_per_gb)


async def _get(field: Field) -> dict[str, Measurement]:
    return await _contest(field, _get, {server: reads.get(field, server) for server in await _registries(field)})


async def _fill(field: Field, server: Server) -> None:
    with Connection(server) as connection:
        config, layers = await pushing.image(connection, REPOSITORY)
        await pushing.manifest(connection, REPOSITORY, TAG, content.manifest(config, layers))
        await pushing.monolithic(connection, _PUSHED, _CONFIG)


# -- what all of it costs those who are below and before the registries


async def _contest(
    field: Field, name: Contest, contestants: Mapping[Server, Work], *, operations: float = 1
) -> dict[str, Measurement]:
    """As `Field.contest`, and remember what the programs around used meanwhile.

    Args:
        operations: In one unit of the works.
    """
    around = {(program, str(server)): Measurement() for program in _AROUND for server in contestants}

    def watched(server: Server, work: Work) -> Work:
        async def watch(seconds: float) -> float:
            before = children.by_name()
            done = await work(seconds)
            after = children.by_name()
            for program, names in _AROUND.items():
                used = sum(after.get(name, 0) - before.get(name, 0) for name in names)
                around[program, str(server)].values.append(1e3 * used / done / operations)
            return done

        return watch

    measured = await field.contest({server: watched(server, work) for server, work in contestants.items()})
    for program in _AROUND:
        # Without the turn that does not count.
        field.contests[f"{program} {name.__name__}"] = {
            key: Measurement(spent.values[1:]) for (of, key), spent in around.items() if of == program
        }
    return measured


def _cost(program: str) -> Contest:
    """Milliseconds for one operation of the contests that were held before."""

    async def run(field: Field) -> dict[str, Measurement]:
        found = {}
        for contest, what in _WHAT.items():
            for name, spent in field.contests.get(f"{program} {contest.__name__}", {}).items():
                kind, _, setting = name.partition(", ")
                # Who does not use it at all does not pay for what ticks there by itself.
                uses = program == _STORE or (kind == _OURS and setting != Setting.SQLITE)
                if uses and spent.value >= _LEAST:
                    found[f"{kind}, {what}{setting and f', {setting}'}"] = spent
        if not found:
            raise Missing(f"nothing that uses {program} was")
        return found

    return run


_STORE = "Ceph"
_AROUND = {_STORE: ("radosgw", "ceph-osd", "ceph-mon"), "PostgreSQL": ("postgres",), "nginx": ("nginx",)}
"""Programs and what their processes are called."""
_WHAT: Mapping[Contest, str] = {
    _nodes_get: "manifest GET",
    _nodes_push: "push of a small image",
    _nodes_push_folder: "push of a small image to a folder",
    _small: "push of 1 KiB",
    _large: "push of a layer",
    _get: "manifest GET",
}
_LEAST = 0.005  # ms


# -- cases


async def _once(field: Field, contest: Contest) -> dict[str, Measurement]:
    """The contest's result; it is held only when nobody has asked before."""
    if contest.__name__ not in field.contests:
        field.contests[contest.__name__] = await contest(field)
    return field.contests[contest.__name__]


def _kept(contest: Contest) -> Contest:
    async def run(field: Field) -> dict[str, Measurement]:
        return await _once(field, contest)

    return run


def _beside(contest: Contest, ours: str) -> Contest:
    """That one of ours and docker-registry."""

    async def run(field: Field) -> dict[str, Measurement]:
        measured = await _once(field, contest)
        return {name: measured[key] for name, key in ((_OURS, ours), (_THEIRS, _THEIRS)) if key in measured}

    return run


def _both(name: str, title: str, unit: str, cost_unit: str, goal: Goal, contest: Contest) -> Iterator[Case]:
    yield Case(name, f"{title}, rows in PostgreSQL", unit, cost_unit, (goal,), _beside(contest, _OURS))
    yield Case(f"{name}-sqlite", f"{title}, rows in SQLite", unit, cost_unit, (), _beside(contest, _SQLITE))


_SCALES = (Faster(2.5, f"{Kind.STACKYARD}, {Setting.ONE}", f"{Kind.STACKYARD}, {Setting.THREE}"),)

CASES = (
    Case(
        "nodes-get", f"Manifest GET by tag, nodes of {SHARE} CPU", "requests/s", "request", _SCALES, _kept(_nodes_get)
    ),
    Case("nodes-push", f"Push of a small image, nodes of {SHARE} CPU", "pushes/s", "push", _SCALES, _kept(_nodes_push)),
    Case(
        "nodes-push-folder",
        f"Push of a small image, nodes of {SHARE} CPU on a common folder",
        "pushes/s",
        "push",
        _SCALES,
        _kept(_nodes_push_folder),
    ),
    Case("nodes-used", "What they used of that", "%", "", (), _used),
    *_both(
        "s3-push-1k", "Push of a 1 KiB blob to S3, 8 clients", "pushes/s", "push", Faster(4, Kind.REFERENCE), _small
    ),
    *_both("s3-push-100m", "Push of a 100 MiB layer to S3", "GB/s", "GB", Faster(1.5, Kind.REFERENCE), _large),
    *_both("s3-get", "Manifest GET by tag from S3", "requests/s", "request", Faster(5, Kind.REFERENCE), _get),
    *(Case(f"cost-{program.lower()}", f"CPU of {program}", "ms", "", (), _cost(program)) for program in _AROUND),
)
