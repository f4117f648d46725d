"""Tags: list them, look back, and bring back."""

from dataclasses import dataclass
from datetime import datetime

from stackyard.metadata import history, repositories, tags
from stackyard.metadata.database import Database
from stackyard.metadata.history import Past
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestUnknown, NameUnknown
from stackyard.registry.guards import TagGuard
from stackyard.registry.rules import Rules
from stackyard.registry.settings import Settings

# How many tags one read takes, so that the loop is never held for longer than a millisecond or two.
_BATCH = 10_000
_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of every repository."""

    database: Database
    settings: Settings
    rules: Rules

    async def page(self, repository: str, *, after: str, limit: int) -> tuple[list[str], bool]:
        """At most `limit` tags in byte order strictly after `after`, and whether more follow.

        Raises:
            NameUnknown: Nothing was ever pushed to this repository.
        """
        limit = min(limit, self.settings.max_tags)
        found = await self.database.read(tags.page, repository, after=after, limit=limit + 1) if limit else []
        if not found:
            await self._check_known(repository)
        return found[:limit], len(found) > limit

    async def all_as_json(self, repository: str, *, after: str) -> str:
        """All tags strictly after `after`, as the text of a JSON array. Raises as `page`."""
        count, last, array = await self._batch(repository, after)
        if not count:
            await self._check_known(repository)
        arrays = [array]
        while count == _BATCH:
            count, last, array = await self._batch(repository, last)
            arrays += [array] if count else []
        return f"[{','.join(one[1:-1] for one in arrays)}]"

    async def current(self, repository: str, tag: str) -> Past | None:
        """What the tag points to now; None when there is no such tag."""
        return await self.database.read(history.current, repository, tag)

    async def history(self, repository: str, tag: str, *, before: int | None, limit: int) -> list[tuple[int, Past]]:
        """What the tag pointed to before now, the last first, each with its number: those below `before`.

        Raises:
            NameUnknown: There is no such repository.
            ManifestUnknown: It has no such tag, and never had.
        """
        found = await self.database.read(history.page, repository, tag, before=before or _MOST, limit=limit)
        if not found:
            await self._check_known(repository)
            if before is None and await self.current(repository, tag) is None:
                raise ManifestUnknown(f"{repository} has no tag {tag} and had none, as far as is known")
        return found

    async def restore(
        self, repository: str, tag: str, *, digest: Digest | None, at: datetime | None, actor: str
    ) -> str:
        """Point the tag again to `digest`, to what it pointed to `at` a time, or to the last other one; the digest.

        Raises:
            NameUnknown: There is no such repository.
            NotRestorable: Nothing is known of it, or the manifest is gone.
        """
        return await self.database.write(
            history.restore_tag,
            repository=repository,
            tag=tag,
            digest=digest,
            at=at,
            actor=actor,
            promise=self.settings.promise,
            undo=self.settings.undo,
            guard=TagGuard(self.rules, repository, actor, override=True),
        )

    async def _batch(self, repository: str, after: str) -> tuple[int, str, str]:
        return await self.database.read(tags.page_as_json, repository, after=after, limit=_BATCH)

    async def _check_known(self, repository: str) -> None:
        if not await self.database.read(repositories.exists, repository):
            raise NameUnknown(name=repository)
