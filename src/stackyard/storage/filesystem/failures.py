"""What the operating system refuses, in the words of the driver's contract."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from stackyard.storage.driver import LocationGone, LocationTaken, OutOfSpace, StorageError

_CLASSES: dict[int | None, type[StorageError]] = {
    errno.ENOENT: LocationGone,
    errno.ENOTDIR: LocationGone,
    errno.EEXIST: LocationTaken,
    errno.EISDIR: LocationTaken,
    errno.ENOSPC: OutOfSpace,
    errno.EDQUOT: OutOfSpace,
}


def storage_error(error: OSError, location: str) -> StorageError:
    """The contract's error for this one of the operating system, with its reason in words."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return _CLASSES.get(error.errno, StorageError)(f"{location}: {reason}")


@contextmanager
def translated(location: str) -> Iterator[None]:
    """Turn OSError in the block into StorageError about `location`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, location) from error
