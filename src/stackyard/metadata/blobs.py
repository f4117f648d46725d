"""Blobs, where their bytes lie, and the repositories that may show them.

Locks, in this order: repository, blob, link, quotas. Whoever makes or revives a link holds a share lock on the
live blob row, so the collector, which wants that row for itself, either comes first (then the link is refused) or sees
the link.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, bindparam, case, false, func, select, true
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, due, follow, quotas, repositories
from stackyard.metadata.errors import BlobVanished, FenceLost
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import DELETING, LIVE, PENDING, blob, blob_link, repository, tombstone, upload
from stackyard.metadata.uploads import Upload
from stackyard.oci import layout
from stackyard.oci.digests import Digest

PENDING_SPAN = timedelta(days=1)
"""A location that was allocated and neither committed nor abandoned so long is looked at by the collector."""
READER_SPAN = timedelta(seconds=60)
"""Bytes outlive their row's end by so much: somebody may have read the row just before."""

FIND = Prepared(
    select(blob.c.id, blob.c.size, blob.c.location, clock.until(blob_link.c.promised_until))
    .select_from(repository)
    .join(blob_link, blob_link.c.repository_id == repository.c.id)
    .join(blob, blob.c.digest == blob_link.c.digest)
    .where(
        repository.c.name == bindparam("repository"),
        repository.c.deleted_at.is_(None),
        blob_link.c.digest == bindparam("digest"),
        blob_link.c.deleted_at.is_(None),
        blob.c.state == LIVE,
    ),
    "repository",
    "digest",
)
"""(repository, digest) to (blob id, size, location, microseconds that the promise still lasts)."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are in the store, whole."""

    id: int
    digest: Digest
    size: int
    """Bytes."""
    location: str


@dataclass(frozen=True, slots=True)
class Commit:
    """What a finished upload became."""

    blob: Blob
    published: bool
    """Whether the blob's bytes are those of this upload; otherwise they were there before, and ours will be removed."""


_LIVE_BLOB = select(blob.c.id, blob.c.size, blob.c.location).where(
    blob.c.digest == bindparam("digest"), blob.c.state == LIVE
)
_FIND_LIVE = Prepared(_LIVE_BLOB)
_LOCK_LIVE = Prepared(_LIVE_BLOB.with_for_update(read=True))

_copies = blob.c.digest == bindparam("digest")
_NEXT_COPY = Prepared(
    select(
        func.coalesce(select(func.max(blob.c.copy) + 1).where(_copies).scalar_subquery(), 0),
        func.coalesce(
            select(tombstone.c.next_copy).where(tombstone.c.digest == bindparam("digest")).scalar_subquery(), 0
        ),
        select(blob.c.id).where(_copies, blob.c.state == LIVE).scalar_subquery(),
    )
)
"""The number after the last copy there is and the one after the last there was; then the live one's row, if any."""
_new_blob = blob.insert().values(
    digest=bindparam("digest"),
    copy=bindparam("copy"),
    location=bindparam("location"),
    size=bindparam("size"),
    created_at=clock.now(),
)
_INSERT = Prepared(_new_blob.values(state=PENDING).returning(blob.c.id))
_INSERT_LIVE = Prepared(_new_blob.values(state=LIVE).returning(blob.c.id))
MAKE_LIVE = Prepared(
    blob.update()
    .where(blob.c.id == bindparam("blob_id"), blob.c.digest == bindparam("digest_"), blob.c.state == PENDING)
    .values(state=LIVE)
    .returning(blob.c.id, blob.c.size, blob.c.location)
)
"""Shows a pending row's bytes: (blob id, size, location), or nothing."""
_ABANDON = Prepared(
    blob.update()
    .where(blob.c.id == bindparam("blob_id"), blob.c.state == PENDING)
    .values(state=DELETING, marked_at=clock.now())
    .returning(blob.c.digest)
)
_CLOSE_UPLOAD = Prepared(
    upload.delete()
    .where(upload.c.id == bindparam("upload_id"), upload.c.fence == bindparam("fence"))
    .returning(upload.c.repository_id)
)

_new_link = insert(blob_link).values(
    repository_id=bindparam("repository_id"),
    digest=bindparam("digest"),
    created_at=clock.now(),
    created_by=bindparam("actor"),
    promised_until=clock.after("promise"),
)
_later = case(
    (blob_link.c.promised_until > _new_link.excluded.promised_until, blob_link.c.promised_until),
    else_=_new_link.excluded.promised_until,
)
_LINK = Prepared(
    _new_link.on_conflict_do_update(
        index_elements=["repository_id", "digest"],
        set_={
            "deleted_at": None,
            "deleted_by": None,
            "restorable_until": None,
            "promised_until": _later,
            "counted": true(),
        },
    )
)
# Where quotas count, it has to be known whether the link is new, or was not counted: of two at once, for one.
_LINK_NEW = Prepared(_new_link.on_conflict_do_nothing())
_WAS_COUNTED = Prepared(
    select(blob_link.c.counted)
    .where(blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest == bindparam("digest"))
    .with_for_update()
)
_PROMISE = Prepared(
    blob_link.update()
    .where(
        blob_link.c.repository_id
        == select(repository.c.id)
        .where(repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
        .scalar_subquery(),
        blob_link.c.digest == bindparam("digest_"),
        blob_link.c.deleted_at.is_(None),
        blob_link.c.promised_until < clock.after("half"),
    )
    .values(promised_until=clock.after("whole"))
    .returning(blob_link.c.repository_id)
)
_UNLINK = Prepared(
    blob_link.update()
    .where(
        blob_link.c.repository_id == bindparam("repository_id_"),
        blob_link.c.digest == bindparam("digest_"),
        blob_link.c.deleted_at.is_(None),
    )
    .values(
        deleted_at=clock.now(), deleted_by=bindparam("actor"), restorable_until=clock.after("undo"), counted=false()
    )
)
_HOLDERS = Prepared(
    select(repository.c.name)
    .join(blob_link, blob_link.c.repository_id == repository.c.id)
    .where(
        blob_link.c.digest == bindparam("digest"),
        blob_link.c.deleted_at.is_(None),
        repository.c.deleted_at.is_(None),
    )
    .limit(bindparam("limit"))
)


def find(c: Connection, repository: str, digest: Digest) -> Blob | None:
    """The live blob that this repository links, or None."""
    row = FIND.one(c, repository=repository, digest=digest)
    return Blob(row[0], digest, row[1], row[2]) if row else None


def find_live(c: Connection, digest: Digest) -> Blob | None:
    """The live blob of this digest, whoever links it, or None. Not locked: it may go at any time."""
    row = _FIND_LIVE.one(c, digest=digest)
    return Blob(row[0], digest, row[1], row[2]) if row else None


def promise(c: Connection, repository: str, digest: Digest, span: timedelta) -> bool:
    """Keep the link for half of `span` at least, from now; for `span`, if it is not kept so long already.

    False when there is no such link (any more): then nothing may be promised to the client.
    """
    repository_id = _PROMISE.scalar(c, repository=repository, digest_=digest, half=span / 2, whole=span)
    if repository_id is None:
        return find(c, repository, digest) is not None
    due.add_link(c, repository_id, digest, wait=span)
    return True


def allocate(c: Connection, digest: Digest, size: int) -> tuple[int, str]:
    """A pending blob row, and the location that it and nobody else ever owns.

    The row comes before the first byte and goes after the last, leaving a tombstone that counts on. So nobody who
    slept meanwhile, be it a writer or the collector, can touch what lies at a later location of the same digest.

    Returns:
        The row's id, for `commit` or `abandon`, and the location.
    """
    row = _NEXT_COPY.one(c, digest=digest)
    assert row is not None
    return _allocate(c, digest, size, max(row[:2]))


def allocate_all(c: Connection, sizes: Mapping[Digest, int]) -> dict[Digest, tuple[int, str]]:
    """As `allocate`, for many."""
    return {digest: allocate(c, digest, size) for digest, size in sorted(sizes.items())}


def _allocate(c: Connection, digest: Digest, size: int, copy: int) -> tuple[int, str]:
    location = layout.blob(digest, copy)
    blob_id: int = _INSERT.scalar(c, digest=digest, copy=copy, location=location, size=size)
    due.add_blob(c, digest, wait=PENDING_SPAN)
    return blob_id, location


def reserve(
    c: Connection, begin: Callable[[Connection], Upload], digest: Digest, size: int
) -> tuple[Upload, tuple[int, str] | None]:
    """Claim a session to finish it with `size` bytes, all that it lacks, and allocate what they will need.

    One transaction for what is three otherwise; for bodies that are there already.

    Returns:
        What `begin` returns, and as `allocate`; None when the digest has a live blob, or when the session's bytes
        have to be put together first.
    """
    found = begin(c)
    if found.offset and size:
        return found, None
    row = _NEXT_COPY.one(c, digest=digest)
    assert row is not None
    *copies, live = row
    return found, None if live else _allocate(c, digest, found.offset + size, max(copies))


def abandon(c: Connection, blob_id: int) -> None:
    """Give a pending location up: bytes may lie there, the collector removes them. Any other row stays as it is."""
    digest = _ABANDON.scalar(c, blob_id=blob_id)
    if digest is not None:
        due.add_blob(c, digest, wait=READER_SPAN)


def commit(  # noqa: PLR0913 - one transaction has to know all of it
    c: Connection,
    *,
    repository: str,
    blob_id: int | None,
    digest: Digest,
    upload_id: str,
    fence: int,
    actor: str,
    promise: timedelta,
    stored: tuple[str, int] | None = None,
) -> Commit:
    """Make a finished upload a blob of the repository and close its session.

    With a `blob_id`, durable bytes lie at the location allocated with it. If the digest got another live blob
    meanwhile, that one is linked and ours abandoned. With None, `find_live` found one, and it is linked if it is
    still there; otherwise `stored`, if given, is the session's location that becomes the blob's, and how many bytes lie
    there: it changes its owner with this transaction.

    Raises:
        FenceLost: The session ended, or another writer has taken it over.
        BlobVanished: There is no live blob of the digest, and `blob_id` is None or was given up by the collector.
        QuotaExceeded: It does not fit.
    """
    account, _ = repositories.ensure_account(c, repository)
    if _CLOSE_UPLOAD.scalar(c, upload_id=upload_id, fence=fence) != account.repository_id:
        raise FenceLost(upload_id)
    row, published = _LOCK_LIVE.one(c, digest=digest), False
    if blob_id is not None and (row is None or row[0] != blob_id):
        if row is not None:
            abandon(c, blob_id)
        else:
            row, published = MAKE_LIVE.one(c, blob_id=blob_id, digest_=digest), True
    if row is None and stored:
        location, size = stored
        *copies, _ = _NEXT_COPY.one(c, digest=digest) or ()
        blob_id = _INSERT_LIVE.scalar(c, digest=digest, copy=max(copies), location=location, size=size)
        row, published = (blob_id, size, location), True
    if row is None:
        raise BlobVanished(digest)
    found = Blob(row[0], digest, row[1], row[2])
    _link(c, account, found, actor, promise)
    return Commit(found, published)


def mount(c: Connection, *, source: str, target: str, digest: Digest, actor: str, promise: timedelta) -> Blob | None:
    """Link in `target` the blob that `source` links, making `target` if need be. None when `source` has no such blob.

    The caller has checked that the client may pull from `source`. Raises QuotaExceeded.
    """
    if find(c, source, digest) is None:
        return None
    account, _ = repositories.ensure_account(c, target)
    row = _LOCK_LIVE.one(c, digest=digest)
    if row is None:
        return None
    found = Blob(row[0], digest, row[1], row[2])
    _link(c, account, found, actor, promise)
    return found


def holders(c: Connection, digest: Digest, *, limit: int) -> list[str]:
    """Names of repositories that link the blob, in no order."""
    return _HOLDERS.column(c, digest=digest, limit=limit)


def unlink(c: Connection, repository: str, digest: Digest, *, actor: str, undo: timedelta) -> bool:
    """Hide the blob from this repository; it can be restored for `undo`. False when it was not to be seen.

    Manifests that name the blob keep its bytes, and the link's row, where they are.
    """
    account = repositories.find_account(c, repository)
    if account is None:
        return False
    was_counted = account.quotas is not None and _is_counted(c, account.repository_id, digest)
    if not _UNLINK.run(c, repository_id_=account.repository_id, digest_=digest, actor=actor, undo=undo):
        return False
    due.add_link(c, account.repository_id, digest, wait=undo)
    follow.add(c, account.repository_id, "link", digest)
    if was_counted:
        quotas.discharge(c, account, [digest])
    return True


def _link(c: Connection, account: Account, found: Blob, actor: str, promise: timedelta) -> None:
    values = {"repository_id": account.repository_id, "digest": found.digest, "actor": actor, "promise": promise}
    was_counted = False
    if account.quotas is None:
        _LINK.run(c, **values)
    elif not _LINK_NEW.run(c, **values):
        was_counted = _is_counted(c, account.repository_id, found.digest)
        _LINK.run(c, **values)
    due.add_link(c, account.repository_id, found.digest, wait=promise)
    follow.add(c, account.repository_id, "link", found.digest)
    if not was_counted:
        quotas.charge(c, account, {found.digest: found.size})


def _is_counted(c: Connection, repository_id: int, digest: str) -> bool:
    """Whether quotas count the link, which nobody else changes before this transaction ends."""
    return bool(_WAS_COUNTED.scalar(c, repository_id=repository_id, digest=digest))
