"""Folders and tars that hold an image: read without trusting them, written so that a failure leaves nothing."""

import asyncio
import contextlib
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Protocol

_MOST_LINKS = 5


class ArchiveUnusable(Exception):
    """The file or folder cannot be read as an image, or not be written. The text says why."""


class Archive(Protocol):
    """Files by name."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """A small file. Raises ArchiveUnusable when it is not there, or has more than `limit` bytes."""
        with self.open(name) as (file, size):
            if size > limit:
                raise ArchiveUnusable(f"{name} has {size} bytes, and {limit} are the most")
            return file.read()

    def open(self, name: str) -> contextlib.AbstractContextManager[tuple[IO[bytes], int]]:
        """A file, and its size in bytes. Raises ArchiveUnusable."""
        ...


class FolderArchive(Archive):
    """Files below a folder. No name leads out of it."""

    def __init__(self, root: Path) -> None:
        """Reads nothing yet."""
        self._root = root.resolve()

    def has(self, name: str) -> bool:
        """See Archive."""
        return self._path(name).is_file()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """See Archive."""
        try:
            with self._path(name).open("rb") as file:
                yield file, os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise ArchiveUnusable(f"{name} is missing") from None

    def _path(self, name: str) -> Path:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise ArchiveUnusable(f"{name} leads out of the folder")
        return path


class TarArchive(Archive):
    """Files in a tar, compressed or not."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        """Of an open tar: reads its table, which for a compressed one means all of it."""
        self._tar = tar
        self._members = {os.path.normpath(each.name): each for each in tar.getmembers()}

    def has(self, name: str) -> bool:
        """See Archive."""
        return self._find(name) is not None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """See Archive."""
        member = self._find(name)
        file = self._tar.extractfile(member) if member else None
        if member is None or file is None:
            raise ArchiveUnusable(f"{name} is missing")
        with file:
            yield file, member.size

    def _find(self, name: str) -> tarfile.TarInfo | None:
        """The file; an old docker save has links among its layers."""
        for _ in range(_MOST_LINKS):
            member = self._members.get(os.path.normpath(name))
            if member is None or member.isfile():
                return member
            if not (member.issym() or member.islnk()):
                return None
            name = os.path.join(os.path.dirname(name), member.linkname) if member.issym() else member.linkname
        return None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive at `path`. Raises ArchiveUnusable."""
    if path.is_dir():
        yield FolderArchive(path)
        return
    try:
        with tarfile.open(path) as tar:
            yield TarArchive(tar)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveUnusable(f"{path} is no tar, or half of one") from error
    except OSError as error:
        raise ArchiveUnusable(f"{path} cannot be read: {error.strerror or error}") from error


class Target(Protocol):
    """Where files of an image go."""

    async def write(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> bool:
        """Add a file of `size` bytes; False, and nothing read, when there is one of this name already."""
        ...


class TarTarget:
    """A tar that is written from its start to its end."""

    def __init__(self, file: IO[bytes]) -> None:
        """Of a file that is open for writing, and empty."""
        self._file = file
        self._names: set[str] = set()

    async def write(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> bool:
        """See Target."""
        if name in self._names:
            return False
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.size = size
        await asyncio.to_thread(self._file.write, entry.tobuf(tarfile.PAX_FORMAT))
        async for chunk in chunks:
            await asyncio.to_thread(self._file.write, chunk)
        self._file.write(b"\0" * (-size % tarfile.BLOCKSIZE))
        return True

    def finish(self) -> None:
        """Mark the end, as tar wants it."""
        self._file.write(b"\0" * (2 * tarfile.BLOCKSIZE))


class FolderTarget:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        """Of a folder that is there, and empty."""
        self._root = root

    async def write(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> bool:
        """See Target."""
        path = self._root / name
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        return True


@contextlib.contextmanager
def created(path: Path) -> Iterator[Target]:
    """A target at `path`, a tar when the name ends in .tar, which is there only when the block ends without an error.

    Raises ArchiveUnusable.
    """
    partial = path.with_name(f"{path.name}.part")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ArchiveUnusable(f"{path} exists already")
    try:
        if path.suffix == ".tar":
            with partial.open("wb") as file:
                target = TarTarget(file)
                yield target
                target.finish()
        else:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield FolderTarget(partial)
        os.rename(partial, path)
    except OSError as error:
        raise ArchiveUnusable(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
