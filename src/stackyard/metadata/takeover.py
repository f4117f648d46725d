"""The rows that a repository becomes that another registry left on the volume.

A repository is imported in many small transactions into a row that is marked as deleted, by nobody and not to be
restored, so that no reader sees a part of it; the last transaction shows it. Each one first makes sure, under a lock,
that the repository is still waiting: of two that import it at once, whoever is late changes nothing any more. All of
them may be repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, counting, due, newer, quotas
from stackyard.metadata.collection import AT_ONCE
from stackyard.metadata.imports import WAITING
from stackyard.metadata.manifests import PUSHED, REFERENCE, Pushed, pushed_row, reference_rows
from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import (
    LIVE,
    blob,
    blob_link,
    import_repository,
    manifest,
    manifest_reference,
    repository,
    tag,
)
from stackyard.oci import layout
from stackyard.oci.digests import Digest

ACTOR = "import"
"""Who made what was imported."""


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """Bytes of a digest: at its first location, unless an earlier database of ours knew of later ones."""

    digest: Digest
    size: int | None
    """None: nothing lies there."""
    created_at: datetime
    copy: int = 0
    others: tuple[tuple[int, int], ...] = ()
    """Number and size of copies that are not needed."""


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest whose bytes were read and have its digest."""

    pushed: Pushed
    blob: FoundBlob
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FoundTag:
    """A tag and what it points to."""

    name: str
    digest: Digest
    updated_at: datetime


class Settled(Exception):
    """The repository was imported by somebody else meanwhile."""


_LOCK = Prepared(
    select(import_repository.c.state, import_repository.c.repository_id, import_repository.c.listed)
    .where(import_repository.c.name == bindparam("name"))
    .with_for_update()
)
_SHARE = Prepared(
    select(import_repository.c.repository_id)
    .where(import_repository.c.name == bindparam("name"), import_repository.c.state == WAITING)
    .with_for_update(read=True)
)
_HIDDEN_BY_US = Prepared(
    select(repository.c.name, repository.c.quotas).where(
        repository.c.id == bindparam("id_"), repository.c.deleted_by == ACTOR
    )
)
_LIVE_REPOSITORY = Prepared(
    select(repository.c.id).where(repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None))
)
_HIDDEN = Prepared(
    repository.insert()
    .values(
        name=bindparam("name"),
        listed=bindparam("listed"),
        created_at=clock.now(),
        deleted_at=clock.now(),
        deleted_by=ACTOR,
    )
    .returning(repository.c.id)
)
_BIND = Prepared(
    import_repository.update()
    .where(import_repository.c.name == bindparam("name_"))
    .values(repository_id=bindparam("repository_id"))
)
_FINISH = Prepared(
    import_repository.update()
    .where(import_repository.c.name == bindparam("name_"))
    .values(state="done", manifests=bindparam("manifests"), tags=bindparam("tags"))
)
_SHOW = Prepared(
    repository.update()
    .where(repository.c.id == bindparam("id_"), repository.c.deleted_by == ACTOR)
    .values(deleted_at=None, deleted_by=None, settle_after=None, created_at=bindparam("created_at"))
)
_LIST = Prepared(
    repository.update().where(repository.c.id == bindparam("id_"), ~repository.c.listed).values(listed=True)
)
# Whatever row of the digest, the copy or the location there is already has the say.
_ADOPT = Prepared(
    insert(blob)
    .values(
        digest=bindparam("digest"),
        copy=bindparam("copy"),
        location=bindparam("location"),
        size=bindparam("size"),
        state=bindparam("state"),
        damage=bindparam("damage"),
        created_at=bindparam("created_at"),
    )
    .on_conflict_do_nothing()
)
_wanted = each(bindparam("digests", type_=TextList()))
_LOCK_LIVE = Prepared(
    select(blob.c.digest, blob.c.size)
    .where(blob.c.digest.op("IN")(_wanted), blob.c.state == LIVE)
    .order_by(blob.c.digest)
    .with_for_update(read=True)
)
_KNOWN = Prepared(select(blob.c.digest).where(blob.c.digest.op("IN")(_wanted)))
_LINK = Prepared(
    insert(blob_link)
    .values(
        repository_id=bindparam("repository_id"),
        digest=bindparam("digest"),
        created_at=bindparam("created_at"),
        created_by=ACTOR,
        promised_until=bindparam("created_at"),
    )
    .on_conflict_do_nothing()
)
_LINKED = Prepared(
    select(blob_link.c.digest).where(
        blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest.op("IN")(_wanted)
    )
)
_MANIFEST = Prepared(
    insert(manifest)
    .values(
        **PUSHED,
        created_at=bindparam("created_at"),
        created_by=ACTOR,
        promised_until=bindparam("created_at"),
    )
    .on_conflict_do_nothing()
)
_IDS = Prepared(
    select(manifest.c.digest, manifest.c.id).where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest.op("IN")(_wanted),
        manifest.c.deleted_at.is_(None),
    )
)
_REFER = Prepared(insert(manifest_reference).values(**REFERENCE, missing=bindparam("missing")).on_conflict_do_nothing())
_MISSING = Prepared(
    manifest_reference.update()
    .where(
        manifest_reference.c.repository_id == bindparam("repository_id_"),
        manifest_reference.c.digest == bindparam("digest_"),
        manifest_reference.c.required,
    )
    .values(missing=True)
)
_TAG = Prepared(
    insert(tag)
    .values(
        repository_id=bindparam("repository_id"),
        name=bindparam("name"),
        manifest_id=bindparam("manifest_id"),
        updated_at=bindparam("updated_at"),
        updated_by=ACTOR,
    )
    .on_conflict_do_nothing()
)
_NOW = Prepared(select(clock.now()))


def open_repository(c: Connection, name: str) -> int | None:
    """The id of the row that a waiting repository becomes, made if need be. None when it is not waiting (any more).

    A repository that is here already gets what it lacks.
    """
    row = _LOCK.one(c, name=name)
    if row is None or row[0] == "done":
        return None
    repository_id: int | None = row[1]
    if repository_id is None:
        repository_id = _LIVE_REPOSITORY.scalar(c, name=name) or _HIDDEN.scalar(c, name=name, listed=row[2])
        _BIND.run(c, name_=name, repository_id=repository_id)
    return repository_id


def add_blobs(c: Connection, name: str, found: Sequence[FoundBlob]) -> set[str]:
    """The repository links these; those that have a live blob by now, whose bytes may also lie elsewhere."""
    repository_id = _require_waiting(c, name)
    _adopt(c, found)
    digests = sorted(one.digest for one in found)
    live: dict[str, int] = dict(_LOCK_LIVE.all(c, digests=digests))
    account = _open_account(c, repository_id)
    before = _LINKED.column(c, repository_id=repository_id, digests=digests) if account else ()
    _LINK.many(
        c,
        [
            {"repository_id": repository_id, "digest": one.digest, "created_at": one.created_at}
            for one in found
            if one.digest in live
        ],
    )
    newer.show_links(c, repository_id, account, {one.digest: one.created_at for one in found if one.digest in live})
    if account:
        quotas.charge(c, account, {each: live[each] for each in live.keys() - set(before)}, enforce=False)
    return set(live)


def add_manifests(c: Connection, name: str, found: Sequence[FoundManifest], here: set[str]) -> None:
    """The repository holds these. References to what is neither in `here` nor a child are marked as missing.

    Whether children are here is told when all manifests have been read: see `lacking`.
    """
    repository_id = _require_waiting(c, name)
    _adopt(c, [one.blob for one in found])
    digests = sorted(one.pushed.digest for one in found)
    account = _open_account(c, repository_id)
    newer.show_manifests(
        c,
        repository_id,
        account,
        {one.pushed.digest: one.created_at for one in found},
        {one.pushed.digest: [each.digest for each in one.pushed.references if each.required] for one in found},
    )
    before = _IDS.column(c, repository_id=repository_id, digests=digests) if account else ()
    _MANIFEST.many(c, [pushed_row(repository_id, one.pushed) | {"created_at": one.created_at} for one in found])
    ids: dict[str, int] = dict(_IDS.all(c, repository_id=repository_id, digests=digests))
    _REFER.many(
        c,
        [
            row | {"missing": row["required"] and row["kind"] != "child" and row["digest"] not in here}
            for one in found
            if one.pushed.digest in ids
            for row in reference_rows(repository_id, ids[one.pushed.digest], one.pushed)
        ],
    )
    if account:
        sizes: dict[str, int] = {one.pushed.digest: len(one.pushed.payload) for one in found}
        quotas.charge(c, account, {each: sizes[each] for each in ids.keys() - set(before)}, enforce=False)


def lacking(c: Connection, name: str, digests: Sequence[str]) -> None:
    """Manifests of the repository that need one of these are incomplete: it is not there."""
    repository_id = _require_waiting(c, name)
    _MISSING.many(c, [{"repository_id_": repository_id, "digest_": digest} for digest in digests])


def add_tags(c: Connection, name: str, found: Sequence[FoundTag], *, undo: timedelta) -> None:
    """These tags point to manifests of the repository; one that is here already stays, unless ours is the older.

    Args:
        undo: So long what a tag pointed to before can be restored.
    """
    repository_id = _require_waiting(c, name)
    ids: dict[str, int] = dict(_IDS.all(c, repository_id=repository_id, digests=sorted({one.digest for one in found})))
    written = {one.name: (ids[one.digest], one.updated_at) for one in found if one.digest in ids}
    new = newer.move_tags(c, repository_id, written, actor=ACTOR, undo=undo)
    _TAG.many(
        c,
        [
            {
                "repository_id": repository_id,
                "name": one.name,
                "manifest_id": ids[one.digest],
                "updated_at": one.updated_at,
            }
            for one in found
            if one.name in new
        ],
    )


def add_due(c: Connection, name: str, digests: Sequence[str], *, wait: timedelta) -> None:
    """Look after `wait` whether the repository's links to these are still needed."""
    repository_id = _require_waiting(c, name)
    for digest in digests:
        due.add_link(c, repository_id, digest, wait=wait)


def finish(c: Connection, name: str, *, created_at: datetime, manifests: int, tags: int, limit: int) -> bool:
    """Count the repository for quotas, some `limit` digests of it, then show it. To be called until it is True.

    Raises:
        Settled: It was not waiting any more.
    """
    row = _LOCK.one(c, name=name)
    if row is None or row[0] == "done" or row[1] is None:
        raise Settled(name)
    _, repository_id, listed = row
    hidden = _HIDDEN_BY_US.one(c, id_=repository_id)
    if hidden is not None:
        applying = quotas.applying(c, name)
        counts = applying is not None or hidden[1] is not None
        if counts and not counting.reopen(c, repository_id, limit=limit, enforce=False):
            return False
        _SHOW.run(c, id_=repository_id, created_at=created_at)
    elif listed and _LIST.run(c, id_=repository_id):
        quotas.list_repository(c, quotas.account(c, repository_id), enforce=False)
    _FINISH.run(c, name_=name, manifests=manifests, tags=tags)
    return True


def _open_account(c: Connection, repository_id: int) -> Account | None:
    """Where new content of a repository that can be seen already counts. A hidden one is counted when it is shown."""
    if _HIDDEN_BY_US.one(c, id_=repository_id) is not None:
        return None
    account = quotas.account(c, repository_id)
    return account if account.quotas else None


def adopt(c: Connection, digest: Digest, lies: int, size: int) -> None:
    """Own what lies at the first location of a digest, before a push of `size` bytes looks for a place of its own.

    Bytes of another number are none of this digest. They stay, for the person who wants to know why.
    """
    if lies == size:
        _ADOPT.run(c, **_blob_row(digest, lies), state="live", damage=None, created_at=_now(c))
    else:
        damage = f"found with {lies} bytes, and the blob of this digest has {size}"
        _ADOPT.run(c, **_blob_row(digest, lies), state="quarantined", damage=damage, created_at=_now(c))


def adopt_unreferenced(c: Connection, found: Sequence[FoundBlob], *, wait: timedelta) -> int:
    """Own bytes that no row tells of; collection looks at them after `wait`. How many there were."""
    known = set(_KNOWN.column(c, digests=sorted({one.digest for one in found})))
    strangers = [one for one in found if one.digest not in known]
    _adopt(c, strangers)
    for one in strangers:
        due.add_blob(c, one.digest, wait=wait)
    return len(strangers)


def _require_waiting(c: Connection, name: str) -> int:
    repository_id: int | None = _SHARE.scalar(c, name=name)
    if repository_id is None:
        raise Settled(name)
    return repository_id


def _adopt(c: Connection, found: Sequence[FoundBlob]) -> None:
    fresh = {"state": "live", "damage": None}
    _ADOPT.many(
        c,
        [
            _blob_row(one.digest, one.size, one.copy) | fresh | {"created_at": one.created_at}
            for one in sorted(found, key=lambda one: one.digest)
            if one.size is not None
        ],
    )
    for one in found:
        for copy, size in one.others:
            _doom(c, one, copy, size)


def _doom(c: Connection, found: FoundBlob, copy: int, size: int) -> None:
    """Own a copy that is not needed, for collection to take away."""
    values = _blob_row(found.digest, size, copy) | {"created_at": found.created_at}
    _ADOPT.run(c, **values, state="quarantined", damage="one of several copies, and not the one that is served")
    if found.size is not None:
        due.add_blob(c, found.digest, wait=AT_ONCE)


def _blob_row(digest: Digest, size: int, copy: int = 0) -> dict[str, Any]:
    return {"digest": digest, "copy": copy, "location": layout.blob(digest, copy), "size": size}


def _now(c: Connection) -> datetime:
    now: datetime = _NOW.scalar(c)
    return now
