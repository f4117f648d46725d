"""The database of a configuration brought to this version, from the command line, with or without servers on it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from stackyard.config.model import Config
from stackyard.metadata import migrate as migrations
from stackyard.metadata import schema
from stackyard.metadata.errors import SchemaTooNew
from stackyard.metadata.migrate import Found as Found
from stackyard.metadata.migrate import Migrated as Migrated
from stackyard.server import assembly, mapping, volume
from stackyard.server.errors import StartError
from stackyard.server.privileges import step_down

NEEDED = schema.VERSION
"""The schema that this version works with."""
FLOOR = schema.FLOOR
"""The oldest one whose nodes may go on beside it."""


class TooNew(StartError):
    """A newer version upgraded the database, and this one can no longer work with it."""


def look(config: Config) -> tuple[Found, list[tuple[str, str]]]:
    """What the database is at, and the revisions that it lacks with what each is about. Raises StartError."""
    with assembly.told_in_one_sentence(_root(config)):
        found = migrations.look(_database(config))
        return found, migrations.pending(found.version) if found.is_due else []


def migrate(config: Config, tell: Callable[[str], None], *, copy: bool) -> Migrated:
    """Do what a start does about the database, and nothing else of it.

    Args:
        tell: See `metadata.migrate`.
        copy: Whether an embedded database is copied before.

    Raises:
        TooNew: A newer version's migration came before.
        StartError, CannotStepDown: With what to do; nothing was changed.
    """
    url, root = _database(config), _root(config)
    with assembly.told_in_one_sentence(root):
        if root:
            step_down(root)  # what is made belongs to who owns the volume
            volume.check(root, url)
        try:
            return migrations.migrate(url, partial(volume.settle, root=root), tell=tell, copy=copy)
        except SchemaTooNew as error:
            raise TooNew(str(error)) from error


def _root(config: Config) -> Path | None:
    return Path(config.storage.filesystem.rootdirectory) if config.storage.filesystem else None


def _database(config: Config) -> str:
    if url := mapping.database_url(config):
        return url
    raise StartError("storage.inmemory: there is no database that outlives the server")
