"""`stackyard manifest`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackyard.cli.repositories import Name
from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

manifest = typer.Typer(
    help="Look at manifests, and delete them.",
    epilog="Example: stackyard manifest show team/app:1.0",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Reference = Annotated[str, typer.Argument(metavar="REF", help="REPO:TAG or REPO@DIGEST, without the server's name.")]


def _columns() -> "Columns":
    from stackyard.cli.output import size, time

    return {
        "DIGEST": lambda one: one["digest"],
        "TYPE": lambda one: one["artifact_type"] or one["media_type"],
        "SIZE": lambda one: size(one["size"]),
        "PLATFORMS": lambda one: ",".join(one["platforms"]) or "-",
        "TAGS": lambda one: ",".join(one["tag_names"]) or "-" if "tag_names" in one else str(one["tags"]),
        "SUBJECT": lambda one: one["subject"] or "-",
        "PUSHED": lambda one: time(one["pushed_at"]),
        "PUSHED BY": lambda one: one["pushed_by"],
        "PULLED": lambda one: time(one["pulled_at"]),
        "PULLED BY": lambda one: one["pulled_by"] or "-",
    }


def _deleted_columns() -> "Columns":
    from stackyard.cli.output import time

    return {
        **{name: cell for name, cell in _columns().items() if name in ("DIGEST", "TYPE", "SIZE", "PLATFORMS")},
        "DELETED": lambda one: time(one["deleted_at"]),
        "BY": lambda one: one["deleted_by"],
        "RESTORABLE UNTIL": lambda one: time(one["restorable_until"]),
    }


@verb(manifest, "list", example="stackyard manifest list team/app --untagged")
async def list_manifests(
    api: "Client",
    out: "Output",
    repository: Name,
    untagged: Annotated[
        bool,
        typer.Option("--untagged", help="Those without a tag that no index names and that are about nothing here."),
    ] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that are deleted and can be restored.")] = False,
) -> None:
    """List the manifests of a repository."""
    from stackyard.cli.client import quoted

    which = "deleted" if deleted else "untagged" if untagged else "all"
    columns = _deleted_columns() if deleted else _columns()
    await out.rows(api.items(f"/manifests/{quoted(repository)}", which=which), columns)


@verb(manifest, "show", example="stackyard manifest show team/app:1.0")
async def show_manifest(api: "Client", out: "Output", reference: Reference) -> None:
    """Show a manifest and all that it names."""
    from stackyard.cli.client import quoted
    from stackyard.cli.output import size

    def named(one: dict[str, Any]) -> str:
        parts = [one["digest"], size(one["size"]), one["platform"] or "", "missing" if one["missing"] else ""]
        return " ".join(part for part in parts if part)

    found = await api.get(f"/manifests/{quoted(reference)}")
    lines: Columns = {
        f"{one['kind'].upper()} {number}": lambda _, one=one: named(one)  # type: ignore[misc]
        for number, one in enumerate(found["references"], 1)
    }
    out.show(found, {**_columns(), **lines})


@verb(manifest, "delete", example="stackyard manifest delete team/app@sha256:4f5a…")
async def delete_manifest(api: "Client", out: "Output", reference: Reference) -> None:
    """Delete a manifest, by its digest, and every tag that points to it, until the undo span ends."""
    from stackyard.cli.client import Problem, quoted

    if "@" not in reference:
        raise Problem("name the manifest by its digest, REPO@sha256:…; to delete a tag alone: stackyard tag delete")
    await api.delete(f"/manifests/{quoted(reference)}")
    out.note(f"{reference} is deleted")
