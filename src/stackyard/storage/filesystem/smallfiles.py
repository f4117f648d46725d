"""Small files in folders, as blocking calls for a few threads."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from stackyard.storage.driver import LocationGone, StorageError
from stackyard.storage.filesystem.calls import FILE_MODE, write_all
from stackyard.storage.filesystem.failures import translated
from stackyard.storage.filesystem.folders import Folders, sync_folder
from stackyard.storage.filesystem.threads import Threads
from stackyard.storage.filesystem.together import sync_file, sync_together
from stackyard.storage.locations import check_location, is_location
from stackyard.storage.smallfiles import FileEntry, SmallFile

_NO_SECOND_NAMES = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class FilesystemSmallFiles:
    """`SmallFiles` below one folder.

    A file is written under a name of this process's own and then renamed, each batch together. Its folders are synced
    up to the root with each batch, remembering nothing: unlike those of blobs, any of them may have been removed and
    made again by another process meanwhile.
    """

    def __init__(self, root: Path, threads: int = 4) -> None:
        """`root` need not exist. Starts no thread yet."""
        self._root = os.path.abspath(root)
        self._folders = Folders(self._root)
        self._threads = Threads(threads)
        self._temporary = f".{secrets.token_hex(4)}.tmp"

    async def folders(self, prefix: str) -> list[str]:
        """See SmallFiles."""
        return await self._threads.run(self._list, check_location(prefix))

    async def entries(self, folders: Sequence[str]) -> list[list[FileEntry]]:
        """See SmallFiles."""
        return await self._threads.run(lambda: [self._entries(check_location(each)) for each in folders])

    async def read(self, locations: Sequence[str], *, limit: int) -> list[SmallFile | None]:
        """See SmallFiles."""
        return await self._threads.run(lambda: [self._read(check_location(each), limit) for each in locations])

    async def sizes(self, locations: Sequence[str]) -> list[int | None]:
        """See SmallFiles."""
        return await self._threads.run(lambda: [self._size(check_location(each)) for each in locations])

    async def changed(self, folders: Sequence[str]) -> list[int | None]:
        """See SmallFiles."""
        return await self._threads.run(lambda: [self._changed(check_location(each)) for each in folders])

    async def write(self, files: Mapping[str, bytes]) -> None:
        """See SmallFiles."""
        await self._threads.run(self._write, {check_location(each): content for each, content in files.items()})

    async def remove(self, folders: Sequence[str]) -> None:
        """See SmallFiles."""
        await self._threads.run(self._remove, [check_location(each) for each in folders])

    async def alias(self, origin: str, location: str) -> bool:
        """See SmallFiles."""
        return await self._threads.run(self._alias, check_location(origin), check_location(location))

    async def close(self) -> None:
        """See SmallFiles."""
        await self._threads.close()

    def _path(self, location: str) -> str:
        return f"{self._root}/{location}"

    def _list(self, prefix: str) -> list[str]:
        try:
            with translated(prefix), os.scandir(self._path(prefix)) as entries:
                return sorted(each.name for each in entries if is_location(each.name) and each.is_dir())
        except LocationGone:
            return []

    def _entries(self, folder: str) -> list[FileEntry]:
        found = []
        try:
            with translated(folder), os.scandir(self._path(folder)) as entries:
                for each in entries:
                    with suppress(FileNotFoundError):
                        if each.is_file(follow_symlinks=False):
                            status = each.stat(follow_symlinks=False)
                            found.append(FileEntry(each.name, status.st_size, status.st_ino))
        except LocationGone:
            return []
        return found

    def _read(self, location: str, limit: int) -> SmallFile | None:
        try:
            with translated(location):
                descriptor = os.open(self._path(location), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    status = os.fstat(descriptor)
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    content = os.read(descriptor, limit + 1) if status.st_size <= limit else None
                finally:
                    os.close(descriptor)
        except LocationGone:
            return None
        return SmallFile(content, status.st_size, modified)

    def _size(self, location: str) -> int | None:
        try:
            with translated(location):
                return os.stat(self._path(location), follow_symlinks=False).st_size
        except LocationGone:
            return None

    def _changed(self, folder: str) -> int | None:
        try:
            with translated(folder):
                return os.stat(self._path(folder)).st_mtime_ns
        except LocationGone:
            return None

    def _write(self, files: Mapping[str, bytes]) -> None:
        written: dict[str, str] = {}
        try:
            for location, content in files.items():
                with translated(location):
                    written[location] = self._write_beside(self._path(location), content)
            self._sync_files(written)
            for location, temporary in written.items():
                with translated(location):
                    os.rename(temporary, self._path(location))
        except StorageError:
            for temporary in written.values():
                with suppress(OSError):
                    os.unlink(temporary)
            raise
        self._sync_folders(map(os.path.dirname, map(self._path, files)))

    def _write_beside(self, path: str, content: bytes) -> str:
        """The path of what was written."""
        temporary = path + self._temporary
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = self._folders.inside(os.path.dirname(path), lambda: os.open(temporary, flags, FILE_MODE))
        try:
            write_all(descriptor, content)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return temporary

    def _sync_files(self, paths: Mapping[str, str]) -> None:
        """By location."""
        with translated(self._root):
            if sync_together(paths.values()):
                return
        for location, path in paths.items():
            with translated(location):
                sync_file(path)

    def _remove(self, folders: Sequence[str]) -> None:
        for folder in folders:
            with translated(folder), suppress(FileNotFoundError):
                shutil.rmtree(self._path(folder))
        # A parent may never have been there, or be gone as well.
        self._sync_folders({os.path.dirname(self._path(folder)) for folder in folders})

    def _alias(self, origin: str, location: str) -> bool:
        with translated(origin):
            before, path = self._path(origin), self._path(location)
            try:
                os.link(before, path, follow_symlinks=False)
            except FileExistsError:
                return os.path.samestat(os.lstat(before), os.lstat(path))
            except OSError as error:
                if error.errno in _NO_SECOND_NAMES:
                    return False
                raise
            sync_folder(os.path.dirname(path))
            return True

    def _sync_folders(self, folders: Iterable[str]) -> None:
        """These folders, and those above them, as far as the root."""
        known: set[str] = set()
        for folder in folders:
            while folder not in known and folder.startswith(self._root):
                known.add(folder)
                folder = os.path.dirname(folder)
        with translated(self._root):
            if not sync_together(known):
                for folder in known:
                    with suppress(FileNotFoundError):
                        sync_folder(folder)
