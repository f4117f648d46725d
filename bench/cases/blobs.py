"""Large answers: blobs, in GB per second."""

from collections.abc import Awaitable, Callable, Sequence

from bench import load
from bench.cases.case import Case
from bench.content import Blob
from bench.field import REPOSITORY, Field, Work
from bench.population import Population
from bench.results import Cheaper, Faster, Goal, Measurement
from bench.servers import Kind, Server, Setting

_CONNECTIONS = 4


def _get(server: Server, blob: Blob) -> Work:
    async def work(seconds: float) -> float:
        path = f"/v2/{REPOSITORY}/blobs/{blob.digest}"
        return load.downloads(server, path, blob.size, connections=_CONNECTIONS, seconds=seconds) / 1e9

    return work


def _run(setting: Setting, which: Callable[[Population], Blob]) -> Callable[[Field], Awaitable[dict[str, Measurement]]]:
    async def run(field: Field) -> dict[str, Measurement]:
        blob = which(field.population)
        measured = await field.contest({server: _get(server, blob) for server in await field.all(setting)})
        return {name.partition(",")[0]: measurement for name, measurement in measured.items()}

    return run


def _case(name: str, title: str, setting: Setting, which: Callable[[Population], Blob], goals: Sequence[Goal]) -> Case:
    return Case(name, title, "GB/s", "GB", (Faster(0.9, Kind.NGINX), *goals), _run(setting, which))


_CHEAPER = Cheaper(0.6, Kind.REFERENCE)

CASES = (
    _case("blob-1m", "Blob GET, 1 MiB", Setting.PLAIN, lambda p: p.medium, (Faster(3, Kind.REFERENCE), _CHEAPER)),
    _case("blob-100m", "Blob GET, 100 MiB", Setting.PLAIN, lambda p: p.large, (_CHEAPER,)),
    _case("blob-1m-tls", "Blob GET, 1 MiB, TLS", Setting.TLS, lambda p: p.medium, (_CHEAPER,)),
    _case(
        "blob-100m-tls",
        "Blob GET, 100 MiB, TLS",
        Setting.TLS,
        lambda p: p.large,
        (Faster(1.2, Kind.REFERENCE), _CHEAPER),
    ),
)
