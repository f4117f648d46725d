"""Referrers: the manifests that name another as their subject."""

from dataclasses import dataclass

from stackyard.metadata import referrers
from stackyard.metadata.database import Database
from stackyard.metadata.referrers import Referrer as Referrer
from stackyard.oci.digests import Digest

# Descriptors on one page; with ordinary annotations well below the 4 MiB that clients read of a manifest.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Referrers:
    """Referrers within one repository."""

    database: Database

    async def page(
        self, repository: str, subject: Digest, *, artifact_type: str | None, after: str
    ) -> tuple[list[Referrer], bool]:
        """Referrers in digest order after `after`, and whether more follow. An unknown subject has none."""
        found = await self.database.read(
            referrers.page, repository, subject, artifact_type=artifact_type, after=after, limit=PAGE + 1
        )
        return found[:PAGE], len(found) > PAGE
