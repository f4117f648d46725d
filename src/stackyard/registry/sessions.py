"""An upload session while a request works on it."""

import time
from dataclasses import dataclass, field, replace

from stackyard.metadata.quotas import Allowance
from stackyard.metadata.uploads import Upload
from stackyard.oci.digests import Hasher
from stackyard.registry.publication import Place


@dataclass(slots=True)
class Session:
    """A claimed session while one request works on it."""

    upload: Upload
    place: Place | None = None
    """Where its bytes will be a blob, once that is settled."""
    renewed: float = field(default_factory=time.monotonic)
    closed: bool = False
    """Whether the row has been released or committed already."""
    allowance: Allowance | None = None
    """What its bytes may come to; None: any number."""

    def check_room(self, size: int, *, growing: bool = False) -> None:
        """Raises QuotaExceeded when so many bytes, or more, do not fit. Asks nobody: the commit does."""
        if self.allowance is not None and size > self.allowance.free:
            raise self.allowance.refusal(None if growing else size)

    def moved(self, offset: int, location: str, hasher: Hasher | None) -> None:
        """The store holds `offset` bytes now."""
        if offset == self.upload.offset:
            return  # and what was known of their digest, by whichever worker, stays known
        known = hasher.digest() if hasher and hasher.size == offset else None
        self.upload = replace(self.upload.at(location), offset=offset, hashed=known)
