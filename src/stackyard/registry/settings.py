"""What an administrator may choose about the registry itself, as plain values."""

import re
from dataclasses import dataclass
from datetime import timedelta

from stackyard.metadata.blobs import READER_SPAN
from stackyard.oci import manifests


@dataclass(frozen=True, slots=True)
class Settings:
    """Spans, limits and policies. The defaults are the product's."""

    promise: timedelta = timedelta(hours=1)
    """How long what was acknowledged (201, HEAD 200, mount) is safe from collection, whatever else is set."""
    undo: timedelta = timedelta(days=7)
    """How long what was deleted or overwritten can be restored."""
    untagged: timedelta | None = None
    """How long a manifest is kept that has no tag, that nothing names and nobody pulls by digest; None: for ever."""
    claim: timedelta = timedelta(seconds=30)
    """How long a silent writer keeps an upload session to itself."""
    max_catalog: int = 1000
    """Most repositories on one page of the catalogue."""
    max_tags: int = 1000
    """Most tags on a page that was asked for by `n`."""
    max_writers: int = 1000
    """Most uploads that one worker receives at the same time."""
    max_manifest: int = manifests.MAX_SIZE
    """Most bytes of a manifest."""
    linger: timedelta = READER_SPAN
    """How long bytes outlive the moment at which nothing shows them any more."""
    scrub_rate: int = 8 << 20
    """Bytes per second that are read back in the background; 0: none."""
    scrub_every: timedelta = timedelta(days=30)
    """How often every blob is read back."""
    delete_enabled: bool = False
    read_only: bool = False
    reserve: int | None = None
    """Bytes of the disk that no push takes; None: what suits the disk."""
    redirect: bool = True
    sparse_indexes: bool = False
    """Whether an index may name children that are not here."""
    sparse_platforms: frozenset[str] = frozenset()
    """`os/architecture` of the children that must be here even so."""
    urls_allow: tuple[re.Pattern[str], ...] = ()
    urls_deny: tuple[re.Pattern[str], ...] = ()
