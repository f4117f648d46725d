"""`stackyard migrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from stackyard.config.model import Config
    from stackyard.server.migrating import Found, Migrated

UP_TO_DATE, FAILED, DUE, TOO_NEW = 0, 1, 3, 4
"""Exit statuses. 2 is wrong usage, 78 a configuration that cannot be used."""


def register(stackyard: typer.Typer) -> None:
    """Add the verb."""
    stackyard.command("migrate", epilog="Example: stackyard migrate --check config.yml")(migrate)


def migrate(
    file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation
        typer.Argument(metavar="CONFIG", show_default=False, help="The config file, as for serve."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; status 0: nothing is due, 3: it is, 4: too new for this.")
    ] = False,
    no_copy: Annotated[
        bool, typer.Option("--no-copy", help="Upgrade an embedded database without a copy of it beside it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Bring the database to this version's schema, also while servers run. A start does the same by itself."""
    if check and no_copy:
        raise typer.BadParameter("--check copies nothing")
    raise typer.Exit(_run(file, check=check, copy=not no_copy, as_json=as_json))


def _run(file: Path | None, *, check: bool, copy: bool, as_json: bool) -> int:
    import sys

    from stackyard.cli.loading import EX_CONFIG, Unusable, load_config
    from stackyard.server.errors import StartError
    from stackyard.server.migrating import TooNew
    from stackyard.server.privileges import CannotStepDown
    from stackyard.telemetry import logs

    logs.configure(level="error")
    try:
        config = load_config(file).config
        return _check(config, as_json=as_json) if check else _migrate(config, copy=copy, as_json=as_json)
    except Unusable:
        return EX_CONFIG
    except (StartError, CannotStepDown) as error:
        sys.stderr.write(f"stackyard: {error}\n")
        return TOO_NEW if isinstance(error, TooNew) else FAILED
    except KeyboardInterrupt:
        sys.stderr.write("stackyard: stopped; nothing was changed\n")
        return 130


def _check(config: "Config", *, as_json: bool) -> int:
    from stackyard.server import migrating

    found, pending = migrating.look(config)
    sentence, state, status = _judged(found)
    document = {
        "state": state,
        "schema": found.version,
        "floor": found.floor,
        "needed": migrating.NEEDED,
        "older_nodes_may_run": not (found.is_due and found.shuts_out),
        "pending": [{"revision": revision, "what": what} for revision, what in pending],
    }
    _tell(sentence, document, as_json=as_json)
    return status


def _judged(found: "Found") -> tuple[str, str, int]:
    """The sentence, the word for programs and the exit status."""
    from stackyard.server.migrating import FLOOR, NEEDED

    if found.is_too_new:
        sentence = (
            f"the database was upgraded by a newer stackyard: it has schema {found.version}, which needs a stackyard "
            f"of schema {found.floor} at least, and this one's is {NEEDED}"
        )
        return sentence, "too new", TOO_NEW
    if not found.version:
        return f"there is no database yet: the first start makes one of schema {NEEDED}", "missing", DUE
    if found.is_due:
        others = f"stop all nodes older than schema {FLOOR} before" if found.shuts_out else "nodes may go on meanwhile"
        return f"a migration is due, from schema {found.version} to {NEEDED}: {others}", "due", DUE
    if found.version > NEEDED:
        sentence = f"the database is newer, schema {found.version}, and works with this stackyard, whose is {NEEDED}"
        return sentence, "newer", UP_TO_DATE
    return f"the database is up to date: schema {found.version}", "up to date", UP_TO_DATE


def _migrate(config: "Config", *, copy: bool, as_json: bool) -> int:
    from stackyard.server import migrating

    done = migrating.migrate(config, _progress, copy=copy)
    document = {
        "from": done.before,
        "to": done.after,
        "steps": [{"revision": each.revision, "what": each.what, "seconds": each.seconds} for each in done.steps],
        "copy": str(done.copy) if done.copy else None,
    }
    _tell(_done(done), document, as_json=as_json)
    return UP_TO_DATE


def _done(done: "Migrated") -> str:
    seconds = f"{sum(each.seconds for each in done.steps):.1f} s"
    if not done.steps:
        return f"nothing to do: the database has schema {done.after}"
    if not done.before:
        return f"the database was made, with schema {done.after}, in {seconds}"
    kept = f"; as it was before: {done.copy}" if done.copy else ""
    return f"the database was upgraded from schema {done.before} to {done.after} in {seconds}{kept}"


def _progress(sentence: str) -> None:
    """Not on standard output: that is for what came of it."""
    import sys

    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def _tell(sentence: str, document: dict[str, Any], *, as_json: bool) -> None:
    import json

    print(json.dumps(document, indent=2) if as_json else sentence)
