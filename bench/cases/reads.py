"""Small answers: manifests, and the headers of manifests and blobs."""

from collections.abc import Awaitable, Callable

from bench import load
from bench.cases.case import Case
from bench.field import REGISTRIES, REPOSITORY, TAG, Field, Work
from bench.results import Faster, Measurement
from bench.servers import Kind, Server, Setting
from bench.wire import ACCEPT, LOGIN

_CONNECTIONS = 32
_MANIFEST = f"/v2/{REPOSITORY}/manifests/{TAG}"


def get(field: Field, server: Server, connections: int = _CONNECTIONS) -> Work:
    """The manifest, by its tag."""
    login = LOGIN if server.setting in (Setting.CHEAP, Setting.DEAR) else {}

    async def work(seconds: float) -> float:
        return load.gets(
            server,
            [_MANIFEST],
            seconds,
            connections=connections,
            scratch=field.folder,
            headers={"Accept": ACCEPT} | login,
        )

    return work


async def _manifest(field: Field) -> dict[str, Measurement]:
    return await field.contest({server: get(field, server) for server in await field.all()})


async def _defaults(field: Field) -> dict[str, Measurement]:
    return await field.contest({server: get(field, server) for server in await field.all(Setting.DEFAULTS)})


async def _passwords(field: Field) -> dict[str, Measurement]:
    servers = [
        await field.server(kind, setting)
        for kind in REGISTRIES
        if kind in field.kinds
        for setting in (Setting.PLAIN, Setting.CHEAP, Setting.DEAR)
    ]
    # Fewer: docker-registry runs bcrypt for each request, and more of them would wait longer than a turn.
    return await field.contest({server: get(field, server, 8) for server in servers})


def _heads(path: Callable[[Field], str]) -> Callable[[Field], Awaitable[dict[str, Measurement]]]:
    async def run(field: Field) -> dict[str, Measurement]:
        def head(server: Server) -> Work:
            async def work(seconds: float) -> float:
                return load.heads(server, path(field), seconds, connections=_CONNECTIONS, headers={"Accept": ACCEPT})

            return work

        return await field.contest({server: head(server) for server in await field.all()})

    return run


CASES = (
    Case(
        "manifest-get",
        "Manifest GET by tag",
        "requests/s",
        "request",
        (Faster(10, Kind.REFERENCE), Faster(0.3, Kind.NGINX)),
        _manifest,
    ),
    Case(
        "manifest-get-defaults",
        "Manifest GET by tag, everything at its defaults",
        "requests/s",
        "request",
        (),
        _defaults,
    ),
    Case(
        "manifest-get-htpasswd",
        "Manifest GET by tag, with a login",
        "requests/s",
        "request",
        (
            Faster(0.85, "Stackyard", f"Stackyard, {Setting.CHEAP}"),
            Faster(0.85, "Stackyard", f"Stackyard, {Setting.DEAR}"),
        ),
        _passwords,
    ),
    Case(
        "manifest-head",
        "Manifest HEAD by tag",
        "requests/s",
        "request",
        (Faster(8, Kind.REFERENCE),),
        _heads(lambda field: _MANIFEST),
    ),
    Case(
        "blob-head",
        "Blob HEAD",
        "requests/s",
        "request",
        (Faster(8, Kind.REFERENCE),),
        _heads(lambda field: f"/v2/{REPOSITORY}/blobs/{field.population.medium.digest}"),
    ),
)
