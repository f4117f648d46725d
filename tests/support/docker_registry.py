"""Debian's docker-registry, the reference server."""

from pathlib import Path

from tests.support import running, tools
from tests.support.running import Config, Running


def start(config: Config, *, folder: Path | None = None) -> Running:
    """It, answering, with the same defaults as tests.support.stackyard."""
    server = running.launch([tools.path("docker-registry")], config, folder=folder)
    server.wait_ready()
    return server
