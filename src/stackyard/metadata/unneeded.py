"""Manifests that nobody deleted and that nothing needs: what collecting with `delete_untagged` would delete.

No tag points to them, no index names them and no subject keeps them, but what is one of them itself; and no client was
promised lately that they are here. Every manifest without a tag is looked at.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, bindparam, func, select

from stackyard.metadata import clock
from stackyard.metadata.prepared import NumberList, Prepared, Row, each
from stackyard.metadata.schema import manifest, manifest_reference, repository, tag
from stackyard.metadata.tags import BY_RULE

_wanted = each(bindparam("wanted", type_=NumberList()))
_holder = manifest.alias("holder")
# What a person deleted can be restored as it was, so it needs what it names; what a rule hid comes back together.
_holds = _holder.c.deleted_at.is_(None) | _holder.c.deleted_by.not_in(BY_RULE)
_LOOSE = Prepared(
    select(manifest.c.id)
    .join(repository, repository.c.id == manifest.c.repository_id)
    .where(
        repository.c.deleted_at.is_(None),
        manifest.c.deleted_at.is_(None),
        manifest.c.promised_until <= clock.now(),
        ~select(tag.c.name).where(tag.c.manifest_id == manifest.c.id).exists(),
    )
)
_PARENTS = Prepared(
    select(manifest.c.id, _holder.c.id)
    .select_from(manifest)
    .join(
        manifest_reference,
        (manifest_reference.c.repository_id == manifest.c.repository_id)
        & (manifest_reference.c.digest == manifest.c.digest),
    )
    .join(_holder, _holder.c.id == manifest_reference.c.manifest_id)
    .where(manifest.c.id.op("IN")(_wanted), _holds)
)
_SUBJECTS = Prepared(
    select(manifest.c.id, _holder.c.id)
    .select_from(manifest)
    .join(
        _holder,
        (_holder.c.repository_id == manifest.c.repository_id) & (_holder.c.digest == manifest.c.subject),
    )
    .where(manifest.c.id.op("IN")(_wanted), _holds)
)

_COUNT = Prepared(
    select(func.count()).select_from(manifest).where(manifest.c.id.op("IN")(_wanted), manifest.c.deleted_at.is_(None))
)


def manifests(c: Connection) -> list[int]:
    """Their rows, in order."""
    found = set(_LOOSE.column(c))
    holders: dict[int, set[int]] = defaultdict(set)
    for held, holder in _held(c, sorted(found)):
        holders[held].add(holder)
    while kept := [one for one in holders.keys() & found if holders[one] - found]:
        found.difference_update(kept)
    return sorted(found)


def count_left(c: Connection, rows: Sequence[int]) -> int:
    """How many of these were not deleted since."""
    found: int = _COUNT.scalar(c, wanted=list(rows))
    return found


def _held(c: Connection, wanted: list[int]) -> Iterator[Row]:
    """(what is held, what holds it)."""
    for statement in (_PARENTS, _SUBJECTS):
        yield from statement.all(c, wanted=wanted)
