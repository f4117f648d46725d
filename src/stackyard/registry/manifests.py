"""Manifests: put, find, delete."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from stackyard.metadata import audit, history, manifests, reach, tags
from stackyard.metadata.database import Database
from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest
from stackyard.oci.errors import DigestInvalid, ManifestInvalid, ManifestUnknown, Unsupported
from stackyard.oci.manifests import Kind, Manifest, Reference, parse
from stackyard.registry import expiry
from stackyard.registry.blobs import Blobs
from stackyard.registry.expiry import NOTHING, Inside
from stackyard.registry.guards import TagGuard
from stackyard.registry.remembered import Remembered
from stackyard.registry.rules import Rules
from stackyard.registry.settings import Settings

_REMEMBERED = 10_000  # tags and digests


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as it was found: what a HEAD needs."""

    digest: str
    media_type: str
    size: int
    """Bytes of the document."""


@dataclass(slots=True)
class Payloads:
    """The bytes of manifests by digest. They can never change, so nothing need invalidate them."""

    capacity: int = 32 * 1024 * 1024
    """Bytes."""
    held: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, digest: str) -> bytes | None:
        """The bytes, if they are here."""
        payload = self.held.get(digest)
        if payload is not None:
            self.held.move_to_end(digest)
        return payload

    def keep(self, digest: str, payload: bytes) -> None:
        """Hold these too, dropping the longest unused."""
        if digest in self.held or len(payload) > self.capacity // 8:
            return
        self.held[digest] = payload
        self.size += len(payload)
        while self.size > self.capacity:
            self.size -= len(self.held.popitem(last=False)[1])


@dataclass(slots=True)
class Manifests:
    """The manifests of every repository."""

    database: Database
    settings: Settings
    blobs: Blobs
    rules: Rules
    payloads: Payloads = field(default_factory=Payloads)
    _found: Remembered[Stored] = field(init=False)

    def __post_init__(self) -> None:
        self._found = Remembered(self.database, _REMEMBERED)

    async def find(self, repository: str, reference: str) -> Stored:
        """What a tag or a Digest stands for. Raises ManifestUnknown."""
        key, found = (repository, reference), self._found.now()
        stored = found.get(key)
        return stored or self._found.keep(found, key, await self._find(repository, reference))

    async def _find(self, repository: str, reference: str) -> Stored:
        if isinstance(reference, Digest):
            row = await self.database.fetch(manifests.STAT, repository, reference)
            if row is not None:
                return Stored(reference, row[0], row[1])
            raise ManifestUnknown(digest=reference)
        row = await self.database.fetch(manifests.RESOLVE, repository, reference)
        if row is None:
            raise ManifestUnknown(tag=reference)
        return Stored(row[0], row[1], row[2])

    async def payload(self, repository: str, stored: Stored) -> bytes:
        """The bytes exactly as pushed. Raises ManifestUnknown when they were deleted meanwhile."""
        payload = self.payloads.get(stored.digest)
        if payload is None:
            row = await self.database.fetch(manifests.PAYLOAD, repository, stored.digest)
            if row is None:
                raise ManifestUnknown(digest=stored.digest)
            payload = bytes(row[0])
            self.payloads.keep(stored.digest, payload)
        return payload

    async def put(  # noqa: PLR0913 - a push, whole
        self,
        repository: str,
        reference: str,
        tags_beside: Sequence[str],
        payload: bytes,
        content_type: str | None,
        *,
        actor: str,
        admin: bool = False,
    ) -> Manifest:
        """Keep a manifest, and let the tags stand for it.

        One transaction checks what it names, under locks that keep it, and switches the tags.

        Args:
            admin: The actor is an administrator, whom rules about tags do not stop.

        Raises:
            TagInvalid: A rule wants tags of another form here.
            TagImmutable: A tag stands for something else, and a rule says that it stays so.
            ManifestInvalid: Not a manifest this registry may keep.
            DigestInvalid: `reference` is a Digest, and not of these bytes.
            ManifestBlobUnknown: It names content that is not in this repository.
        """
        digest = reference if isinstance(reference, Digest) else None
        manifest = parse(payload, content_type, algorithm=digest.algorithm if digest else "sha256")
        if digest and manifest.digest != digest:
            raise DigestInvalid(expected=digest, received=manifest.digest)
        for one in manifest.references:
            self._check_urls(one)
        if self.blobs.presence.doubtful:
            await self.blobs.presence.settle(one.digest for one in manifest.references)
        await self.database.write(
            manifests.put,
            repository=repository,
            manifest=pushed(self.settings, manifest, await expiry.look_into(self.blobs, repository, manifest)),
            tags=tags_beside if digest else (reference,),
            actor=actor,
            promise=self.settings.promise,
            undo=self.settings.undo,
            guard=TagGuard(self.rules, repository, actor, override=admin),
        )
        self.payloads.keep(manifest.digest, payload)
        return manifest

    async def delete(self, repository: str, reference: str, *, actor: str, admin: bool = False) -> None:
        """Delete a tag, or with a Digest the manifest and every tag that points to it.

        Raises ManifestUnknown, and TagImmutable unless the actor is an administrator.
        """
        if not self.settings.delete_enabled:
            raise Unsupported("deleting is disabled: set storage.delete.enabled")
        guard = TagGuard(self.rules, repository, actor, override=admin)
        if isinstance(reference, Digest):
            deleted = await self.database.write(
                manifests.delete, repository, reference, actor=actor, undo=self.settings.undo, guard=guard
            )
        else:
            deleted = await self.database.write(
                tags.delete, repository, reference, actor=actor, undo=self.settings.undo, guard=guard
            )
        if not deleted:
            raise ManifestUnknown(reference=reference)

    async def remove(self, repository: str, reference: str, *, actor: str) -> None:
        """As `delete`, by an administrator: neither rules nor storage.delete.enabled stop it, and it is recorded.

        Raises ManifestUnknown, and Unsupported while the registry is read-only.
        """
        if self.settings.read_only:
            raise Unsupported("the registry is in read-only mode")
        guard = TagGuard(self.rules, repository, actor, override=True)
        deleted = await self.database.write(
            _remove, repository, reference, actor=actor, undo=self.settings.undo, guard=guard
        )
        if not deleted:
            raise ManifestUnknown(reference=reference)

    async def restore(self, repository: str, digest: Digest, *, actor: str) -> list[str]:
        """Show a deleted manifest again, with the tags that went with it and are still free; their names.

        Raises:
            NameUnknown: There is no such repository.
            NotRestorable: It is gone for good.
            AlreadyThere: It is not deleted.
        """
        return await self.database.write(
            history.restore_manifest,
            repository,
            digest,
            actor=actor,
            promise=self.settings.promise,
            undo=self.settings.undo,
        )

    async def lacking(self, repository: str, digest: str) -> list[str]:
        """Blobs of a manifest, and of those below it, of which no bytes can be served."""
        needed = await self.database.read(reach.needs, repository, digest)
        if self.blobs.presence.doubtful:
            await self.blobs.presence.settle(map(Digest, needed))
        return await self.database.read(reach.lacking, needed)

    def _check_urls(self, one: Reference) -> None:
        """`validation.manifests.urls`: where set, foreign layers may point only where it allows."""
        settings = self.settings
        for url in one.urls:
            allowed = not settings.urls_allow or any(pattern.search(url) for pattern in settings.urls_allow)
            if not allowed or any(pattern.search(url) for pattern in settings.urls_deny):
                raise ManifestInvalid("manifest invalid: a layer's url is not allowed by validation.manifests.urls")


def pushed(settings: Settings, manifest: Manifest, inside: Inside = NOTHING) -> Pushed:
    """What the manifest's row says of it."""
    return Pushed(
        digest=manifest.digest,
        media_type=manifest.media_type,
        payload=manifest.payload,
        total_size=manifest.total_size,
        references=[
            manifests.Reference(one.kind.value, one.digest, one.size, one.media_type, is_required(settings, one))
            for one in manifest.references
        ],
        artifact_type=manifest.artifact_type,
        config_media_type=manifest.config_media_type,
        subject=manifest.subject,
        platform=inside.platform,
        annotations=manifest.annotations,
        expires_after=inside.expires_after,
    )


def is_required(settings: Settings, one: Reference) -> bool:
    """Whether it must be here: not what lies elsewhere by design."""
    platform = "/".join((one.platform or "").split("/")[:2])  # Distribution looks at no variant
    sparse = one.kind is Kind.CHILD and settings.sparse_indexes and platform not in settings.sparse_platforms
    return not one.foreign and not sparse


def _remove(c: Connection, /, repository: str, reference: str, *, actor: str, **how: Any) -> bool:
    if isinstance(reference, Digest):
        deleted = manifests.delete(c, repository, reference, actor=actor, **how)
        action, what = "manifest.delete", {"digest": str(reference)}
    else:
        deleted = tags.delete(c, repository, reference, actor=actor, **how)
        action, what = "tag.delete", {"tag": reference}
    if deleted:
        audit.record(c, actor=actor, action=action, repository=repository, **what)
    return deleted
