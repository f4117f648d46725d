"""Collecting, purging, scrubbing, checking and giving the volume back as jobs that an administrator asks for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from stackyard.oci.digests import Digest, is_digest
from stackyard.oci.errors import Unsupported
from stackyard.registry.check import Checked
from stackyard.registry.collection import Freed, Untagged
from stackyard.registry.jobs import Kind, Work
from stackyard.registry.purge import Gone
from stackyard.registry.registry import Registry
from stackyard.registry.scrub import Scrubbed


@dataclass(frozen=True, slots=True)
class Tasks:
    """What can be asked for, over one registry."""

    registry: Registry

    @property
    def kinds(self) -> dict[str, Kind]:
        """By name."""
        return {
            "gc": self.collect,
            "purge": self.purge,
            "scrub": self.scrub,
            "check": self.check,
            "distribution": self.distribution,
        }

    async def collect(self, work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        """`grace_seconds`, `dry_run`, `delete_untagged`."""
        grace = request["grace_seconds"]
        span = None if grace is None else timedelta(seconds=grace)
        untagged = request["delete_untagged"]
        await work.report("looking for what can go")
        if request["dry_run"]:
            return await self._survey(span, untagged)
        collection = self.registry.collection
        total = (await collection.survey(grace=span, delete_untagged=untagged)).size
        before = Freed(**(work.checkpoint or {}))

        async def tell(freed: Freed) -> None:
            size = before.size + freed.size
            checkpoint = asdict(_sum(before, freed))
            await work.report("collecting", size, max(before.size + total, size), unit="bytes", checkpoint=checkpoint)

        how = Untagged(timedelta(), self.registry.settings.undo) if untagged else None
        freed = _sum(before, await collection.run(grace=span, untagged=how, tell=tell))
        return {
            "manifests": freed.manifests,
            "repositories": freed.repositories,
            "blobs": freed.blobs,
            "bytes": freed.size,
            "untagged": freed.untagged,
            "restorable": (await collection.survey(grace=timedelta())).size,
        }

    async def _survey(self, grace: timedelta | None, untagged: bool) -> dict[str, Any]:
        survey = self.registry.collection.survey
        found = await survey(grace=grace, delete_untagged=untagged)
        most = await survey(grace=timedelta(), delete_untagged=untagged) if grace != timedelta() else found
        return {
            "manifests": found.manifests,
            "blobs": len(found.blobs),
            "bytes": found.size,
            "digests": found.blobs,
            "untagged": found.untagged,
            "restorable": most.size - found.size,
        }

    async def purge(self, work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        """`repository` or `digest` or both, or `repository` and `tag`."""
        actor, purge = work.job.created_by, self.registry.purge
        repository, digest = request["repository"], request["digest"]
        await work.report("purging")
        if repository is None:
            return _gone(await purge.blob(Digest.parse(digest), actor=actor))
        if digest is None and request["tag"] is None:
            return _gone(await purge.repository(repository, actor=actor))
        reference = Digest.parse(digest) if digest and is_digest(digest) else request["tag"]
        return _gone(await purge.manifest(repository, reference, actor=actor))

    async def scrub(self, work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        """`rate`: bytes per second, 0 for as fast as possible."""

        async def tell(so_far: Scrubbed) -> None:
            await work.report("reading blobs back", so_far.size, unit="bytes")

        found = await self.registry.scrub.run(rate=request["rate"], tell=tell)
        return {"blobs": found.blobs, "bytes": found.size, "damaged": found.damaged, "healed": found.healed}

    async def check(self, work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        """`repair`."""

        async def tell(so_far: Checked) -> None:
            await work.report("comparing", so_far.blobs + so_far.files, unit="blobs and files")

        return asdict(await self.registry.comparison.run(repair=request["repair"], tell=tell))

    async def distribution(self, work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        """Bring Distribution's view of the volume up to date."""
        following = self.registry.following
        if following is None:
            raise Unsupported("there is no volume that docker-registry could read")
        await work.report("bringing links up to date")
        written = await following.update(self.registry.jobs.leases)
        unservable = [{"what": what, "reason": reason} for what, reason in await following.unservable()]
        return {**(asdict(written) if written else {}), "unservable": unservable}


def _sum(one: Freed, other: Freed) -> Freed:
    """What an attempt that did not come to its end took away, and what its successor did."""
    return Freed(**{name: count + getattr(other, name) for name, count in asdict(one).items()})


def _gone(gone: Gone) -> dict[str, Any]:
    return {
        "tags": gone.tags,
        "manifests": gone.manifests,
        "blobs": gone.blobs,
        "bytes": gone.size,
        "kept": gone.kept,
    }
