"""Whether a file system keeps the promises on which several nodes rely, tried out."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackyard.storage.driver import OutOfSpace
from stackyard.storage.filesystem.calls import name_again, write_all
from stackyard.storage.filesystem.failures import storage_error
from stackyard.storage.filesystem.folders import sync_folder


class Unfit(Exception):
    """The file system breaks a promise. The text says which."""


def probe(above: Path) -> None:
    """Try it out in a folder made in `above` and removed again.

    Raises:
        Unfit: A promise is broken.
        OSError: Not even a folder can be made.
        OutOfSpace: It is full, and nothing can be tried.
    """
    folder = above / f"probe-{secrets.token_hex(8)}"
    folder.mkdir(parents=True)
    try:
        _try_files(folder / "file")
        _try_names(folder)
        with _expected("syncing a folder"):
            sync_folder(str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try_files(file: Path) -> None:
    for content in (b"first", b"then more"):
        with _expected("writing and syncing a file"):
            _write(file, content)
        with _expected("reading a file"):
            read = file.read_bytes()
        if read != content:
            raise Unfit("what was written and closed is not what is read by whoever opens the file afterwards")


def _try_names(folder: Path) -> None:
    kept, other, name = folder / "kept", folder / "other", folder / "name"
    with _expected("writing and syncing a file"):
        _write(kept, b"kept")
        _write(other, b"other")
    with _expected("giving a file another name, by link(2) or RENAME_NOREPLACE,"):
        name_again(str(kept), str(name))
        try:
            name_again(str(other), str(name))
        except FileExistsError:
            refused = True
        else:
            refused = False
        if not refused or name.read_bytes() != b"kept":
            raise Unfit("link(2) does not refuse a name that is taken")
    with _expected("rename(2)"):
        other.rename(name)
        if other.exists() or name.read_bytes() != b"other":
            raise Unfit("rename(2) does not replace a file by another")


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _expected(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure = storage_error(error, what)
        if isinstance(failure, OutOfSpace):
            raise failure from error
        raise Unfit(f"{what} fails: {error.strerror or error}") from error
