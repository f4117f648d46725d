"""`stackyard config check`."""

from pathlib import Path

import typer

from stackyard.cli.loading import EX_CONFIG, Unusable, load_config
from stackyard.server import assembly
from stackyard.server.errors import StartError
from stackyard.telemetry import logs


def check(file: Path | None) -> int:
    """Print what a configuration is worth; returns the exit status."""
    try:
        loaded = load_config(file)
    except Unusable:
        return EX_CONFIG
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}")
    for notice in loaded.notices:
        typer.echo(f"notice: {notice}")
    if loaded.ignored:
        typer.echo(f"notice: not ours and ignored: {', '.join(loaded.ignored)}")
    logs.configure(level="warn")
    try:
        assembly.check(loaded.config)
    except StartError as error:
        typer.echo(f"stackyard: {error}", err=True)
        return 1
    typer.echo(f"{loaded.path or 'the defaults, with no config file,'} can be served")
    return 0
