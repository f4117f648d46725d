"""`stackyard audit`."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from stackyard.cli.times import parse
from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Output

audit = typer.Typer(
    help="Look at what administrators changed.",
    epilog="Example: stackyard audit list --actor user:alice",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Text = Optional[str]  # noqa: UP045 - typer reads the annotation
Time = Optional[datetime]  # noqa: UP045


@verb(audit, "list", example="stackyard audit list --repository team/app --since 2026-01-31")
async def list_entries(  # noqa: PLR0913 - each is an option
    api: "Client",
    out: "Output",
    actor: Annotated[Text, typer.Option(help="Only what this one did, such as user:alice or local:root.")] = None,
    action: Annotated[Text, typer.Option(help="Only this, such as tag.delete.")] = None,
    repository: Annotated[Text, typer.Option(help="Only in this repository.")] = None,
    since: Annotated[
        Time, typer.Option(parser=parse, metavar="TIME", show_default=False, help="Only what happened then or later.")
    ] = None,
    until: Annotated[
        Time, typer.Option(parser=parse, metavar="TIME", show_default=False, help="Only what happened before.")
    ] = None,
) -> None:
    """List what was changed, the youngest first."""
    from stackyard.cli.output import time

    columns = {
        "TIME": lambda one: time(one["happened_at"]),
        "ACTOR": lambda one: one["actor"],
        "ACTION": lambda one: one["action"],
        "REPOSITORY": lambda one: one["repository"] or "-",
        "DETAIL": lambda one: json.dumps(one["detail"]) if one["detail"] else "-",
    }
    filters = {"actor": actor, "action": action, "repository": repository}
    await out.rows(
        api.items("/audit", since=since and since.isoformat(), until=until and until.isoformat(), **filters), columns
    )
