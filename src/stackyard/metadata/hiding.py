"""Taking manifests out of sight by rule: what no tag, no index and no subject holds any more.

A manifest takes along what only it held: the images of an index, signatures and attestations. Whatever was hidden
together comes back together (`restoring.restore`), until the undo span ends.

What is promised stays in sight until that is over, then goes: somebody may be about to push an index that names it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, exists, func, select

from stackyard.metadata import clock, due, manifests
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import manifest, manifest_pull, manifest_reference, repository, tag, tag_history
from stackyard.metadata.tags import BY_RULE
from stackyard.oci.digests import Digest

_NOBODY = timedelta()

_parent, _subject = manifest.alias("parent"), manifest.alias("subject")
# What a person deleted can be restored as it was, so it needs what it names; what a rule hid comes back together.
_JUDGE = Prepared(
    select(
        exists(select(tag.c.name).where(tag.c.manifest_id == manifest.c.id)),
        exists(
            select(manifest_reference.c.digest)
            .join(_parent, _parent.c.id == manifest_reference.c.manifest_id)
            .where(
                manifest_reference.c.repository_id == manifest.c.repository_id,
                manifest_reference.c.digest == manifest.c.digest,
                _parent.c.deleted_at.is_(None) | _parent.c.deleted_by.not_in(BY_RULE),
            )
        ),
        exists(
            select(_subject.c.id).where(
                _subject.c.repository_id == manifest.c.repository_id,
                _subject.c.digest == manifest.c.subject,
                _subject.c.deleted_at.is_(None) | _subject.c.deleted_by.not_in(BY_RULE),
            )
        ),
        manifest.c.created_at,
        manifest.c.promised_until,
        select(func.max(manifest_pull.c.pulled_at))
        .where(manifest_pull.c.manifest_id == manifest.c.id)
        .scalar_subquery(),
        select(func.max(tag_history.c.ended_at))
        .where(
            tag_history.c.repository_id == manifest.c.repository_id,
            tag_history.c.digest == manifest.c.digest,
        )
        .scalar_subquery(),
        clock.now(),
    ).where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest == bindparam("digest"),
        manifest.c.deleted_at.is_(None),
    )
)
_CHILDREN = Prepared(
    select(manifest_reference.c.digest)
    .select_from(manifest)
    .join(manifest_reference, manifest_reference.c.manifest_id == manifest.c.id)
    .where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest == bindparam("digest"),
        manifest_reference.c.kind == "child",
    )
)
_REFERRERS = Prepared(
    select(manifest.c.digest).where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.subject == bindparam("digest"),
        manifest.c.deleted_at.is_(None),
    )
)
_UNNEEDED_BY = Prepared(
    select(manifest.c.unneeded_by).where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest == bindparam("digest"),
        manifest.c.deleted_at.is_(None),
    )
)
_REMEMBER = Prepared(
    manifest.update()
    .where(manifest.c.repository_id == bindparam("repository_id_"), manifest.c.digest == bindparam("digest_"))
    .values(unneeded_by=bindparam("actor"))
)
_NAME = Prepared(
    select(repository.c.name).where(repository.c.id == bindparam("repository_id"), repository.c.deleted_at.is_(None))
)
_NEXT = Prepared(
    select(manifest.c.id, manifest.c.repository_id, manifest.c.digest, manifest.c.created_at < clock.before("settled"))
    .where(manifest.c.id > bindparam("after"))
    .order_by(manifest.c.id)
    .limit(bindparam("limit"))
)
_ENDED = Prepared(
    select(tag_history.c.id, tag_history.c.repository_id, tag_history.c.digest, tag_history.c.ended_at)
    .where(tag_history.c.id > bindparam("after"))
    .order_by(tag_history.c.id)
    .limit(bindparam("limit"))
)


class _Kept(Exception):
    """The manifest is still needed, or will be looked at again in a while."""

    def __init__(self, wait: timedelta) -> None:
        self.wait = wait


@dataclass(frozen=True, slots=True)
class _Unneeded:
    """A `Guard` that lets only go what nothing needs and, where a span is set, nobody used within it."""

    span: timedelta | None

    def on_point(self, c: Connection, tag: str, *, moves: bool) -> None:
        """Not asked."""

    def on_delete(self, c: Connection, tag: str) -> None:
        """Not asked."""

    def on_delete_manifest(self, c: Connection, repository_id: int, digest: str) -> None:
        """Raises _Kept."""
        wait = _wait(c, repository_id, digest, self.span)
        if wait is not None:
            raise _Kept(wait)


@dataclass(frozen=True, slots=True)
class By:
    """Which rule hides, and how."""

    actor: str
    """One of `tags.RULES`."""
    undo: timedelta
    """What goes can be restored for so long."""
    span: timedelta | None = None
    """Spare what was pushed, pulled by digest or had a tag within it; None: only what is promised."""


def hide(c: Connection, repository: str, repository_id: int, digest: str, by: By) -> timedelta:
    """Delete a manifest that nothing needs, and all that only it held.

    What is spared is queued; without a span, with a note that a rule is waiting for it.

    Returns:
        When to look again; zero when it is gone, or needed until something changes.
    """
    try:
        guard = _Unneeded(by.span)
        gone = manifests.delete(c, repository, Digest(digest), actor=by.actor, undo=by.undo, guard=guard)
    except _Kept as kept:
        if kept.wait and by.span is None:
            _REMEMBER.run(c, repository_id_=repository_id, digest_=digest, actor=by.actor)
        return kept.wait
    if gone:
        values = {"repository_id": repository_id, "digest": digest}
        for one in dict.fromkeys(_REFERRERS.column(c, **values) + _CHILDREN.column(c, **values)):
            queue_rest(c, repository_id, one, hide(c, repository, repository_id, one, by))
    return _NOBODY


def queue_rest(c: Connection, repository_id: int, digest: str, wait: timedelta) -> None:
    """Look at the manifest again when `hide` says so."""
    if wait:
        due.add_manifest(c, repository_id, digest, wait=wait)


def hide_unneeded(c: Connection, repository_id: int, digest: str, *, undo: timedelta) -> timedelta:
    """As `hide`, for what was found in the queue: what a rule waits for goes, unless something needs it by now."""
    values = {"repository_id": repository_id, "digest": digest}
    actor = _UNNEEDED_BY.scalar(c, **values)
    name = _NAME.scalar(c, repository_id=repository_id) if actor else None
    if name is None:
        return _NOBODY
    wait = hide(c, name, repository_id, digest, By(actor, undo))
    if not wait:  # gone, or needed again: then it stays, also when that ends
        _REMEMBER.run(c, repository_id_=repository_id, digest_=digest, actor=None)
    return wait


@dataclass(frozen=True, slots=True)
class Untagged:
    """What to do with manifests that have no tag, and that nothing names."""

    span: timedelta
    """Spare what was pushed, pulled by digest or had a tag within it."""
    undo: timedelta
    """They can be restored for so long."""


def hide_untagged(c: Connection, repository_id: int, digest: str, how: Untagged) -> timedelta:
    """As `hide`, for what was found in the queue and may need nothing done at all."""
    wait = _wait(c, repository_id, digest, how.span)
    if wait is not None:
        return wait
    name = _NAME.scalar(c, repository_id=repository_id)
    if name is None:
        return _NOBODY
    return hide(c, name, repository_id, digest, By("untagged", how.undo, how.span))


@dataclass(frozen=True, slots=True)
class Part:
    """How much of the rows that are new is read in one transaction."""

    limit: int
    span: timedelta
    """As in `Untagged`."""
    settled: timedelta
    """Rows that are younger are left for the next time: one with a smaller number may not be committed yet."""


def queue_new(c: Connection, part: Part, *, after: int) -> tuple[int, int]:
    """Queue manifests whose rows came after row `after`: each is looked at when it is `span` old.

    Returns the last row that was read, and how many were.
    """
    read = 0
    for id_, repository_id, digest, is_settled in _NEXT.all(c, after=after, limit=part.limit, settled=part.settled):
        if not is_settled:
            break
        wait = _wait(c, repository_id, digest, part.span)
        if wait is None or wait:
            due.add_manifest(c, repository_id, digest, wait=wait or _NOBODY)
        after, read = id_, read + 1
    return after, read


def queue_ended(c: Connection, part: Part, *, after: int, now: datetime) -> tuple[int, int]:
    """As `queue_new`, for manifests that a tag ceased to point to; `after` is a row of the history."""
    read = 0
    for id_, repository_id, digest, ended_at in _ENDED.all(c, after=after, limit=part.limit):
        if ended_at > now - part.settled:
            break
        due.add_manifest(c, repository_id, digest, wait=max(_NOBODY, ended_at + part.span - now))
        after, read = id_, read + 1
    return after, read


def _wait(c: Connection, repository_id: int, digest: str, span: timedelta | None) -> timedelta | None:
    """None when it can go; else how long it is spared, zero when something needs it."""
    row = _JUDGE.one(c, repository_id=repository_id, digest=digest)
    if row is None:
        return _NOBODY
    tagged, named, refers, created, promised, pulled, ended, now = row
    if tagged or named or refers:
        return _NOBODY
    spared = promised
    if span is not None:
        spared = max(promised, *(one + span for one in (created, pulled, ended) if one is not None))
    return spared - now if spared > now else None
