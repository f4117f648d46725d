"""Repositories: the catalogue, deleting and bringing back."""

from collections.abc import Callable
from dataclasses import dataclass

from stackyard.metadata import imports, repositories
from stackyard.metadata.database import Database
from stackyard.oci.errors import NameUnknown, PaginationInvalid
from stackyard.registry.imports import Imports
from stackyard.registry.settings import Settings

_DEFAULT_PAGE = 100
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Repositories:
    """Every repository that something was pushed to."""

    database: Database
    settings: Settings
    imports: Imports

    async def page(
        self, *, after: str, limit: int | None, may_see: Callable[[str], bool] | None
    ) -> tuple[list[str], bool]:
        """Names in byte order strictly after `after` that the caller may pull, and whether more follow.

        `may_see` None shows all. Raises PaginationInvalid when more than a page may hold is asked for.
        """
        wanted = min(_DEFAULT_PAGE, self.settings.max_catalog) if limit is None else limit
        if wanted > self.settings.max_catalog:
            raise PaginationInvalid(f"n may be at most {self.settings.max_catalog}")
        if wanted == 0:
            return [], False
        shown: list[str] = []
        batch = wanted + 1 if may_see is None else _BATCH
        while len(shown) <= wanted:
            page = imports.page if self.imports.pending else repositories.page
            names = await self.database.read(page, after=after, limit=batch)
            shown += names if may_see is None else filter(may_see, names)
            if len(names) < batch:
                break
            after = names[-1]
        return shown[:wanted], len(shown) > wanted

    async def delete(self, name: str, *, actor: str) -> None:
        """Hide it with all that it holds; it can be restored until the undo span ends. Raises NameUnknown."""
        if not await self.database.write(repositories.delete, name, actor=actor, undo=self.settings.undo):
            raise NameUnknown(f"there is no repository {name}")

    async def restore(self, name: str, *, actor: str) -> None:
        """Show the one that was deleted last under this name.

        Raises:
            NotRestorable: There is none, or its undo span is over.
            AlreadyThere: Another one was pushed meanwhile.
            QuotaExceeded: It does not fit any more.
        """
        while not await self.database.write(repositories.restore, name, actor=actor):
            pass
