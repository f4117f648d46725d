"""Folders that come and go under concurrent writers, and how their names survive a power cut.

The argument. A file survives a power cut when its own bytes were synced, and when every folder from its own up to
the root was synced after the name in it was made (fsync(2): "does not necessarily ensure that the entry in the
directory containing the file has also reached disk"). Syncing only what one made oneself is not enough: the folder
that was there already may be a neighbour's, another process made it a moment ago and has not come to its own sync,
or was killed before it. So a process trusts no folder that it merely finds. The first time that it publishes below a
folder it syncs the folder's parent itself, and remembers that; from then on the name of the folder is on the disk
and stays there, because only a folder that directly holds locations is ever removed (`prune`), and those are never
remembered: their parent is synced each time. Two processes that make the same folder at the same moment each sync its
parent after the folder was there, so each may answer, whatever becomes of the other.

The price: two syncs per published file, and one more for each folder that a process meets for the first time.
This relies on a property of the layout: no folder holds both locations and folders that hold locations.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

# What a file system says that cannot sync a folder (CIFS, some FUSE ones): there, making a name is all one can do.
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)

# What there is to say of a file that is not there, or not any more where a server has it.
MISSING = (errno.ENOENT, errno.ESTALE)

# A folder that vanishes this often between two calls is not a neighbour's doing but a dangling symlink.
_ATTEMPTS = 100


class Folders:
    """Makes folders below `root`, makes their names durable, and removes those left empty. Used from many threads."""

    def __init__(self, root: str) -> None:
        """`root` is absolute and normal. Touches nothing."""
        self.root = root
        self._durable: set[str] = set()

    def make(self, folder: str) -> None:
        """`folder` exists, with its parents, as the umask allows. A neighbour may remove it again at once."""
        for _ in range(_ATTEMPTS):
            try:
                os.mkdir(folder)
                self._durable.discard(folder)  # somebody tidied up by hand
                return
            except FileExistsError:
                return
            except FileNotFoundError:
                self.make(os.path.dirname(folder))
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)

    def inside(self, folder: str, call: Callable[[], T]) -> T:
        """Make `folder`, then return what `call` does there. Both again when a neighbour removed the empty folder."""
        for _ in range(_ATTEMPTS):
            self.make(folder)
            with suppress(FileNotFoundError):
                return call()
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)

    def read_again(self, folder: str) -> None:
        """What this machine remembers not to be in `folder`, and in those above it, is asked for again.

        Opening a folder makes an NFS client compare it with the server's (close-to-open); reading is for the others.
        Raises FileNotFoundError when there is no such folder, or no root.
        """
        try:
            _read(folder)
        except OSError as error:
            if error.errno not in MISSING or folder == self.root:
                raise
            self.read_again(os.path.dirname(folder))
            _read(folder)

    def settle(self, folder: str) -> None:
        """The names in `folder`, and `folder` itself up to the root, survive a power cut."""
        sync_folder(folder)
        if folder != self.root:
            folder = os.path.dirname(folder)
            sync_folder(folder)
        fresh = []
        while folder not in self._durable and not self._is_foundation(folder):
            fresh.append(folder)
            folder = os.path.dirname(folder)
            try:
                sync_folder(folder)
            except PermissionError:
                if self._is_inside(folder):
                    raise
                break  # above the root, and another user's: it was made before us
        self._durable.update(fresh)

    def prune(self, folder: str) -> None:
        """Remove `folder` when it is empty and not the root. Whoever needs it at this moment makes it again."""
        if folder == self.root:
            return
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EBUSY):
                raise

    def _is_inside(self, folder: str) -> bool:
        return folder == self.root or folder.startswith(self.root + "/")

    def _is_foundation(self, folder: str) -> bool:
        """Whether the name of `folder` is none of our making: the root's mount point, or one above."""
        return not folder.startswith(self.root + "/") and os.path.ismount(folder)


def _read(folder: str) -> None:
    with os.scandir(folder) as entries:
        next(entries, None)


def sync_folder(folder: str) -> None:
    """The names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
