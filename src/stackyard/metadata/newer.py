"""What docker-registry wrote on the volume while we were stopped, of things that our rows know: the later one holds.

Times are those of the files. What the follower had not yet written when we were stopped is older than our rows, so it
changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select, true

from stackyard.metadata import follow, quotas, tags
from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import LIVE, blob, blob_link, manifest, tag, tag_history

_wanted = each(bindparam("names", type_=TextList()))
_DELETED_LINKS = Prepared(
    select(blob_link.c.digest, blob_link.c.deleted_at)
    .where(
        blob_link.c.repository_id == bindparam("repository_id"),
        blob_link.c.digest.op("IN")(_wanted),
        blob_link.c.deleted_at.is_not(None),
    )
    .order_by(blob_link.c.digest)
    .with_for_update()
)
_SHOW_LINK = Prepared(
    blob_link.update()
    .where(blob_link.c.repository_id == bindparam("repository_id_"), blob_link.c.digest == bindparam("digest_"))
    .values(deleted_at=None, deleted_by=None, restorable_until=None)
)
_DELETED_MANIFESTS = Prepared(
    select(manifest.c.digest, manifest.c.size, manifest.c.deleted_at)
    .where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest.op("IN")(_wanted),
        manifest.c.deleted_at.is_not(None),
    )
    .order_by(manifest.c.digest)
    .with_for_update()
)
_SHOW_MANIFEST = Prepared(
    manifest.update()
    .where(manifest.c.repository_id == bindparam("repository_id_"), manifest.c.digest == bindparam("digest_"))
    .values(deleted_at=None, deleted_by=None, restorable_until=None)
)
_UNCOUNTED = Prepared(
    select(blob_link.c.digest, blob.c.size)
    .select_from(blob_link)
    .join(blob, (blob.c.digest == blob_link.c.digest) & (blob.c.state == LIVE))
    .where(
        blob_link.c.repository_id == bindparam("repository_id"),
        blob_link.c.digest.op("IN")(_wanted),
        blob_link.c.deleted_at.is_(None),
        ~blob_link.c.counted,
    )
    .order_by(blob_link.c.digest)
    .with_for_update(of=blob_link)
)
_COUNT = Prepared(
    blob_link.update()
    .where(blob_link.c.repository_id == bindparam("repository_id_"), blob_link.c.digest == bindparam("digest_"))
    .values(counted=true())
)
_TAGS = Prepared(
    select(tag.c.name, tag.c.manifest_id, tag.c.updated_at).where(
        tag.c.repository_id == bindparam("repository_id"), tag.c.name.op("IN")(_wanted)
    )
)
_ENDED = Prepared(
    select(tag_history.c.name, func.max(tag_history.c.ended_at))
    .where(tag_history.c.repository_id == bindparam("repository_id"), tag_history.c.name.op("IN")(_wanted))
    .group_by(tag_history.c.name)
)


def show_links(c: Connection, repository_id: int, account: Account | None, written: Mapping[str, datetime]) -> None:
    """Links that we deleted before they were written again are shown, and counted where there is an `account`."""
    deleted = _DELETED_LINKS.all(c, repository_id=repository_id, names=sorted(written))
    back = [digest for digest, deleted_at in deleted if deleted_at < written[digest]]
    for digest in back:
        _SHOW_LINK.run(c, repository_id_=repository_id, digest_=digest)
        follow.add(c, repository_id, "link", digest)
    _count(c, repository_id, account, back)


def show_manifests(
    c: Connection,
    repository_id: int,
    account: Account | None,
    written: Mapping[str, datetime],
    needed: Mapping[str, Iterable[str]],
) -> None:
    """As `show_links`, for manifests, with what each needs counted again."""
    deleted = _DELETED_MANIFESTS.all(c, repository_id=repository_id, names=sorted(written))
    back = {digest: size for digest, size, deleted_at in deleted if deleted_at < written[digest]}
    for digest in back:
        _SHOW_MANIFEST.run(c, repository_id_=repository_id, digest_=digest)
        follow.add(c, repository_id, "manifest", digest)
    _count(c, repository_id, account, sorted({one for digest in back for one in needed[digest]}))
    if back and account:
        quotas.charge(c, account, back, enforce=False)


def move_tags(
    c: Connection, repository_id: int, found: Mapping[str, tuple[int, datetime]], *, actor: str, undo: timedelta
) -> set[str]:
    """Tags that were written after ours were set point to what they say there; what they pointed to is remembered.

    Returns:
        Those that are not here, and were not taken away after they were written: they may be made.
    """
    names = sorted(found)
    here = {row[0]: row[1:] for row in _TAGS.all(c, repository_id=repository_id, names=names)}
    for name, (manifest_id, updated_at) in here.items():
        wanted, written_at = found[name]
        if wanted != manifest_id and written_at > updated_at:
            tags.point(c, repository_id=repository_id, tag=name, manifest_id=wanted, actor=actor, undo=undo)
    ended: dict[str, datetime] = dict(_ENDED.all(c, repository_id=repository_id, names=names))
    return {name for name, (_, at) in found.items() if name not in here and not (name in ended and ended[name] >= at)}


def _count(c: Connection, repository_id: int, account: Account | None, digests: Sequence[str]) -> None:
    uncounted: dict[str, int] = dict(_UNCOUNTED.all(c, repository_id=repository_id, names=list(digests)))
    for digest in uncounted:
        _COUNT.run(c, repository_id_=repository_id, digest_=digest)
    if uncounted and account:
        quotas.charge(c, account, uncounted, enforce=False)
