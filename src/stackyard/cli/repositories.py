"""`stackyard repo`."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

repo = typer.Typer(
    help="Look at repositories.",
    epilog="Example: stackyard repo list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="REPO", help="The repository's name, without the server's.")]
Deleted = Annotated[bool, typer.Option("--deleted", help="Those that are deleted and can be restored.")]


def _columns() -> "Columns":
    from stackyard.cli.output import size, time

    return {
        "NAME": lambda one: one["name"],
        "TAGS": lambda one: str(one["tags"]),
        "MANIFESTS": lambda one: str(one["manifests"]),
        "SIZE": lambda one: size(one["size"]),
        "CREATED": lambda one: time(one["created_at"]),
        "PUSHED": lambda one: time(one["last_pushed_at"]),
        "PULLED": lambda one: time(one["last_pulled_at"]),
    }


def _deleted_columns() -> "Columns":
    from stackyard.cli.output import time

    return {
        **{name: cell for name, cell in _columns().items() if name in ("NAME", "TAGS", "MANIFESTS", "SIZE")},
        "DELETED": lambda one: time(one["deleted_at"]),
        "BY": lambda one: one["deleted_by"] or "-",
        "RESTORABLE UNTIL": lambda one: time(one["restorable_until"]),
    }


@verb(repo, "list", example="stackyard repo list")
async def list_repositories(api: "Client", out: "Output", deleted: Deleted = False) -> None:
    """List the repositories."""
    columns = _deleted_columns() if deleted else _columns()
    await out.rows(api.items("/repositories", deleted=deleted), columns)


@verb(repo, "show", example="stackyard repo show team/app")
async def show_repository(api: "Client", out: "Output", name: Name) -> None:
    """Show one repository."""
    from stackyard.cli.client import quoted

    out.show(await api.get(f"/repositories/{quoted(name)}"), _columns())


@verb(repo, "du", example="stackyard repo du team/")
async def show_usage(
    api: "Client",
    out: "Output",
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="What the repositories' names begin with; none: all repositories.")
    ] = "",
) -> None:
    """Tell how many bytes repositories hold, each and together.

    LOGICAL: if each had its blobs to itself. STORED: each blob once. UNIQUE: of blobs that no other repository has.
    RECLAIMABLE: of blobs that only deleted things need; they go when the undo span is over.
    """
    from stackyard.cli.output import size

    columns: Columns = {
        "NAME": lambda one: one["name"],
        "LOGICAL": lambda one: size(one["logical"]),
        "STORED": lambda one: size(one["stored"]),
        "UNIQUE": lambda one: size(one["unique"]),
        "RECLAIMABLE": lambda one: size(one["reclaimable"]),
    }
    total = (await api.get("/usage", prefix=prefix, limit=1))["total"]
    await out.rows(_with(api.items("/usage", prefix=prefix), {**total, "name": "total"}), columns)


async def _with(items: AsyncIterator[dict[str, Any]], last: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    async for item in items:
        yield item
    yield last
