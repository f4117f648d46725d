"""When tags and manifests were last pulled, by whom, and how often. Written in batches, and no promise of anything.

A pull by tag is the tag's own; a pull by digest is the manifest's, and counts for every tag that reaches it. A row goes
with the tag or manifest that it tells of. (A batch that meets a delete on PostgreSQL may leave a row behind: it goes
when a tag of that name goes again, and until then it can only keep one.)
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, case, select, type_coerce
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import installation, manifest, manifest_pull, repository, tag, tag_pull
from stackyard.oci.digests import is_digest


class Pulled(NamedTuple):
    """What was pulled, as often as one process saw it since its last batch."""

    repository: str
    reference: str
    """A tag or a digest."""
    ago: timedelta
    """Since the last time."""
    actor: str
    times: int


def _upsert(table: Table, keys: Sequence[str], source: Any) -> Prepared:
    """Add a row, or to the row that is there. What is gone by now is left out."""
    when = type_coerce(clock.before("ago"), table.c.pulled_at.type)
    how_often = bindparam("times", type_=table.c.pulls.type)
    by = bindparam("actor", type_=table.c.pulled_by.type)
    new = insert(table).from_select([*keys, "pulled_at", "pulled_by", "pulls"], source.add_columns(when, by, how_often))
    later = new.excluded.pulled_at > table.c.pulled_at
    changed = {
        "pulled_at": case((later, new.excluded.pulled_at), else_=table.c.pulled_at),
        "pulled_by": case((later, new.excluded.pulled_by), else_=table.c.pulled_by),
        "pulls": table.c.pulls + new.excluded.pulls,
    }
    return Prepared(new.on_conflict_do_update(index_elements=list(keys), set_=changed))


_of_repository = (repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
_TAG = _upsert(
    tag_pull,
    ("repository_id", "name"),
    select(tag.c.repository_id, tag.c.name)
    .join(repository, repository.c.id == tag.c.repository_id)
    .where(*_of_repository, tag.c.name == bindparam("reference")),
)
_MANIFEST = _upsert(
    manifest_pull,
    ("manifest_id",),
    select(manifest.c.id)
    .join(repository, repository.c.id == manifest.c.repository_id)
    .where(*_of_repository, manifest.c.digest == bindparam("reference"), manifest.c.deleted_at.is_(None)),
)
_SINCE = Prepared(select(installation.c.pulls_since).where(installation.c.id == 1))
_FORGET_TAG = Prepared(
    tag_pull.delete().where(
        tag_pull.c.repository_id == bindparam("repository_id"), tag_pull.c.name == bindparam("name")
    )
)
_FORGET_MANIFEST = Prepared(manifest_pull.delete().where(manifest_pull.c.manifest_id == bindparam("manifest_id")))


def record(c: Connection, batch: Sequence[Pulled]) -> None:
    """Remember these pulls, at most some hundreds at a time. What is not there any more is left out."""
    rows = [one._asdict() for one in sorted(batch)]  # in one order, so that two batches make no deadlock
    _TAG.many(c, [row for row in rows if not is_digest(row["reference"])])
    _MANIFEST.many(c, [row for row in rows if is_digest(row["reference"])])


def since(c: Connection) -> datetime:
    """Since when pulls are recorded: what was not pulled since then may have been pulled before."""
    found: datetime = _SINCE.scalar(c)
    return found


def forget_tags(c: Connection, repository_id: int, names: Sequence[str]) -> None:
    """The tags go."""
    _FORGET_TAG.many(c, [{"repository_id": repository_id, "name": name} for name in names])


def forget_manifest(c: Connection, manifest_id: int) -> None:
    """The manifest's row goes."""
    _FORGET_MANIFEST.run(c, manifest_id=manifest_id)
