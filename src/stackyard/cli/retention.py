"""`stackyard retention`."""

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stackyard.cli.jobs import Wait
from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

retention = typer.Typer(
    help="Show and remove the tags that the retention rules let go.",
    epilog="Example: stackyard retention preview team/app",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Repository = Annotated[
    Optional[str],  # noqa: UP045 - typer reads the annotation
    typer.Argument(metavar="[REPO]", show_default=False, help="Only this repository."),
]


def _columns() -> "Columns":
    from stackyard.cli.output import time

    return {
        "TAG": lambda one: one["tag"],
        "RESULT": lambda one: "goes" if one["goes"] else "stays",
        "WHY": lambda one: one["reason"] + (f" ({', '.join(one['rules'])})" if one["rules"] else ""),
        "PUSHED": lambda one: time(one["pushed_at"]),
        "PULLED": lambda one: time(one["pulled_at"]),
    }


def _summary() -> "Columns":
    return {
        "REPOSITORY": lambda one: one["repository"],
        "TAGS": lambda one: str(one["tags"]),
        "GO": lambda one: str(one["goes"]),
        "NOTE": lambda one: "more than half: needs --force" if one["held_back"] else "",
    }


@verb(retention, "preview", example="stackyard retention preview team/app")
async def preview(api: "Client", out: "Output", repository: Repository = None) -> None:
    """Show every tag of a repository, whether a run would remove it now, and why. Without REPO: how many of each."""
    if repository is None:
        await out.rows(api.items("/retention/repositories"), _summary())
        return
    await out.rows(api.items("/retention/preview", repository=repository, limit=1000), _columns())


@verb(retention, "run", example="stackyard retention run team/app")
async def run(
    api: "Client",
    out: "Output",
    repository: Repository = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where more than half of a repository's tags go.")
    ] = False,
    wait: Wait = True,
) -> int:
    """Remove now what the rules let go. The exit status is 1 when a repository was left alone for want of --force."""
    from stackyard.cli.following import accepted
    from stackyard.cli.output import counted

    job = await api.post("/retention/run", {"repository": repository, "force": force})
    ended = await accepted(api, out, job, wait=wait)
    if ended is None:
        return 0
    result: dict[str, Any] = ended["result"]
    if out.as_json:
        out.show(result, {})
    out.note(f"{counted(result['tags'], 'tag')} removed, {result['kept']} kept; repositories: {result['repositories']}")
    for name in result["held_back"]:
        out.note(
            f"{name}: more than half of its tags would go, so none did; look at them with "
            f"'stackyard retention preview {name}', then say 'stackyard retention run {name} --force'"
        )
    return 1 if result["held_back"] else 0
