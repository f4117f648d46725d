"""Calls on one file with what belongs to them: used by all that reads and writes files."""

import errno
import os
import stat

from stackyard.storage.driver import LocationGone, StorageError
from stackyard.storage.filesystem import kernel

# As Distribution's: the umask decides.
FILE_MODE = 0o666

# FAT, and some file systems of other machines, have one name for each file.
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)

_NO_COPY_IN_KERNEL = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
_COPY_PIECE = 1 << 20


def open_sized(path: str) -> tuple[int, int]:
    """Open for reading, following no link: as `sized`."""
    return sized(os.open(path, os.O_RDONLY | os.O_NOFOLLOW))


def sized(descriptor: int) -> tuple[int, int]:
    """The descriptor and its file's size in bytes. Raises LocationGone, and closes it, when that is not a file."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    if stat.S_ISREG(found.st_mode):
        return descriptor, found.st_size
    os.close(descriptor)
    raise LocationGone("a folder or a device, not a file")


def name_again(origin: str, path: str) -> None:
    """Give the file a second name, or, on a file system without hard links, another one. Never replaces a file."""
    try:
        os.link(origin, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        kernel.rename_new(origin, path)


def write_all(descriptor: int, content: bytes) -> None:
    """Write the bytes; a signal or a full disk may make the kernel take them in parts."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def copy_bytes(origin: int, target: int, size: int) -> None:
    """Copy the first `size` bytes, within the kernel where it can (a shared extent, where the file system can)."""
    done = 0
    try:
        while done < size:
            copied = os.copy_file_range(origin, target, size - done, done, done)
            if copied == 0:
                break  # shorter than its size said, or a file system of generated files
            done += copied
    except OSError as error:
        if error.errno not in _NO_COPY_IN_KERNEL:
            raise
    while done < size:
        piece = os.pread(origin, min(_COPY_PIECE, size - done), done)
        if not piece:
            raise StorageError("the file became shorter while it was copied")
        done += os.pwrite(target, piece, done)
