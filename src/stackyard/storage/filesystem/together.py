"""Many files made durable at the price of a few.

Each fsync(2) of a new file makes the file system write its journal out: hundreds in a row take seconds, and everybody
else who syncs waits between them. syncfs(2) writes once, for all of them. It also brings to the disk what others have
written there, so it is not for a few files.
"""

import os
from collections.abc import Collection

from stackyard.storage.filesystem import kernel

_MANY = 16


def sync_together(paths: Collection[str]) -> bool:
    """These files and folders survive a power cut, with all their names.

    False when nothing was done: they are few, or not all there, or lie where that cannot be had. Then each has to be
    synced by itself.
    """
    if len(paths) < _MANY:
        return False
    try:
        # A folder may be a link to another disk.
        of_each_device = {os.stat(path).st_dev: path for path in paths}.values()
        return all(map(kernel.is_local, of_each_device)) and all(map(_sync_device, of_each_device))
    except FileNotFoundError:
        return False


def sync_file(path: str) -> None:
    """The bytes of one file survive a power cut; its name has to be synced with its folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_device(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return kernel.sync_file_system(descriptor)
    finally:
        os.close(descriptor)
