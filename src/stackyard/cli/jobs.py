"""`stackyard job`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

job = typer.Typer(
    help="Look after long work.", epilog="Example: stackyard job list", no_args_is_help=True, rich_markup_mode=None
)
Number = Annotated[int, typer.Argument(metavar="ID", help="The job's number.", min=1)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end, or only ask for the work.")]
"""For every verb whose work is a job."""


def _columns() -> "Columns":
    from stackyard.cli.output import time

    return {
        "ID": lambda one: str(one["id"]),
        "KIND": lambda one: one["kind"],
        "STATE": lambda one: one["state"],
        "ASKED": lambda one: time(one["created_at"]),
        "BY": lambda one: one["created_by"],
        "STARTED": lambda one: time(one["started_at"]),
        "FINISHED": lambda one: time(one["finished_at"]),
    }


def _all_columns() -> "Columns":
    def progress(one: dict[str, Any]) -> str:
        return json.dumps(one["progress"]) if one["progress"] else "-"

    return {
        **_columns(),
        "REQUEST": lambda one: json.dumps(one["request"]),
        "PROGRESS": progress,
        "RESULT": lambda one: "-" if one["result"] is None else json.dumps(one["result"]),
    }


@verb(job, "list", example="stackyard job list --open")
async def list_jobs(
    api: "Client",
    out: "Output",
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not finished.")] = False,
) -> None:
    """List jobs, the youngest first."""
    await out.rows(api.items("/jobs", only_open=only_open), _columns())


@verb(job, "show", example="stackyard job show 7")
async def show_job(api: "Client", out: "Output", number: Number) -> None:
    """Show one job."""
    out.show(await api.get(f"/jobs/{number}"), _all_columns())


@verb(job, "cancel", example="stackyard job cancel 7")
async def cancel_job(api: "Client", out: "Output", number: Number) -> None:
    """Ask for the end of a job. It ends at its next step."""
    found = await api.delete(f"/jobs/{number}")
    if out.as_json:
        out.show(found, _all_columns())
    elif found["finished_at"] is None:
        out.note(f"job {number} was asked to end")
    else:
        out.note(f"job {number} is {found['state']}")


@verb(job, "follow", example="stackyard job follow 7")
async def follow_job(api: "Client", out: "Output", number: Number) -> None:
    """Wait for the end of a job, telling how far it is."""
    from stackyard.cli.following import follow

    out.show(await follow(api, await api.get(f"/jobs/{number}")), _all_columns())
