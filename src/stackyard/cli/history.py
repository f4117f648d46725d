"""Looking back and bringing back: verbs of `stackyard tag`, `manifest` and `repo`."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stackyard.cli.manifests import manifest
from stackyard.cli.repositories import Name, repo
from stackyard.cli.tags import tag
from stackyard.cli.times import parse
from stackyard.cli.verbs import FAILED, USAGE, verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Output

TagReference = Annotated[str, typer.Argument(metavar="REPO:TAG", help="A tag of a repository.")]
Text = Optional[str]  # noqa: UP045 - typer reads the annotation
Time = Optional[datetime]  # noqa: UP045
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register() -> None:
    """Add the verbs to their groups."""
    verb(tag, "history", example="stackyard tag history team/app:v1")(show_history)
    verb(tag, "restore", example="stackyard tag restore team/app:v1 --at 2026-01-31T12:00")(restore_tag)
    verb(manifest, "restore", example="stackyard manifest restore team/app@sha256:…")(restore_manifest)
    verb(repo, "delete", example="stackyard repo delete team/old")(delete_repository)
    verb(repo, "restore", example="stackyard repo restore team/old")(restore_repository)


async def show_history(api: "Client", out: "Output", reference: TagReference) -> int:
    """What a tag points to and pointed to, since when, and who did it."""
    from stackyard.cli.output import time

    path = _path(out, reference)
    if path is None:
        return USAGE
    await out.rows(
        api.items(f"{path}/history"),
        {
            "DIGEST": lambda one: one["digest"],
            "SET": lambda one: time(one["set_at"]),
            "BY": lambda one: one["set_by"],
            "ENDED": lambda one: time(one["ended_at"]),
            "ENDED BY": lambda one: one["ended_by"] or "-",
            "WHY": lambda one: one["reason"] or "-",
            "RESTORABLE UNTIL": lambda one: time(one["restorable_until"]),
        },
    )
    return 0


async def restore_tag(
    api: "Client",
    out: "Output",
    reference: TagReference,
    digest: Annotated[Text, typer.Option(help="Point it to this manifest.")] = None,
    at: Annotated[
        Time,
        typer.Option(parser=parse, metavar="TIME", show_default=False, help="Point it to what it pointed to then."),
    ] = None,
) -> int:
    """Make a tag point to what it pointed to before; without options to the last other manifest."""
    path = _path(out, reference)
    if path is None:
        return USAGE
    if digest and at:
        out.note("--digest and --at: give one of them")
        return USAGE
    found = await api.post(f"{path}/restore", {"digest": digest, "at": at and at.isoformat()})
    if out.as_json:
        out.show(found, {})
    else:
        out.note(f"{reference} points to {found['digest']}")
        _tell_lacking(out, found)
    return 0


async def restore_manifest(
    api: "Client",
    out: "Output",
    reference: Annotated[str, typer.Argument(metavar="REPO@DIGEST", help="A manifest that was deleted.")],
) -> int:
    """Show a deleted manifest again, with the tags that went with it."""
    from stackyard.cli.client import quoted

    name, _, digest = reference.rpartition("@")
    if not name:
        out.note(f"{reference!r} is no REPO@DIGEST")
        return USAGE
    found = await api.post(f"/repositories/{quoted(name)}/manifests/{quoted(digest)}/restore", {})
    if out.as_json:
        out.show(found, {})
    else:
        out.note(f"{reference} is back, tagged {', '.join(found['tags']) or 'by nothing'}")
        _tell_lacking(out, found)
    return 0


async def delete_repository(api: "Client", out: "Output", name: Name, yes: Yes = False) -> int:
    """Hide a repository with all it holds; `repo restore` brings it back until the undo span ends."""
    from stackyard.cli.client import quoted
    from stackyard.cli.confirming import confirmed

    if not confirmed(f"Delete {name} with all its tags?", yes=yes):
        return FAILED
    await api.delete(f"/repositories/{quoted(name)}")
    out.note(f"{name} is deleted; bring it back with: stackyard repo restore {name}")
    return 0


async def restore_repository(api: "Client", out: "Output", name: Name) -> None:
    """Show the repository that was deleted last under this name, as it was."""
    from stackyard.cli.client import quoted

    await api.post(f"/repositories/{quoted(name)}/restore", {})
    out.note(f"{name} is back")


def _tell_lacking(out: "Output", restored: Mapping[str, Any]) -> None:
    if restored["lacking"]:
        out.note(
            "but it cannot be pulled, these bytes are gone; push the image again: " + ", ".join(restored["lacking"])
        )


def _path(out: "Output", reference: str) -> str | None:
    """Of a tag's endpoints; None, and a word to the person, for what is no tag."""
    from stackyard.cli.client import quoted

    name, _, tag_name = reference.rpartition(":")
    if not name or "/" in tag_name:
        out.note(f"{reference!r} is no REPO:TAG")
        return None
    return f"/repositories/{quoted(name)}/tags/{quoted(tag_name)}"
