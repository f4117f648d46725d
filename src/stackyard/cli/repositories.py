"""`stackyard repo`."""

from typing import TYPE_CHECKING, Annotated

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


def _columns() -> "Columns":
    from stackyard.cli.output import time

    return {"NAME": lambda one: one["name"], "CREATED": lambda one: time(one["created_at"])}


@verb(repo, "list", example="stackyard repo list")
async def list_repositories(api: "Client", out: "Output") -> None:
    """List the repositories."""
    await out.rows(api.items("/repositories"), _columns())


@verb(repo, "show", example="stackyard repo show team/app")
async def show_repository(api: "Client", out: "Output", name: Name) -> None:
    """Show one repository."""
    from stackyard.cli.client import quoted

    out.show(await api.get(f"/repositories/{quoted(name)}"), _columns())
