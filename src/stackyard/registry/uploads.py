"""Upload sessions: bytes come in over several requests, on any worker, and become a blob at the end.

One writer holds a session at a time: it claims the session, with a fence number that only grows, and keeps renewing
the claim while bytes arrive. Whoever takes over a claim that ran out works on a copy of what was stored, so a writer
that was only frozen can go on writing for ever without adding a byte to anything published, and its fence is refused
when it comes to the database. A request never waits for another.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from stackyard.metadata import blobs, quotas, uploads
from stackyard.metadata.blobs import Blob
from stackyard.metadata.database import Database
from stackyard.metadata.errors import FenceLost
from stackyard.metadata.quotas import Hints
from stackyard.metadata.uploads import Claim, Upload
from stackyard.oci.digests import Digest, Hasher
from stackyard.oci.errors import (
    DigestInvalid,
    QuotaExceeded,
    SizeInvalid,
    StorageFull,
    TooManyRequests,
    UploadBusy,
    UploadOutOfOrder,
    UploadUnknown,
)
from stackyard.registry import orphans
from stackyard.registry.chunks import Chunk, nothing, once
from stackyard.registry.hashers import Hashers
from stackyard.registry.imports import Imports
from stackyard.registry.presence import Presence
from stackyard.registry.publication import Place, Publication
from stackyard.registry.sessions import Session
from stackyard.registry.settings import Settings
from stackyard.registry.space import Space
from stackyard.storage.driver import BlobStore, LocationGone, StorageError

_PURGE_BATCH = 200


@dataclass(slots=True)
class Uploads:
    """The upload sessions of every repository."""

    store: BlobStore
    database: Database
    settings: Settings
    imports: Imports
    space: Space
    presence: Presence
    _hashers: Hashers = field(default_factory=Hashers)
    _hints: Hints = field(default_factory=Hints)
    _writers: int = 0
    _holder: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def start(self, repository: str, *, algorithm: str, actor: str) -> Upload:
        """Open a session. It may be lost in a power cut: nothing was promised yet. Raises QuotaExceeded."""
        return await self.database.write_relaxed(
            uploads.start,
            repository=repository,
            upload_id=uuid.uuid4().hex,
            algorithm=algorithm,
            actor=actor,
            hints=self._hints,
        )

    async def find(self, repository: str, upload_id: str) -> Upload:
        """The session as the last finished request left it. Raises UploadUnknown."""
        upload = await self.database.read(uploads.find, repository, upload_id)
        if upload is None:
            raise UploadUnknown()
        return upload

    async def append(self, repository: str, upload_id: str, chunk: Chunk) -> Upload:
        """Add a chunk's bytes and return the session with its new offset.

        A stream that is cut off keeps what arrived; a chunk with a range is all or nothing.

        Raises:
            UploadUnknown: No such open session in this repository.
            UploadOutOfOrder: The chunk does not start where the session stands; the answer says where that is.
            UploadBusy: Another writer holds the session.
            SizeInvalid: The body is not as long as its range.
            QuotaExceeded: It will not fit. The session has ended, so that its bytes take no space.
            BodyCut: The sender went away.
        """
        async with self._writing(), self._claimed(repository, upload_id) as session:
            self._check_start(session.upload, chunk)
            await self._check_room(session, chunk, None)
            await self._receive(session, chunk, keep_partial=chunk.window is None)
            await self._release(session)
            return session.upload

    async def finish(self, repository: str, upload_id: str, digest: Digest, chunk: Chunk, *, actor: str) -> Blob:
        """Take the last bytes of a session and make them a blob of `repository`.

        The bytes are durable at a location of their own before any row names them: a crash in between leaves a
        location that no live row refers to, and never a row without bytes. When the bytes are not `digest`, or do
        not all arrive, the session stays open as it was before this request.

        Raises:
            DigestInvalid: The bytes are not `digest`.
            And as `append`.
        """
        async with self._writing():
            content = await chunk.small()
            async with self._claimed(repository, upload_id, digest, content) as session:
                self._check_start(session.upload, chunk)
                return await self._finish(session, digest, chunk, content, actor)

    async def push(self, repository: str, digest: Digest, chunk: Chunk, *, actor: str) -> Blob:
        """Make a blob of one request's body (end-4b). Nothing of it stays when that fails. Raises as `finish`."""
        async with self._writing():
            content = await chunk.small()
            start = partial(
                uploads.start,
                repository=repository,
                upload_id=uuid.uuid4().hex,
                algorithm=digest.algorithm,
                actor=actor,
                claim=self._claim(),
                hints=self._hints if content is not None else None,
            )
            session = await self._begin(start, digest, content)
            try:
                return await self._finish(session, digest, chunk, content, actor)
            except BaseException as error:
                with contextlib.suppress(UploadUnknown):
                    await asyncio.shield(self.cancel(repository, session.upload.id))
                if isinstance(error, FenceLost):
                    raise UploadUnknown() from None
                raise

    async def cancel(self, repository: str, upload_id: str) -> None:
        """End the session and drop its bytes. Raises UploadUnknown."""
        upload = await self.database.write_relaxed(uploads.cancel, repository, upload_id)
        self._hashers.held.pop(upload_id, None)
        for location in upload.locations:
            await self.store.delete(location)

    async def purge(self, age: timedelta, *, dry_run: bool) -> int:
        """Cancel the sessions that nobody wrote to for `age`, and return how many there were."""
        purged = 0
        while batch := await self.database.read(uploads.stale, age=age, limit=_PURGE_BATCH):
            for upload in batch:
                if not dry_run:
                    with contextlib.suppress(UploadUnknown):
                        await self.cancel(upload.repository, upload.id)
            purged += len(batch)
            if dry_run or len(batch) < _PURGE_BATCH:
                break
        return purged

    async def reap(self, *, dry_run: bool) -> int:
        """Remove the bytes of sessions that are no more, and return how many locations there were."""
        return await orphans.reap(self.store, self.database, dry_run=dry_run)

    def _claim(self) -> Claim:
        return Claim(holder=self._holder, span=self.settings.claim)

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        if self._writers >= self.settings.max_writers:
            raise TooManyRequests("too many uploads at the same time", headers={"Retry-After": "5"})
        self._writers += 1
        try:
            yield
        finally:
            self._writers -= 1

    @contextlib.asynccontextmanager
    async def _claimed(
        self, repository: str, upload_id: str, digest: Digest | None = None, content: bytes | None = None
    ) -> AsyncIterator[Session]:
        """Hold the session's claim. Leaving by an error gives it back with what the session then holds."""
        session = await self._claim_session(repository, upload_id, digest, content)
        try:
            await self._take_over(session)
            yield session
        except FenceLost:
            session.closed = True
            left = await self.find(repository, upload_id)  # unknown, when it was ended and not taken over
            raise UploadBusy(headers={"Range": progress(left.offset)}) from None
        except QuotaExceeded:
            session.closed = True
            with contextlib.suppress(UploadUnknown):
                await asyncio.shield(self.cancel(repository, upload_id))
            raise
        except LocationGone:
            # A power cut took bytes of a session that the row still tells of, or its last writer had moved them to
            # a blob's location and was killed before it said so. The client has to begin again.
            session.closed = True
            with contextlib.suppress(UploadUnknown):
                await asyncio.shield(self.cancel(repository, upload_id))
            raise UploadUnknown() from None
        except (StorageError, asyncio.CancelledError):
            if not self.store.renames:
                # What was sent may still arrive in the bucket, whenever it likes: the next writer goes elsewhere.
                session.closed = True
                with contextlib.suppress(FenceLost):
                    give_up = partial(uploads.give_up, upload_id=session.upload.id, fence=session.upload.fence)
                    await asyncio.shield(self.database.write_relaxed(give_up))
            raise
        finally:
            if not session.closed:
                with contextlib.suppress(FenceLost):
                    await asyncio.shield(self._release(session))

    async def _claim_session(
        self, repository: str, upload_id: str, digest: Digest | None, content: bytes | None
    ) -> Session:
        claim = partial(
            uploads.claim,
            repository=repository,
            upload_id=upload_id,
            holder=self._holder,
            span=self.settings.claim,
            allowance=content is None,
        )
        try:
            return await self._begin(claim, digest, content)
        except UploadBusy as busy:
            busy.headers["Range"] = progress((await self.find(repository, upload_id)).offset)
            raise

    async def _begin(
        self, begin: Callable[[Connection], Upload], digest: Digest | None, content: bytes | None
    ) -> Session:
        """The session that `begin` claims, with a place for its bytes if they are all there and lie nowhere yet."""
        places = self.store.renames or content  # otherwise what lies there already stays where it is
        if digest is None or content is None or not places or self.imports.pending:
            return Session(await self.database.write_relaxed(begin))
        upload, reserved = await self.database.write_relaxed(blobs.reserve, begin, digest, len(content))
        return Session(upload, Place(*reserved) if reserved else None)

    async def _take_over(self, session: Session) -> None:
        """Copy what counts from where a writer may still be writing. A copy that fails never becomes the session's."""
        upload = session.upload
        if upload.taken_over_from and upload.offset:
            try:
                location = await self.store.copy(upload.taken_over_from, upload.location, upload.offset)
                session.upload = upload.at(location)
            except BaseException:
                session.closed = True
                await asyncio.shield(self.database.write_relaxed(uploads.give_up, upload.id, upload.fence))
                raise

    @staticmethod
    def _check_start(upload: Upload, chunk: Chunk) -> None:
        if chunk.window and chunk.window[0] != upload.offset:
            raise UploadOutOfOrder(headers={"Range": progress(upload.offset)})

    async def _check_room(self, session: Session, chunk: Chunk, digest: Digest | None) -> None:
        """Refuse what the quotas have no room for before it is sent, as far as that is known; the commit decides.

        What is counted already below every prefix that is full may be pushed all the same. Raises QuotaExceeded.
        """
        upload = session.upload
        session.allowance = upload.allowance
        if session.allowance is None:
            return
        size = upload.offset + (chunk.length or 0)
        may_grow = chunk.body is not None and chunk.length is None
        if digest is not None and (may_grow or size > session.allowance.free):
            session.allowance = await self.database.read(quotas.allowance_for, upload.repository, digest)
        session.check_room(size)

    async def _receive(self, session: Session, chunk: Chunk, *, keep_partial: bool) -> None:
        """Store the chunk, durably, and move the session's offset; on an error, as far as `keep_partial` says.

        Durably also for a chunk in the middle: the row tells their digest, and after a power cut it must not tell
        that of other bytes.
        """
        upload = session.upload
        if chunk.body is None and upload.offset:
            return
        hasher = self._hashers.take(upload)
        whole = kept = False
        try:
            async with self.store.writer(upload.location, upload.offset, hasher) as writer:
                try:
                    async for piece in chunk.body or nothing():
                        session.check_room(writer.size + len(piece), growing=chunk.length is None)
                        await self.space.take(len(piece))
                        await writer.write(piece)
                        await self._renew(session)
                    if chunk.window and writer.size != chunk.window[1]:
                        raise SizeInvalid("the body is not as long as its Content-Range")
                    whole = True
                except (QuotaExceeded, StorageFull):
                    keep_partial = False
                    raise
                finally:
                    if whole or keep_partial:
                        await writer.finish(durable=True)
                        session.moved(writer.size, writer.location, hasher)
                        kept = True
                        if hasher:
                            self._hashers.keep(upload.id, hasher)
        except BaseException:
            if not kept:
                await asyncio.shield(self._cut_off(upload))
            raise

    async def _cut_off(self, upload: Upload) -> None:
        """Drop what came after the offset.

        The next request may finish the upload without a byte of its own, and then nobody opens the file again. Nor may
        one push that is too large keep the disk full until it is purged: on a full disk the database could not even be
        told to purge it. Bytes below the offset stay, whoever has the session by now.
        """
        if not self.store.renames:
            return  # what is not reached from the first byte is no part of it
        with contextlib.suppress(StorageError):
            if upload.offset:
                async with self.store.writer(upload.location, upload.offset) as writer:
                    await writer.finish(durable=False)
            else:
                await self.store.delete(upload.location)

    async def _renew(self, session: Session) -> None:
        now = time.monotonic()
        if now - session.renewed > self.settings.claim.total_seconds() / 3:
            session.renewed = now
            upload = session.upload
            await self.database.write_relaxed(uploads.renew, upload.id, upload.fence, self.settings.claim)

    async def _release(self, session: Session) -> None:
        upload = session.upload
        session.closed = True
        await self.database.write_relaxed(
            uploads.release,
            upload.id,
            upload.fence,
            location=upload.location,
            offset=upload.offset,
            hashed=upload.hashed,
        )

    async def _finish(self, session: Session, digest: Digest, chunk: Chunk, content: bytes | None, actor: str) -> Blob:
        before = session.upload
        publication = Publication(
            self.database, self.imports, self.presence, digest, actor, self.settings.promise, session.place
        )
        try:
            await self._check_room(session, chunk, digest)
            if content is None or before.offset:
                blob = await self._finish_stored(session, publication, chunk, content)
            else:
                blob = await self._finish_small(session, publication, content)
        except BaseException:
            if content is None or before.offset:
                await asyncio.shield(self._cut_off(before))
            session.upload = before
            await asyncio.shield(publication.give_up())
            raise
        session.closed = True
        self._hashers.held.pop(before.id, None)
        return blob

    async def _finish_small(self, session: Session, publication: Publication, content: bytes) -> Blob:
        """All of the blob came with this request: written once, to where it stays."""
        digest = publication.digest
        hasher = Hasher(digest.algorithm)
        hasher.update(content)
        if hasher.digest() != digest:
            raise DigestInvalid(expected=digest, received=hasher.digest())
        await self.space.take(len(content))
        upload = session.upload = replace(session.upload, offset=len(content))
        commit = await publication.commit(upload, lambda location: self.store.put(location, content))
        if upload.fence > 1:
            await self._drop(upload.locations)
        return commit.blob

    async def _finish_stored(
        self, session: Session, publication: Publication, chunk: Chunk, content: bytes | None
    ) -> Blob:
        """The bytes came with several requests, or are many: they are gathered in the session's own location."""
        if content:
            chunk = replace(chunk, body=once(content))
        await self._receive(session, chunk, keep_partial=False)
        upload = session.upload
        received = await self._digest(upload, publication.digest.algorithm)
        if received != publication.digest:
            raise DigestInvalid(expected=publication.digest, received=received)
        source = upload.location
        if self.store.renames:
            commit = await publication.commit(
                upload, lambda location: self.store.publish(source, location, upload.offset)
            )
        else:
            await self.store.publish(source, source, upload.offset)
            commit = await publication.commit_in_place(upload)
        await self._drop(each for each in upload.locations if each != source or not commit.published)
        return commit.blob

    async def _drop(self, locations: Iterable[str]) -> None:
        """Remove what a finished upload leaves. The push is done, so what cannot be removed stays for the reaper."""
        with contextlib.suppress(StorageError):
            for location in locations:
                await self.store.delete(location)

    async def _digest(self, upload: Upload, algorithm: str) -> Digest:
        """The digest of all the session's bytes, read again only when no worker hashed them as they came."""
        if upload.hashed and upload.hashed.algorithm == algorithm:
            return upload.hashed
        hasher = Hasher(algorithm)
        reader = await self.store.open(upload.location)
        try:
            async for piece in reader.chunks(0, upload.offset):
                await asyncio.to_thread(hasher.update, piece)
        finally:
            reader.close()
        return hasher.digest()


def progress(offset: int) -> str:
    """`Range` as every client reads it: inclusive, without a unit; `0-0` also for nothing (docker refuses `0--1`)."""
    return f"0-{max(offset - 1, 0)}"
