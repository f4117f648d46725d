"""Whole files below the root: what each of the store's operations does, as blocking calls for its threads."""

import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from stackyard.storage.driver import Found, LocationGone, LocationTaken, Room, StorageError
from stackyard.storage.filesystem import kernel
from stackyard.storage.filesystem.calls import FILE_MODE, copy_bytes, name_again, open_sized, sized, write_all
from stackyard.storage.filesystem.failures import translated
from stackyard.storage.filesystem.folders import MISSING, Folders
from stackyard.storage.filesystem.together import sync_file, sync_together
from stackyard.storage.locations import is_location

T = TypeVar("T")

# The name by which an NFS client keeps a deleted file that is still open.
_DELETED_WHILE_OPEN = ".nfs"


class Files:
    """The operations on files that already have all their bytes. Used from many threads."""

    def __init__(self, root: str) -> None:
        """`root` is absolute and normal. Touches nothing."""
        self.folders = Folders(root)
        self._local: bool | None = None

    def path(self, location: str) -> str:
        """Where the checked `location` lies."""
        return f"{self.folders.root}/{location}"

    def create(self, location: str) -> int:
        """Make an empty file and return its descriptor. Raises FileExistsError."""
        path = self.path(location)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return self.folders.inside(os.path.dirname(path), lambda: os.open(path, flags, FILE_MODE))

    def begin(self, location: str) -> int:
        """Return the descriptor of an empty file, made for it or emptied. Raises LocationTaken as `reopen`."""
        try:
            return self.create(location)
        except FileExistsError:
            return self.reopen(location, 0)

    def reopen(self, location: str, size: int) -> int:
        """Return a descriptor for adding to the first `size` bytes. What lies after them is cut off.

        Raises:
            LocationGone: Nothing lies there, or less than `size` bytes do.
            LocationTaken: The file has a second name: a publisher died between link and unlink, and writing would
                change a blob.
        """
        descriptor = self._met(location, lambda path: os.open(path, os.O_WRONLY | os.O_NOFOLLOW))
        try:
            found = os.fstat(descriptor)
            if found.st_nlink > 1:
                raise LocationTaken(f"{location}: already published")
            if found.st_size < size:
                raise LocationGone(f"{location}: has {found.st_size} of the {size} bytes that were stored")
            if found.st_size > size:
                os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def open(self, location: str) -> tuple[int, int]:
        """Return a descriptor for reading, and the size in bytes. Raises LocationGone."""
        self.is_local()
        with translated(location):
            return self._met(location, open_sized)

    def is_local(self) -> bool:
        """Whether no other machine can have the root mounted as well. Not known before there is a root."""
        if self._local is None and os.path.isdir(self.folders.root):
            self._local = kernel.is_local(self.folders.root)
        return bool(self._local)

    def _met(self, location: str, call: Callable[[str], T]) -> T:
        """What `call` makes of the location's path.

        A machine that has once found nothing under a name may believe so for a minute (an NFS client for
        `acdirmax`), although another one has made the file meanwhile. So there nothing is only nothing when it is
        not there either after its folders have been opened again. (And one that believes that a file is still there
        may open what the server has no more: ESTALE.)
        """
        path = self.path(location)
        try:
            return call(path)
        except OSError as error:
            if error.errno not in MISSING or self.is_local():
                raise
            self.folders.read_again(os.path.dirname(path))
            return call(path)

    def open_cached(self, location: str) -> tuple[int, int] | None:
        """As `open`, without waiting; None when one would have to wait, or cannot know, or nothing lies there."""
        descriptor = kernel.open_cached(self.path(location)) if self._local else None
        return None if descriptor is None else sized(descriptor)

    def size(self, location: str) -> int | None:
        """Bytes at the location, None when no file lies there."""
        try:
            with translated(location):
                found = self._met(location, os.lstat)
                if not stat.S_ISREG(found.st_mode):
                    return None
                if self.is_local():
                    return found.st_size
                # Only whoever opens it sees what another machine has added: lstat(2) may answer from memory.
                descriptor, size = self._met(location, open_sized)
                os.close(descriptor)
                return size
        except LocationGone:
            return None

    def put(self, location: str, content: bytes) -> None:
        """Make the file of these bytes, durably with its name; O_EXCL never overwrites. A failure leaves nothing."""
        with translated(location):
            descriptor = self.create(location)
            try:
                try:
                    write_all(descriptor, content)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self.folders.settle(os.path.dirname(self.path(location)))
            except BaseException:
                self.delete(location)
                raise

    def put_all(self, contents: Mapping[str, bytes]) -> list[str]:
        """As `put`, many; those are returned whose location is taken. A failure leaves nothing of any."""
        made: dict[str, str] = {}
        taken = []
        try:
            for location, content in contents.items():
                try:
                    self._put_unsynced(location, content)
                    made[location] = self.path(location)
                except LocationTaken:
                    taken.append(location)
            self._sync(made)
        except BaseException:
            for location in made:
                self.delete(location)
            raise
        return taken

    def _put_unsynced(self, location: str, content: bytes) -> None:
        with translated(location):
            descriptor = self.create(location)
            try:
                write_all(descriptor, content)
            except BaseException:
                self.delete(location)
                raise
            finally:
                os.close(descriptor)

    def _sync(self, paths: Mapping[str, str]) -> None:
        with translated(self.folders.root):
            if sync_together(paths.values()):
                return
        for location, path in paths.items():
            with translated(location):
                sync_file(path)
                self.folders.settle(os.path.dirname(path))

    def publish(self, source: str, target: str, size: int) -> None:
        """Give the file of `size` bytes at `source` the name `target`, durably, then drop the name `source`.

        link(2) never overwrites and shows the file at once and whole. Killed before the link, nothing is at `target`;
        killed after it, both names lead to the same bytes, and doing it again succeeds. When the folders cannot be
        synced the new name is taken back, so that a failure never leaves a name that may or may not survive.
        """
        origin, path = self.path(source), self.path(target)
        if (found := self.size(source)) != size:
            raise LocationGone(f"{source}: has {found or 0} bytes, not {size}")
        with translated(target):
            self._place(source, target)
            try:
                self.folders.settle(os.path.dirname(path))
            except BaseException:
                if self.size(source) is None:
                    kernel.rename_new(path, origin)
                else:
                    os.unlink(path)
                self.folders.prune(os.path.dirname(path))
                raise
        self.delete(source)

    def _place(self, source: str, target: str) -> None:
        """The file has the name `target`, and its old one too where the file system knows second names."""
        origin, path = self.path(source), self.path(target)
        folder = os.path.dirname(path)
        if origin == path:
            raise LocationTaken(f"{target}: is the source itself")
        try:
            self.folders.inside(folder, lambda: self._name(source, path))
        except FileExistsError:
            if not os.path.samestat(os.lstat(origin), os.lstat(path)):
                raise
            # Ours, from before a crash, or from a reply of an NFS server that was lost.
        except (OSError, LocationGone):
            self.folders.prune(folder)
            raise

    def _name(self, source: str, path: str) -> None:
        if self.size(source) is None:
            raise LocationGone(f"{source}: nothing lies there")
        name_again(self.path(source), path)

    def copy(self, source: str, target: str, size: int) -> None:
        """Make `target` of the first `size` bytes of `source`. A failure leaves nothing at `target`."""
        with translated(source):
            origin, found = self.open(source)
        try:
            if found < size:
                raise LocationGone(f"{source}: has {found} of {size} bytes")
            with translated(target):
                self._copy_into(self.create(target), origin, target, size)
        finally:
            os.close(origin)

    def _copy_into(self, descriptor: int, origin: int, target: str, size: int) -> None:
        try:
            copy_bytes(origin, descriptor, size)
        except BaseException:
            self.delete(target)
            raise
        finally:
            os.close(descriptor)

    def delete(self, location: str) -> None:
        """Remove the file, and its folder when that is empty then. Nothing there is not an error."""
        path = self.path(location)
        with translated(location):
            try:
                self._met(location, os.unlink)
            except FileNotFoundError:
                pass  # the folder may be left from a deletion that was killed
            except (NotADirectoryError, IsADirectoryError):
                return
            self.folders.prune(os.path.dirname(path))

    def room(self) -> Room | None:
        """What the file system below the root has left. Before the first file, that of the folder it will be in.

        None where it says that it has no size at all: some of other machines cannot tell, or not yet.
        """
        with translated(self.folders.root):
            try:
                found = os.statvfs(self.folders.root)
            except FileNotFoundError:
                found = os.statvfs(next(each for each in Path(self.folders.root).parents if each.exists()))
        return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize) if found.f_blocks else None

    def check(self, location: str) -> None:
        """Write a file at `location`, sync it, read it, remove it. Raises StorageError with what went wrong."""
        proof = b"written to be read"
        with translated(location):
            descriptor = self.create(location)
            try:
                os.pwrite(descriptor, proof, 0)
                os.fsync(descriptor)
                reader, _ = self.open(location)
                try:
                    read = os.pread(reader, len(proof), 0)
                finally:
                    os.close(reader)
            finally:
                os.close(descriptor)
                self.delete(location)
        if read != proof:
            raise StorageError(f"{location}: what was written could not be read again")

    def walk(self, prefix: str) -> Generator[Found]:
        """Every file below the folder `prefix`. What vanishes meanwhile is passed over."""
        with translated(prefix):
            yield from self._walk(prefix)

    def _walk(self, folder: str) -> Iterator[Found]:
        try:
            entries = os.scandir(self.path(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                location = f"{folder}/{entry.name}"
                if not is_location(location) or entry.name.startswith(_DELETED_WHILE_OPEN):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(location)
                elif entry.is_file(follow_symlinks=False):
                    yield from found(location, entry)


def found(location: str, entry: os.DirEntry[str]) -> Iterator[Found]:
    """The file, unless it is gone by now."""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield Found(location, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
