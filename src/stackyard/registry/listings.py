"""What administrators are shown."""

from dataclasses import dataclass

from stackyard.metadata import listings
from stackyard.metadata.database import Database
from stackyard.metadata.listings import Repository
from stackyard.oci.errors import NameUnknown


@dataclass(frozen=True, slots=True)
class Listings:
    """Lists of repositories, tags and manifests."""

    database: Database

    async def repositories(self, *, after: str, limit: int) -> list[Repository]:
        """At most `limit` repositories in byte order of names, strictly after `after`."""
        return await self.database.read(listings.repositories, after=after, limit=limit)

    async def repository(self, name: str) -> Repository:
        """One repository. Raises NameUnknown."""
        found = await self.database.read(listings.find_repository, name)
        if found is None:
            raise NameUnknown(name=name)
        return found
