"""Lists: tags of a repository of very many, and repositories."""

from collections.abc import Sequence

from bench import load
from bench.cases import pushes
from bench.cases.case import Case
from bench.field import Field, Work
from bench.population import catalog
from bench.results import Faster, Measurement
from bench.servers import Kind, Server, Setting

_CONNECTIONS = 4
_PAGE = 100


def _get(field: Field, server: Server, paths: Sequence[str]) -> Work:
    async def work(seconds: float) -> float:
        return load.gets(server, paths, seconds, connections=_CONNECTIONS, scratch=field.folder, headers={})

    return work


async def _tags(field: Field, query: str = "") -> dict[str, Measurement]:
    servers = await field.all(nginx=False)
    for server in servers:
        await pushes.tagged(field, server)
    path = f"/v2/{pushes.TAGGED}/tags/list{query}"
    return await field.contest({server: _get(field, server, [path]) for server in servers})


async def _tags_page(field: Field) -> dict[str, Measurement]:
    return await _tags(field, f"?n={_PAGE}")


async def _catalog(field: Field) -> dict[str, Measurement]:
    names = catalog(field.profile.repositories)
    # Every page in turn, as a client that walks the catalogue asks for them.
    pages = [
        f"/v2/_catalog?n={_PAGE}",
        *(f"/v2/_catalog?n={_PAGE}&last={name}" for name in names[_PAGE - 1 :: _PAGE][:-1]),
    ]
    servers = await field.all(Setting.LARGE, nginx=False)
    measured = await field.contest({server: _get(field, server, pages) for server in servers})
    return {name.partition(",")[0]: measurement for name, measurement in measured.items()}


CASES = (
    Case("tags", "tags/list of 10 000 tags", "requests/s", "request", (Faster(5, Kind.REFERENCE),), _tags),
    Case(
        "tags-page", "A page of 100 of 10 000 tags", "requests/s", "request", (Faster(20, Kind.REFERENCE),), _tags_page
    ),
    Case(
        "catalog-page",
        "_catalog, a page of 100 of 10 000 repositories",
        "requests/s",
        "request",
        (Faster(20, Kind.REFERENCE),),
        _catalog,
    ),
)
