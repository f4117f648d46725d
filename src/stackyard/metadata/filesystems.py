"""Whether SQLite's write-ahead log is safe on a file system.

WAL keeps its index in memory that the processes of one machine share through a mapped file, and relies on their locks.
Network file systems promise neither between machines, and FUSE ones often not even on one.
"""

import ctypes
import errno
import mmap
import os
import tempfile
from pathlib import Path

from stackyard.metadata.errors import UnsafeFileSystem

# statfs(2) f_type, from linux/magic.h and the file systems' own headers.
_UNSAFE = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x65735546: "FUSE",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x00C36400: "CephFS",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x786F4256: "VirtualBox shared folders",
}
_STATFS_BYTES = 256  # struct statfs needs 120 at most


def check_folder(folder: Path) -> None:
    """Raises UnsafeFileSystem when a database in this folder could be damaged."""
    name = unsafe_name(_type(folder))
    if name is None and not _shares_memory(folder):
        name = "one that does not share mapped memory"
    if name is not None:
        raise UnsafeFileSystem(
            f"the folder of the database, {folder}, lies on a file system where SQLite is not safe ({name}): "
            "choose a database file on a local disk, or PostgreSQL"
        )


def unsafe_name(magic: int) -> str | None:
    """What to call the file system with this number of statfs(2), if it is one where WAL is unsafe."""
    return _UNSAFE.get(magic)


def _type(folder: Path) -> int:
    """The magic number of the file system, 0 when it cannot be told."""
    statfs = getattr(ctypes.CDLL(None, use_errno=True), "statfs", None)
    if statfs is None:
        return 0
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if statfs(os.fsencode(folder), answer) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF


def _shares_memory(folder: Path) -> bool:
    """Whether two openings of one file, mapped, see each other's bytes. Taken for granted where the disk is full."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as first, Path(first.name).open("r+b") as second:
            # Not only made longer: touching a mapped hole on a full disk would be our end (SIGBUS).
            os.pwrite(first.fileno(), bytes(mmap.PAGESIZE), 0)
            return _see_each_other(first.fileno(), second.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        raise


def _see_each_other(first: int, second: int) -> bool:
    try:
        with mmap.mmap(first, mmap.PAGESIZE) as here, mmap.mmap(second, mmap.PAGESIZE) as there:
            here[0] = 1
            return there[0] == 1
    except OSError:
        return False
