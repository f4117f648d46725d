"""`stackyard tag`."""

from typing import TYPE_CHECKING, Annotated

import typer

from stackyard.cli.repositories import Deleted, Name
from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

tag = typer.Typer(
    help="Look at tags, and delete them.",
    epilog="Example: stackyard tag list team/app",
    no_args_is_help=True,
    rich_markup_mode=None,
)
TagName = Annotated[str, typer.Argument(metavar="REPO:TAG", help="The tag, without the server's name.")]


def _columns(*, deleted: bool) -> "Columns":
    from stackyard.cli.output import size, time

    shown: Columns = {
        "TAG": lambda one: one["name"],
        "DIGEST": lambda one: one["digest"],
        "SIZE": lambda one: size(one["size"]),
        "PLATFORMS": lambda one: ",".join(one["platforms"]) or "-",
    }
    if deleted:
        return {
            **shown,
            "DELETED": lambda one: time(one["deleted_at"]),
            "BY": lambda one: one["deleted_by"],
            "RESTORABLE UNTIL": lambda one: time(one["restorable_until"]),
        }
    return {
        **shown,
        "PUSHED": lambda one: time(one["pushed_at"]),
        "PUSHED BY": lambda one: one["pushed_by"],
        "PULLED": lambda one: time(one["pulled_at"]),
        "PULLED BY": lambda one: one["pulled_by"] or "-",
        "EXPIRES": lambda one: time(one["expires_at"]),
    }


@verb(tag, "list", example="stackyard tag list team/app")
async def list_tags(api: "Client", out: "Output", repository: Name, deleted: Deleted = False) -> None:
    """List the tags of a repository."""
    from stackyard.cli.client import quoted

    await out.rows(api.items(f"/tags/{quoted(repository)}", deleted=deleted), _columns(deleted=deleted))


@verb(tag, "show", example="stackyard tag show team/app:1.0")
async def show_tag(api: "Client", out: "Output", name: TagName) -> None:
    """Show one tag and what it points to."""
    from stackyard.cli.client import tag_path

    out.show(await api.get(tag_path(name)), _columns(deleted=False))


@verb(tag, "delete", example="stackyard tag delete team/app:1.0")
async def delete_tag(api: "Client", out: "Output", name: TagName) -> None:
    """Delete a tag, not what it points to. It can be restored until the undo span ends."""
    from stackyard.cli.client import tag_path

    await api.delete(tag_path(name))
    out.note(f"{name} is deleted")
