"""`stackyard serve`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from stackyard.cli.loading import EX_CONFIG, Unusable, load_config
from stackyard.config.load import Loaded
from stackyard.server import assembly
from stackyard.server.errors import StartError
from stackyard.server.privileges import CannotStepDown
from stackyard.telemetry import logs
from stackyard.telemetry.access import AccessLog

_log = structlog.get_logger("server")


def serve(file: Path | None) -> int:
    """Serve until told to stop; returns the exit status."""
    try:
        loaded = load_config(file)
    except Unusable:
        return EX_CONFIG
    log = loaded.config.log
    logs.configure(level=log.level, formatter=log.formatter, fields=log.fields)
    _tell(loaded)
    access_log = AccessLog(enabled=not log.accesslog.disabled, formatter=log.formatter, fields=log.fields)
    try:
        return assembly.serve(loaded.config, access_log=access_log, ready=partial(_welcome, loaded))
    except (StartError, CannotStepDown) as error:
        sys.stderr.write(f"stackyard: {error}\n")
        return 1


def _tell(loaded: Loaded) -> None:
    """Log what is to be said about the configuration."""
    _log.info("configuration read", file=loaded.path or "none: defaults")
    for warning in loaded.warnings:
        _log.warning("configuration: " + warning)
    for notice in loaded.notices:
        _log.info("configuration: " + notice)
    if loaded.ignored:
        _log.info("configuration: these variables are not ours and are ignored", names=" ".join(loaded.ignored))


def _welcome(loaded: Loaded, addresses: Sequence[str]) -> None:
    """Tell somebody who started us with no config at all, or by hand, where things are and what to try."""
    if loaded.path is None or sys.stdout.isatty():
        sys.stdout.write(welcome(addresses, _place(loaded)))
        sys.stdout.flush()


def _place(loaded: Loaded) -> str:
    folder = loaded.config.storage.filesystem
    return str(Path(folder.rootdirectory).absolute()) if folder else "memory: nothing outlives this process"


def welcome(addresses: Sequence[str], place: str) -> str:
    """Where it serves, where the data lies, and the first three commands to try.

    Args:
        addresses: Of the listener, as URLs or `unix:/path`.
        place: The data folder.
    """
    lines = ["", f"Serving on {', '.join(addresses)}", f"Data in {place}"]
    if name := _client_name(addresses[0]):
        url, host = name
        lines += [
            "Try:",
            "  echo hello > hello.txt",
            f"  tar c hello.txt | docker import - {host}/hello:v1 && docker push {host}/hello:v1",
            f"  curl {url}/v2/_catalog",
        ]
    return "\n".join([*lines, "", ""])


def _client_name(address: str) -> tuple[str, str] | None:
    """The URL and the `host:port` that a client on this machine uses; None where docker cannot."""
    if address.startswith("unix:"):
        return None
    parts = urlsplit(address)
    everywhere = parts.hostname in ("::", "0.0.0.0")  # noqa: S104 - compared, not bound
    host = f"localhost:{parts.port}" if everywhere else parts.netloc
    return f"{parts.scheme}://{host}", host
