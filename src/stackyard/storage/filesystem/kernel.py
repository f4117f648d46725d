"""Calls of Linux that Python has no name for.

On another system, an older kernel, or behind a filter that forbids them, those that only make something faster do
nothing, and `rename_new` says so.
"""

import ctypes
import errno
import os
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
_RENAME_NOREPLACE = 1  # linux/fs.h

_SYS_OPENAT2 = 437  # the same on every architecture that Linux numbers uniformly, x86-64 among them
_AT_FDCWD = -100
_RESOLVE_CACHED = 0x20  # linux/openat2.h

# File systems whose open(2) waits for no server once the name is known: statfs(2), linux/magic.h.
_LOCAL = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
}


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW = _OpenHow(os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
_HOW_SIZE = ctypes.sizeof(_HOW)


def _function(name: str, *arguments: Any) -> Any:
    """The C library's function, or None where it has none of this name."""
    found = getattr(_libc, name, None)
    if found is not None:
        found.argtypes = arguments
    return found


_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_renameat2 = _function("renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_syncfs = _function("syncfs", ctypes.c_int)
_statfs = _function("statfs", ctypes.c_char_p, ctypes.c_char_p)
_syscall = _function("syscall", ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


def start_writing_back(descriptor: int, start: int, size: int) -> None:
    """Let the kernel begin to write these bytes to the disk, so that less is left for fsync(2) to wait for."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, start, size, _SYNC_FILE_RANGE_WRITE)


def sync_file_system(descriptor: int) -> bool:
    """Bring all of the descriptor's file system to the disk. False where there is no such call; raises OSError.

    Only to be relied upon where `is_local`: over FUSE it may do nothing.
    """
    if _syncfs is None:
        return False
    if _syncfs(descriptor) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code))


def is_local(path: str) -> bool:
    """Whether `path` lies on a file system known to need no server."""
    report = ctypes.create_string_buffer(256)
    if _statfs is None or _statfs(os.fsencode(path), report) != 0:
        return False
    return ctypes.c_long.from_buffer(report).value in _LOCAL


def open_cached(path: str) -> int | None:
    """Open for reading if the kernel knows the whole path by heart. None when not, for whatever reason."""
    if _syscall is None:
        return None
    descriptor: int = _syscall(_SYS_OPENAT2, _AT_FDCWD, os.fsencode(path), _HOW, _HOW_SIZE)
    return descriptor if descriptor >= 0 else None


def rename_new(source: str, target: str) -> None:
    """Rename, never over anything. Raises OSError as rename(2); ENOSYS where there is no such call."""
    ctypes.set_errno(errno.ENOSYS)
    names = os.fsencode(source), os.fsencode(target)
    if _renameat2 is None or _renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)
