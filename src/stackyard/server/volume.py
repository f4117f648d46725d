"""Is this volume ours to serve, and which database tells of it?"""

import os
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection

from stackyard.metadata import database as databases
from stackyard.metadata import imports, sqlite
from stackyard.oci import layout

_RECOVER = "restore the database from its backup, or rebuild it from the volume: stackyard recover CONFIG"


class VolumeRefused(Exception):
    """The volume cannot be served as it is. The text says what to do."""


def check(root: Path, database_url: str = "") -> None:
    """Look at the volume before anything on it is touched.

    Args:
        root: Of the store.
        database_url: '': whichever; then only the volume is looked at.

    Raises:
        VolumeRefused: It is not a registry's volume but a part of one or half of one, or its database is lost.
    """
    _check_form(root)
    is_new = not in_use(root) and not (database_url and databases.exists(database_url))
    if is_new:
        _check_for_repositories(root)
    if database_url.startswith("sqlite:") and in_use(root) and is_written(root):
        path = sqlite.path_of(database_url)
        if not path.exists() or path.stat().st_size == 0:
            raise VolumeRefused(f"the database {path}, which told what is on this volume, is gone: {_RECOVER}")


def settle(c: Connection, root: Path | None, *, recovering: bool = False) -> None:
    """Decide whether there is something to import; in the transaction that makes the tables.

    Raises:
        VolumeRefused: Another database told of this volume: this one knows nothing of it. Or, `recovering`, this one
            knows something.
    """
    written = root is not None and is_written(root)
    if recovering and imports.has_content(c):
        raise VolumeRefused(
            "the database is in use: nothing is lost that could be recovered. To start anew, move it away first, with "
            "the -wal and -shm files beside it"
        )
    is_new = not recovering and root is not None and imports.is_new(c)
    if is_new and root is not None and not in_use(root):
        _check_for_repositories(root)
    if is_new and root is not None and written and in_use(root):
        raise VolumeRefused(
            f"the database is new, and {root} was served with another one before: name that one "
            f"(stackyard.database.url), {_RECOVER}"
        )
    imports.settle(c, written=written)


def mark(root: Path) -> None:
    """Leave a note that a database tells of this volume. On a read-only mount nothing is left."""
    note = root / layout.IN_USE
    if not note.exists():
        with suppress(PermissionError, OSError):
            note.parent.mkdir(exist_ok=True)
            note.write_text(
                "Stackyard serves this volume. A database tells what is on it (stackyard.db beside this file, unless\n"
                "the configuration names another one). Without that database stackyard does not start here.\n"
            )


def in_use(root: Path) -> bool:
    """Whether we have served this volume before."""
    return (root / layout.IN_USE).exists()


def is_written(root: Path) -> bool:
    """Whether there are repositories in Distribution's tree, be they its own or such that we wrote for it."""
    return _has_entries(root / layout.REPOSITORIES)


def _check_form(root: Path) -> None:
    if not (root / layout.DISTRIBUTION).exists():
        for levels, part in enumerate(("registry/v2", "v2", "repositories"), start=1):
            if (root / part).is_dir() and _looks_like(root / part if part.endswith("v2") else root):
                above = root.absolute().parents[levels - 1]
                raise VolumeRefused(
                    f"{root} is a folder within a registry's volume: set storage.filesystem.rootdirectory to {above}"
                )
    if is_written(root) and not (root / layout.BLOBS).is_dir() and _has_revision(root / layout.REPOSITORIES):
        raise VolumeRefused(
            f"{root} holds repositories and no blobs at all: it is half of a volume. Copy {root / layout.BLOBS} as well"
        )


def _check_for_repositories(root: Path) -> None:
    if not (root / layout.REPOSITORIES).is_dir() and _has_entries(root / layout.BLOBS):
        raise VolumeRefused(
            f"{root} holds blobs and no repositories: it is half of a volume. Copy {root / layout.REPOSITORIES} "
            "as well; or, to begin with nothing, make that folder"
        )


def _looks_like(folder: Path) -> bool:
    return (folder / "repositories").is_dir() and (folder / "blobs").is_dir()


def _has_revision(repositories: Path) -> bool:
    return any(_has_entries(Path(folder)) for folder, _, _ in os.walk(repositories) if folder.endswith("/revisions"))


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False
