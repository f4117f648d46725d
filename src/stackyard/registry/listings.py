"""What administrators are shown."""

from dataclasses import dataclass
from typing import Literal

from stackyard.metadata import repositories as names
from stackyard.metadata.database import Database
from stackyard.metadata.listings import manifests, repositories, tags, usage
from stackyard.metadata.listings.manifests import Details, Manifest
from stackyard.metadata.listings.repositories import Repository
from stackyard.metadata.listings.tags import Tag
from stackyard.metadata.listings.usage import Usage
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestUnknown, NameUnknown

__all__ = ["Details", "Listings", "Manifest", "Repository", "Tag", "Usage", "Which"]

Which = Literal["all", "untagged", "deleted"]


@dataclass(frozen=True, slots=True)
class Listings:
    """Lists of repositories, tags and manifests."""

    database: Database

    async def repositories(self, *, after: str, limit: int) -> list[Repository]:
        """At most `limit` repositories in byte order of names, strictly after `after`."""
        return await self.database.survey(repositories.page, after=after, limit=limit)

    async def deleted_repositories(self, *, after: str, after_id: int, limit: int) -> list[Repository]:
        """Those that can be restored, by name and id, strictly after these."""
        return await self.database.survey(repositories.deleted, after=after, after_id=after_id, limit=limit)

    async def repository(self, name: str) -> Repository:
        """One repository. Raises NameUnknown."""
        found = await self.database.survey(repositories.find, name)
        if found is None:
            raise NameUnknown(name=name)
        return found

    async def tags(self, repository: str, *, deleted: bool = False, after: str, limit: int) -> list[Tag]:
        """Tags in byte order, strictly after `after`: those that are there, or those that went. Raises NameUnknown."""
        page = tags.deleted if deleted else tags.page
        found = await self.database.survey(page, repository, after=after, limit=limit)
        if not found:
            await self._check_known(repository)
        return found

    async def tag(self, repository: str, tag: str) -> Tag:
        """One tag. Raises ManifestUnknown."""
        found = await self.database.survey(tags.find, repository, tag)
        if found is None:
            raise ManifestUnknown(tag=tag)
        return found

    async def manifests(self, repository: str, *, which: Which, after: str, limit: int) -> list[Manifest]:
        """Manifests in byte order of digests, strictly after `after`. Raises NameUnknown."""
        found = await self.database.survey(manifests.page, repository, which=which, after=after, limit=limit)
        if not found:
            await self._check_known(repository)
        return found

    async def manifest(self, repository: str, reference: str) -> Details:
        """The manifest of a Digest or a tag. Raises ManifestUnknown."""
        key = "digest" if isinstance(reference, Digest) else "tag"
        found = await self.database.survey(manifests.find, repository, **{key: reference})
        if found is None:
            raise ManifestUnknown(reference=reference)
        return found

    async def usage(self, prefix: str) -> Usage:
        """The bytes of all repositories whose names begin so."""
        return await self.database.survey(usage.of_group, prefix=prefix)

    async def usages(self, prefix: str, *, after: str, limit: int) -> list[tuple[str, Usage]]:
        """Those of each of them that is not deleted, in byte order of names, strictly after `after`."""
        return await self.database.survey(usage.page, prefix=prefix, after=after, limit=limit)

    async def _check_known(self, repository: str) -> None:
        if not await self.database.read(names.exists, repository):
            raise NameUnknown(name=repository)
