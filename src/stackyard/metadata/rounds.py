"""One look at a part of the queue, in one transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from stackyard.metadata import clock, due
from stackyard.metadata.collection import (
    AT_ONCE,
    NOTHING_TO_DO,
    SOON,
    Look,
    drop_link,
    drop_links,
    drop_manifest,
    mark_all,
    mark_blobs,
)
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
    now = _NOW.scalar(c)
    looks: dict[Entry, Look] = {}
    for entry in entries:
        if entry.kind == "manifest":
            looks[entry] = _look_at_manifest(c, entry, grace, undo, untagged)
        elif entry.kind == "repository":
            looks[entry] = drop_repository(c, entry.repository_id, grace=grace)
        else:
            continue
        _settle(c, {entry: looks[entry]}, now)
    # These only queue what comes after them here, so many can be looked at together.
    for kind in ("link", "blob"):
        found = _look_at_all(c, [entry for entry in entries if entry.kind == kind], grace, readers)
        _settle(c, found, now)
        looks.update(found)
    return looks


def _settle(c: Connection, looks: Mapping[Entry, Look], now: datetime) -> None:
    """Take off the queue what is done with, and queue again what is to be looked at later."""
    over = {
        entry: look
        for entry, look in looks.items()
        if not (look.doomed or (look.again > SOON and not look.gone and entry.due_at > now))
    }
    due.done(c, list(over))  # first, as what is to be done at once may get the same place in the queue
    waits = {entry: AT_ONCE if look.again <= SOON else look.again for entry, look in over.items() if look.again}
    due.add_again(c, waits)


def _look_at_all(c: Connection, entries: Sequence[Entry], grace: timedelta, readers: timedelta) -> dict[Entry, Look]:
    """A look at links, or at blobs. Of several entries about one thing, each after the first finds what that left."""
    looks: dict[Entry, Look] = {}
    firsts: dict[int, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        firsts[entry.repository_id].setdefault(entry.digest, entry)
    for repository_id, first in firsts.items():
        if repository_id:
            found = drop_links(c, repository_id, list(first), grace=grace)
        else:
            found = mark_all(c, list(first), readers=readers)
        looks.update((first[digest], look) for digest, look in found.items())
    for entry in entries:
        if entry not in looks:
            looks[entry] = _look_again(c, entry, grace, readers)
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


def _look_again(c: Connection, entry: Entry, grace: timedelta, readers: timedelta) -> Look:
    if entry.kind == "link":
        return drop_link(c, entry.repository_id, entry.digest, grace=grace)
    return mark_blobs(c, entry.digest, readers=readers)
