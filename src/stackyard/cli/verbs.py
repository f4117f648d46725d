"""The frame of every verb that administers: where the registry is, how it is asked, how the exit status tells.

Each verb is calls of the admin API and nothing else: at the server that `--server` names; else at the local socket of
the server that runs with the config file; else in this very process, when no server runs.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Output

FAILED = 1
USAGE = 2

Verb = Callable[..., Awaitable[int | None]]
"""Of a client, an output, and the verb's own arguments and options; returns the exit status, None for 0."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the registry is, as the command line says it."""

    server: str | None = None
    user: str | None = None
    password_file: Path | None = None
    config: Path | None = None
    fresh: bool = False
    """Whether the volume may be one on which no server ever ran."""


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "server": (
        Annotated[
            Optional[str],  # noqa: UP045 - typer reads the annotation
            typer.Option(metavar="URL", show_default=False, help="A running server, such as https://registry:5000."),
        ],
        None,
    ),
    "user": (
        Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(
                show_default=False,
                help="Who logs in at --server. The password: STACKYARD_PASSWORD, or it is asked for.",
            ),
        ],
        None,
    ),
    "password_file": (
        Annotated[
            Optional[Path],  # noqa: UP045
            typer.Option(metavar="FILE", show_default=False, help="A file whose first line is the password."),
        ],
        None,
    ),
    "config": (
        Annotated[
            Optional[Path],  # noqa: UP045
            typer.Option(
                "--config",
                "-c",
                metavar="FILE",
                show_default=False,
                help="The config file of the registry, as for serve.",
            ),
        ],
        None,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="Print the API's own documents.")], False),
}


def verb(group: typer.Typer, name: str, *, example: str, fresh: bool = False) -> Callable[[Verb], Verb]:
    """Make an async function of (client, output, …) a command of `group`, with the options that all verbs share.

    Args:
        example: Shown below the help.
        fresh: Whether it may also work on a volume on which no server ever ran, whose database is made then.
    """

    def register(function: Verb) -> Verb:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.name not in ("api", "out")]
        shared = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for option, (kind, default) in _OPTIONS.items()
        ]

        def command(**values: Any) -> None:
            as_json = values.pop("as_json")
            place = Place(**{option: values.pop(option) for option in _OPTIONS if option != "as_json"}, fresh=fresh)
            raise typer.Exit(_run(function, place, values, as_json=as_json))

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + shared
        command.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        command.__doc__ = function.__doc__
        group.command(name, epilog=f"Example: {example}")(command)
        return function

    return register


def _run(function: Verb, place: Place, values: dict[str, Any], *, as_json: bool) -> int:
    from stackyard.cli.running import run

    async def work(api: "Client", out: "Output") -> int:
        return await function(api, out, **values) or 0

    return run(place, work, as_json=as_json)
