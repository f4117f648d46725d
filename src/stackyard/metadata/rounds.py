"""One look at a part of the queue, in one transaction."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, select

from stackyard.metadata import clock, due
from stackyard.metadata.collection import AT_ONCE, NOTHING_TO_DO, SOON, Look, drop_link, drop_manifest, mark_blobs
from stackyard.metadata.due import Entry
from stackyard.metadata.emptying import drop_repository
from stackyard.metadata.hiding import Untagged, hide_unneeded, hide_untagged
from stackyard.metadata.prepared import Prepared

_NOW = Prepared(select(clock.now()))


def collect(
    c: Connection,
    entries: Sequence[Entry],
    *,
    grace: timedelta,
    readers: timedelta,
    undo: timedelta,
    untagged: Untagged | None = None,
) -> dict[Entry, Look]:
    """Look at each entry. What is done with leaves the queue; what is not yet due stays as it is.

    An entry with doomed bytes stays, too: `due.done` is for whoever has deleted them. What a rule could not hide before
    its promise was over is hidden now, and can be restored for `undo`. `untagged` says which other manifests go that
    nobody deleted; None: none.
    """
    looks = {}
    now = _NOW.scalar(c)
    for entry in entries:
        if entry.kind == "manifest":
            look = _look_at_manifest(c, entry, grace, undo, untagged)
        else:
            look = _look(c, entry, grace, readers)
        looks[entry] = look
        if look.doomed or (look.again > SOON and not look.gone and entry.due_at > now):
            continue
        due.done(c, [entry])  # first, as what is to be done at once may get the same place in the queue
        if look.again:
            due.add_again(c, entry, wait=AT_ONCE if look.again <= SOON else look.again)
    return looks


def _look_at_manifest(
    c: Connection, entry: Entry, grace: timedelta, undo: timedelta, untagged: Untagged | None
) -> Look:
    look = drop_manifest(c, entry.repository_id, entry.digest, grace=grace)
    if look != NOTHING_TO_DO:
        return look
    again = hide_unneeded(c, entry.repository_id, entry.digest, undo=undo)
    if untagged is not None and not again:
        again = hide_untagged(c, entry.repository_id, entry.digest, untagged)
    return Look(again=again)


def _look(c: Connection, entry: Entry, grace: timedelta, readers: timedelta) -> Look:
    if entry.kind == "link":
        return drop_link(c, entry.repository_id, entry.digest, grace=grace)
    if entry.kind == "repository":
        return drop_repository(c, entry.repository_id, grace=grace)
    return mark_blobs(c, entry.digest, readers=readers)
