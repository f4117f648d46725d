"""What the rooms below can fail with, as refusals that a client can act on."""

from typing import Any

import structlog

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


def tell(what: str, error: BaseException, **about: Any) -> None:
    """Log what ended a round of background work: in one line, and with its trace only where it is our own fault."""
    log = structlog.get_logger("stackyard.jobs")
    refused = refusal(error)
    if refused is None:
        log.error(what, exc_info=error, **about)
    else:
        log.warning(what, reason=str(error.__cause__ or error) or refused.text, **about)
