"""The registry of a configuration while no server runs on it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from stackyard.api.mount import Application, Mount, Receive, Scope, Send
from stackyard.auth import opening
from stackyard.auth.settings import Settings as AccessSettings
from stackyard.config.model import Config
from stackyard.jobs.runner import Runner
from stackyard.metadata import database as databases
from stackyard.server import assembly, mapping, volume
from stackyard.server.errors import StartError
from stackyard.server.kinds import kinds
from stackyard.server.opened import open_registry


@dataclass(frozen=True, slots=True)
class Stopped:
    """The registry of a configuration while no server runs on it, to be administered from this very process."""

    config: Config
    database_url: str
    uid: int
    """Who started this process."""

    @classmethod
    def prepare(cls, config: Config, *, fresh: bool = False) -> "Stopped":
        """Do what a start does before its first worker. To be called while the process has one thread.

        Args:
            fresh: Whether the volume may be one on which no registry ever ran.

        Raises:
            StartError, CannotStepDown: With what to do.
        """
        url, filesystem, uid = mapping.database_url(config), config.storage.filesystem, os.getuid()
        if not url:
            raise StartError("storage.inmemory: there is nothing to administer while no server runs")
        if filesystem and not fresh and not databases.exists(url):
            root = Path(filesystem.rootdirectory)
            with assembly.told_in_one_sentence(root):
                volume.check(root, url)
            raise StartError(
                f"no stackyard has run on {filesystem.rootdirectory} yet, and none runs now; name another config file "
                "with --config, or a running server with --server"
            )
        assembly.prepare(config, url, logins=False)
        return cls(config, url, uid)

    @contextlib.asynccontextmanager
    async def api(self) -> AsyncIterator[Application]:
        """The admin API, which takes everything for the work of who started this process."""
        opened = await open_registry(self.config, self.database_url, workers=1)
        if self.database_url.startswith("sqlite:") and not self.config.storage.objects:
            opened.registry.collection.linger = timedelta()  # nobody reads: a server would have answered instead
        mount = Mount(opened.registry, opening.open_access(AccessSettings()))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"peer": self.uid}
            await mount(scope, receive, send)

        running = asyncio.create_task(Runner(opened.registry.jobs, kinds(opened.registry)).run())
        try:
            yield application
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await opened.close()


def local_socket(config: Config) -> Path | None:
    """Where a server of this configuration is administered on its own machine, if it runs."""
    local = mapping.local_socket(config)
    return local.path if local else None
