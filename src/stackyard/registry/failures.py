"""What the rooms below can fail with, as refusals that a client can act on."""

from stackyard.metadata.errors import DatabaseFull, DatabaseUnavailable
from stackyard.oci.errors import RegistryError, StorageFull, Unavailable
from stackyard.storage.driver import OutOfSpace, StorageError


def refusal(error: BaseException) -> RegistryError | None:
    """The refusal that `error` amounts to, None when it is our own fault."""
    if isinstance(error, RegistryError):
        return error
    if isinstance(error, OutOfSpace | DatabaseFull):
        return StorageFull(headers={"Retry-After": "60"})
    if isinstance(error, StorageError):
        return Unavailable("the registry's storage does not answer", headers={"Retry-After": "10"})
    if isinstance(error, DatabaseUnavailable):
        return Unavailable("the registry's database does not answer", headers={"Retry-After": "10"})
    return None
