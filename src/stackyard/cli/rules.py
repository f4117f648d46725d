"""`stackyard rule`."""

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stackyard.cli.verbs import verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Columns, Output

rule = typer.Typer(
    help="Rules about tags: which go, which never change, what they look like.",
    epilog="Example: stackyard rule keep 'team/**' --tags 'dev-*' --last 10 --pulled 30d",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Repositories = Annotated[
    str,
    typer.Argument(metavar="REPOSITORIES", help="Names; * stands for anything in one path component, ** across them."),
]
Tags = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads the annotation
    typer.Option("--tags", metavar="PATTERN", show_default=False, help="Tags, such as 'v*' or re:v[0-9]+; else all."),
]
Excluding = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--excluding", metavar="PATTERN", show_default=False, help="Of those, tags it is not about."),
]
Number = Annotated[int, typer.Argument(metavar="ID", help="The rule's number.", min=1)]


def _columns() -> "Columns":
    return {
        "ID": lambda one: str(one["id"]),
        "KIND": lambda one: one["kind"],
        "REPOSITORIES": lambda one: one["rule"]["repositories"],
        "TAGS": lambda one: " ".join(one["rule"].get("tags") or ["*"]),
        "RULE": _says,
        "SOURCE": lambda one: one["source"],
    }


def _says(one: dict[str, Any]) -> str:
    rule = one["rule"]
    words = [f"{name}: {' '.join(value) if isinstance(value, list) else value}" for name, value in _clauses(rule)]
    return ", ".join(words) or "-"


def _clauses(rule: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, rule[name]) for name in ("pattern", "excluding") if rule.get(name)] + [
        (f"keep {name}", value) for name, value in rule.get("keep", {}).items()
    ]


@verb(rule, "list", example="stackyard rule list")
async def list_rules(api: "Client", out: "Output") -> None:
    """List the rules."""
    await out.rows(api.items("/rules"), _columns())


@verb(rule, "keep", example="stackyard rule keep 'team/**' --tags 'dev-*' --last 10 --pulled 30d")
async def keep(  # noqa: PLR0913 - one option each
    api: "Client",
    out: "Output",
    repositories: Repositories,
    tags: Tags = None,
    excluding: Excluding = None,
    last: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", min=1, show_default=False, help="Keep the last N pushed."),
    ] = None,
    pulled: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SPAN", show_default=False, help="Keep what was pulled within it, as 30d."),
    ] = None,
    newer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SPAN", show_default=False, help="Keep what was pushed within it, as 14d."),
    ] = None,
    matching: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="PATTERN", show_default=False, help="Keep tags like this."),
    ] = None,
) -> None:
    """Keep these tags, and let the others of the same repositories go that no other rule keeps."""
    clauses = {"last": last, "pulled": pulled, "newer": newer, "matching": matching or None}
    await _add(api, out, kind="retention", repositories=repositories, tags=tags, excluding=excluding, keep=clauses)


@verb(rule, "immutable", example="stackyard rule immutable '**' --tags 'v*'")
async def immutable(
    api: "Client", out: "Output", repositories: Repositories, tags: Tags = None, excluding: Excluding = None
) -> None:
    """Let these tags never change once they are pushed, and never be deleted."""
    await _add(api, out, kind="immutable", repositories=repositories, tags=tags, excluding=excluding)


@verb(rule, "form", example="stackyard rule form 'team/**' version-date-commit --excluding latest")
async def form(
    api: "Client",
    out: "Output",
    repositories: Repositories,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="version-date-commit, or a pattern such as 'v*' or re:v[0-9]+.")
    ],
    excluding: Excluding = None,
) -> None:
    """Refuse tags of another form."""
    await _add(api, out, kind="form", repositories=repositories, pattern=pattern, excluding=excluding)


@verb(rule, "remove", example="stackyard rule remove 3")
async def remove_rule(api: "Client", out: "Output", number: Number) -> None:
    """Remove a rule."""
    await api.delete(f"/rules/{number}")
    out.note(f"rule {number} is removed")


async def _add(api: "Client", out: "Output", **rule: Any) -> None:
    document = {name: value for name, value in rule.items() if value is not None and value != []}
    if "keep" in document:
        document["keep"] = {name: value for name, value in document["keep"].items() if value is not None}
    out.show(await api.post("/rules", document), _columns())
