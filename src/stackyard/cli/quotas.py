"""`stackyard quota`."""

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stackyard.cli.verbs import FAILED, verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

quota = typer.Typer(
    help="Limit what the repositories below a path hold together.",
    epilog="Example: stackyard quota set team-a/ --bytes 50GB --repositories 100",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Prefix = Annotated[
    str,
    typer.Argument(
        metavar="PREFIX", help="What the repositories' names begin with, as team-a/; / for the whole registry."
    ),
]


def _columns() -> "Columns":
    from stackyard.oci.units import human

    def size(count: int | None, like: int | None) -> str:
        return "-" if count is None else human(count, like=like or 0)

    def number(count: int | None) -> str:
        return "-" if count is None else str(count)

    return {
        "PREFIX": lambda one: one["prefix"] or "/",
        "USED": lambda one: size(one["used_bytes"], one["max_bytes"]) + (" and more" if one["counting"] else ""),
        "LIMIT": lambda one: size(one["max_bytes"], one["max_bytes"]),
        "REPOSITORIES": lambda one: str(one["used_repositories"]),
        "AT MOST": lambda one: number(one["max_repositories"]),
        "SOURCE": lambda one: one["source"],
    }


@verb(quota, "list", example="stackyard quota list")
async def list_quotas(api: "Client", out: "Output") -> None:
    """List the quotas, with what is used of each."""
    await out.rows(api.items("/quotas"), _columns())


@verb(quota, "set", example="stackyard quota set team-a/ --bytes 50GB --repositories 100")
async def set_quota(
    api: "Client",
    out: "Output",
    prefix: Prefix,
    size: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation
        typer.Option("--bytes", metavar="SIZE", show_default=False, help="The most bytes, such as 50GB or 20GiB."),
    ] = None,
    repositories: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--repositories", metavar="N", show_default=False, help="The most repositories."),
    ] = None,
) -> int | None:
    """Set or change the quota on a prefix. A limit that is not given is none."""
    from stackyard.cli.client import Problem
    from stackyard.config import sizes

    limits: dict[str, Any] = {"prefix": prefix, "max_repositories": repositories}
    if size is not None:
        try:
            limits["max_bytes"] = sizes.parse(size)
        except ValueError as error:
            raise Problem(f"--bytes {size!r} {error}") from None
    found = await api.put("/quotas", limits)
    out.show(found, _columns())
    if found["warning"]:
        typer.echo(f"warning: {found['warning']}", err=True)
    return None


@verb(quota, "remove", example="stackyard quota remove team-a/")
async def remove_quota(api: "Client", out: "Output", prefix: Prefix) -> None:
    """Remove the quota on a prefix."""
    await api.delete("/quotas", prefix=prefix)
    out.note(f"there is no quota on {prefix} any more")


@verb(quota, "verify", example="stackyard quota verify")
async def verify_quotas(
    api: "Client",
    out: "Output",
    prefix: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="PREFIX", show_default=False, help="Only the quota on this prefix."),
    ] = None,
) -> int:
    """Count everything again, and compare. The exit status is 1 when something differs."""
    from stackyard.oci.units import human

    recounts = await api.post("/quotas/verify", prefix=prefix)
    if out.as_json:
        out.show(recounts, {})
    for one in recounts:
        shown, wrong = one["prefix"] or "/", len(one["differences"]) + one["more"]
        if one["counting"]:
            out.note(f"{shown}: still being counted for the first time")
        elif not wrong:
            used = f"{human(one['used_bytes'])} in {one['digests']} blobs and manifests"
            out.note(f"{shown}: exact: {used}; repositories: {one['used_repositories']}")
        for each in one["differences"]:
            out.note(f"{shown}: {each['what']}: counted {each['counted']}, found {each['found']}")
        if one["more"]:
            out.note(f"{shown}: and {one['more']} more")
    return FAILED if any(one["differences"] for one in recounts) else 0
