"""The registry: all its nouns in one place."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackyard.metadata import hiding
from stackyard.metadata.ballast import Ballast
from stackyard.metadata.database import Database
from stackyard.oci import layout
from stackyard.oci.errors import Unavailable
from stackyard.registry.audit import Audit
from stackyard.registry.blobs import Blobs
from stackyard.registry.check import Check
from stackyard.registry.cleanup import Cleanup
from stackyard.registry.collection import Collection
from stackyard.registry.following import Following
from stackyard.registry.imports import Imports
from stackyard.registry.jobs import Jobs
from stackyard.registry.joining import Joining
from stackyard.registry.leases import Leases
from stackyard.registry.manifests import Manifests
from stackyard.registry.presence import Presence
from stackyard.registry.pulls import Pulls
from stackyard.registry.purge import Purge
from stackyard.registry.quotas import Quotas
from stackyard.registry.referrers import Referrers
from stackyard.registry.repositories import Repositories
from stackyard.registry.rules import Rules
from stackyard.registry.scrub import Scrub
from stackyard.registry.settings import Settings
from stackyard.registry.space import Space
from stackyard.registry.tags import Tags
from stackyard.registry.untagged import Untagged
from stackyard.registry.uploads import Uploads
from stackyard.storage.driver import BlobStore
from stackyard.storage.smallfiles import SmallFiles

if TYPE_CHECKING:
    from stackyard.registry.listings import Listings

_PATIENCE = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Registry:
    """What `http`, `api` and `web` speak to; it alone speaks to storage and metadata."""

    settings: Settings
    blobs: Blobs
    uploads: Uploads
    manifests: Manifests
    tags: Tags
    repositories: Repositories
    referrers: Referrers
    pulls: Pulls
    rules: Rules
    cleanup: Cleanup
    untagged: Untagged
    collection: Collection
    purge: Purge
    scrub: Scrub
    comparison: Check
    imports: Imports
    presence: Presence
    jobs: Jobs
    audit: Audit
    quotas: Quotas
    space: Space
    joining: Joining
    following: Following | None
    """None: there is nothing that Distribution could read."""

    @property
    def reads_in_place(self) -> bool:
        """Whether reading rows waits for nobody."""
        return self.blobs.database.reads_in_place

    @property
    def listings(self) -> "Listings":
        """What administrators are shown. Loaded for who asks: its statements are large."""
        from stackyard.registry.listings import Listings

        return Listings(self.blobs.database)

    async def check(self) -> None:
        """Prove, with two reads, that database and store answer. Raises Unavailable when one does not in time.

        A bucket is not asked: it is the same one for all nodes, and one that is down is no reason to take every node
        out of service, as most of what clients ask is in the database.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.repositories.page(after="", limit=1, may_see=None)
                if self.blobs.store.renames:
                    await self.blobs.store.size(layout.OWN)
        except TimeoutError:
            raise Unavailable("the registry's database or storage does not answer in time") from None

    @classmethod
    def over(
        cls,
        store: BlobStore,
        database: Database,
        settings: Settings,
        files: SmallFiles | None = None,
        ballast: Ballast | None = None,
    ) -> "Registry":
        """A registry over these bytes and rows.

        Args:
            files: Where another registry may have left something.
            ballast: What the database gives back when it is full.
        """
        space = Space(store, database, settings.reserve, ballast)
        rules = Rules(database)
        presence = Presence(database, files)
        blobs = Blobs(store, database, settings, rules, presence)
        manifests = Manifests(database, settings, blobs, rules)
        imports = Imports(store, database, settings, files)
        leases, pulls = Leases(database), Pulls(database)
        return cls(
            settings,
            blobs,
            Uploads(store, database, settings, imports, space, presence),
            manifests,
            Tags(database, settings, rules),
            Repositories(database, settings, imports),
            Referrers(database),
            pulls,
            rules,
            Cleanup(database, settings, leases, rules, pulls),
            Untagged(database, settings, leases),
            Collection(store, database, leases, settings.undo, _untagged(settings), settings.linger),
            Purge(store, database),
            Scrub(store, database, leases, settings.scrub_rate, settings.scrub_every),
            Check(store, database, imports),
            imports,
            presence,
            Jobs(database, leases),
            Audit(database),
            Quotas(database, leases),
            space,
            Joining(store, database, leases),
            Following(store, database, files) if files else None,
        )


def _untagged(settings: Settings) -> hiding.Untagged | None:
    return hiding.Untagged(settings.untagged, settings.undo) if settings.untagged else None
