"""Upload sessions: where the bytes of an unfinished blob lie, how many count, and who may add to them.

One writer at a time holds a claim. Two rules make a writer harmless that was stopped and woke up too late:

- Bytes below `offset` are never written again, by anybody: `offset` moves only when a writer releases its claim.
- Nobody else ever writes where a writer that did not release its claim may still be writing. Whoever takes over gets a
  new location, copies the first `offset` bytes there, and the session's location becomes the new one only with the
  release. Until then a crash costs the copy and nothing else: the next one takes over from the same old location.
  (In a bucket each writer fills an object of its own, so there the location changes with the second one.)

Every claim has a number, the fence, and every change of the session names it, so the one who woke up late changes
no row either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, or_, select

from stackyard.metadata import clock, quotas, repositories
from stackyard.metadata.errors import FenceLost
from stackyard.metadata.prepared import Prepared, Row, TextList, each
from stackyard.metadata.quotas import Account, Allowance, Hints
from stackyard.metadata.schema import repository, upload
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import UploadBusy, UploadUnknown


@dataclass(frozen=True, slots=True)
class Claim:
    """Who writes, and for how long without renewing."""

    holder: str
    span: timedelta


@dataclass(frozen=True, slots=True)
class Upload:
    """A session as it was when it was read or claimed."""

    id: str
    repository: str
    location: str
    """Where the bytes lie; for the holder of a claim, where to write."""
    offset: int
    """Bytes that count. More may lie at the location: they are cut off."""
    algorithm: str
    hashed: Digest | None
    """The digest of the first `offset` bytes, if it is known."""
    fence: int
    """The number of the claim, 0 before the first."""
    taken_over_from: str | None
    """The location whose first `offset` bytes the holder has to copy before it writes (none, when `offset` is 0)."""
    locations: tuple[str, ...]
    """Every location the session ever had, to be deleted when it ends."""
    started_at: datetime
    actor: str
    allowance: Allowance | None = None
    """What quotas left when the session was claimed; None: there are none."""

    def at(self, location: str) -> "Upload":
        """The same session, whose holder's bytes lie there now."""
        locations = tuple(location if one == self.location else one for one in self.locations)
        return replace(self, location=location, locations=locations)


_COLUMNS = (
    upload.c.id,
    repository.c.name,
    upload.c.location,
    upload.c.offset,
    upload.c.algorithm,
    upload.c.hashed,
    upload.c.fence,
    upload.c.writers,
    upload.c.started_at,
    upload.c.started_by,
)
_ALL = select(*_COLUMNS).join(repository, repository.c.id == upload.c.repository_id)
_ONE = _ALL.where(
    upload.c.id == bindparam("upload_id"),
    repository.c.name == bindparam("repository"),
    repository.c.deleted_at.is_(None),
)
_FIND = Prepared(_ONE)
_LOCK = Prepared(
    _ONE.add_columns(
        upload.c.holder, clock.until(upload.c.claimed_until), repository.c.id, repository.c.quotas
    ).with_for_update(of=upload)
)
_INSERT = Prepared(
    upload.insert()
    .values(
        id=bindparam("upload_id"),
        repository_id=bindparam("repository_id"),
        algorithm=bindparam("algorithm"),
        writers=1,
        location=bindparam("location"),
        offset=0,
        fence=bindparam("fence"),
        holder=bindparam("holder"),
        claimed_until=clock.after("span"),
        claimed_location=bindparam("location"),
        started_at=clock.now(),
        started_by=bindparam("actor"),
    )
    .returning(upload.c.started_at)
)
_CLAIM = Prepared(
    upload.update()
    .where(upload.c.id == bindparam("upload_id"))
    .values(
        fence=bindparam("fence"),
        writers=bindparam("writers"),
        holder=bindparam("holder"),
        claimed_until=clock.after("span"),
        claimed_location=bindparam("target"),
    )
)
_held = (upload.c.id == bindparam("upload_id"), upload.c.fence == bindparam("fence_"), upload.c.holder.is_not(None))
_RENEW = Prepared(upload.update().where(*_held).values(claimed_until=clock.after("span")))
_RELEASE = Prepared(
    upload.update()
    .where(*_held)
    .values(
        location=bindparam("location_"),
        offset=bindparam("offset_"),
        hashed=bindparam("hashed"),
        holder=None,
        claimed_until=None,
    )
)
_GIVE_UP = Prepared(upload.update().where(*_held).values(claimed_until=clock.now()))
_DELETE = Prepared(upload.delete().where(upload.c.id == bindparam("upload_id")))
_STALE = Prepared(
    _ALL.where(
        upload.c.started_at < clock.before("age"),
        or_(upload.c.holder.is_(None), upload.c.claimed_until <= clock.now()),
    )
    .order_by(upload.c.started_at)
    .limit(bindparam("limit"))
)
_OPEN = Prepared(select(upload.c.id).where(upload.c.id.op("IN")(each(bindparam("upload_ids", type_=TextList())))))
_COUNT = Prepared(select(func.count()).select_from(upload))


def start(  # noqa: PLR0913 - one transaction has to know all of it
    c: Connection,
    *,
    repository: str,
    upload_id: str,
    algorithm: str,
    actor: str,
    claim: Claim | None = None,
    hints: Hints | None = None,
) -> Upload:
    """Open a session, claimed at once when `claim` says so. The repository is made if need be.

    With `hints` quotas need not be looked at; then there is no allowance.

    Raises QuotaExceeded when nothing more fits, however small; with a `claim`, that is for the caller to see.
    """
    account, listed = repositories.ensure_account(c, repository)
    allowance = None
    if account.quotas is not None and not (hints and listed and hints.hold(account.quotas)):
        allowance = quotas.allowance(c, account, listed=listed)
        if hints:
            hints.learn(account.quotas, allowance)
    if allowance and not allowance.free and not claim:
        raise allowance.refusal(0)
    location = layout.upload(upload_id, 0)
    fence = 1 if claim else 0
    started_at = _INSERT.scalar(
        c,
        upload_id=upload_id,
        repository_id=account.repository_id,
        algorithm=algorithm,
        location=location,
        fence=fence,
        holder=claim.holder if claim else None,
        span=claim.span if claim else timedelta(),
        actor=actor,
    )
    started = Upload(upload_id, repository, location, 0, algorithm, None, fence, None, (location,), started_at, actor)
    return replace(started, allowance=allowance) if allowance else started


def find(c: Connection, repository: str, upload_id: str) -> Upload | None:
    """The open session of this repository, or None."""
    row = _FIND.one(c, repository=repository, upload_id=upload_id)
    return _upload(row) if row else None


def claim(
    c: Connection, *, repository: str, upload_id: str, holder: str, span: timedelta, allowance: bool = True
) -> Upload:
    """Become the session's writer. Nothing may be written at the result's location after the claim has ended.

    Without `allowance` what the quotas leave is not looked up: for who writes little, and commits at once.

    Raises:
        UploadUnknown: No such open session in this repository.
        UploadBusy: Another writer's claim has not ended.
    """
    row = _LOCK.one(c, repository=repository, upload_id=upload_id)
    if row is None:
        raise UploadUnknown()
    *columns, other, left, repository_id, quota_ids = row
    if other is not None and left > 0:
        raise UploadBusy()
    found = _upload(tuple(columns))
    writers, location, taken_over_from = len(found.locations), found.location, None
    # A location that an earlier writer left empty is not used again either: it may or may not have made the file.
    if other is not None or (found.offset == 0 and found.fence > 0):
        location, taken_over_from = layout.upload(upload_id, writers), found.location
        writers += 1
    _CLAIM.run(
        c,
        upload_id=upload_id,
        fence=found.fence + 1,
        writers=writers,
        holder=holder,
        span=span,
        target=location,
    )
    claimed = _upload(tuple(columns), location=location, taken_over_from=taken_over_from, writers=writers, claims=1)
    if quota_ids is None or not allowance:
        return claimed
    return replace(claimed, allowance=quotas.allowance(c, Account(repository_id, quota_ids)))


def renew(c: Connection, upload_id: str, fence: int, span: timedelta) -> None:
    """The claim lasts `span` from now, also when it had run out and nobody has come. Raises FenceLost."""
    if not _RENEW.run(c, upload_id=upload_id, fence_=fence, span=span):
        raise FenceLost(upload_id)


def release(c: Connection, upload_id: str, fence: int, *, location: str, offset: int, hashed: Digest | None) -> None:
    """End the claim: the first `offset` bytes at `location`, where the writer put them, count from now on.

    `hashed` is believed when the upload is finished, without reading the bytes again; so it is given only for bytes
    that are durable, or a power cut could leave a digest of other bytes. Raises FenceLost.
    """
    if not _RELEASE.run(c, upload_id=upload_id, fence_=fence, location_=location, offset_=offset, hashed=hashed):
        raise FenceLost(upload_id)


def give_up(c: Connection, upload_id: str, fence: int) -> None:
    """End the claim as if it had run out: what was written under it does not count. Raises FenceLost."""
    if not _GIVE_UP.run(c, upload_id=upload_id, fence_=fence):
        raise FenceLost(upload_id)


def cancel(c: Connection, repository: str, upload_id: str) -> Upload:
    """End the session, also under a writer, which then loses its claim. The caller deletes the result's locations.

    Raises UploadUnknown.
    """
    row = _LOCK.one(c, repository=repository, upload_id=upload_id)
    if row is None:
        raise UploadUnknown()
    _DELETE.run(c, upload_id=upload_id)
    return _upload(row[:-4])


def stale(c: Connection, *, age: timedelta, limit: int) -> list[Upload]:
    """Sessions opened longer than `age` ago that nobody is writing to, oldest first."""
    return [_upload(row) for row in _STALE.all(c, age=age, limit=limit)]


def open_ones(c: Connection, upload_ids: Sequence[str]) -> set[str]:
    """Those of these ids of which there is a session, in whichever repository."""
    return set(_OPEN.column(c, upload_ids=upload_ids))


def count_open(c: Connection) -> int:
    """How many sessions are open."""
    count: int = _COUNT.scalar(c)
    return count


def _upload(
    row: Row,
    *,
    location: str | None = None,
    taken_over_from: str | None = None,
    writers: int | None = None,
    claims: int = 0,
) -> Upload:
    upload_id, name, stored, offset, algorithm, hashed, fence, stored_writers, started_at, actor = row
    return Upload(
        id=upload_id,
        repository=name,
        location=location or stored,
        offset=offset,
        algorithm=algorithm,
        hashed=Digest(hashed) if hashed else None,
        fence=fence + claims,
        taken_over_from=taken_over_from,
        locations=tuple(_or_all_of(layout.upload(upload_id, n), stored) for n in range(writers or stored_writers)),
        started_at=started_at,
        actor=actor,
    )


def _or_all_of(location: str, stored: str) -> str:
    """The stored location, if it stands for several objects of which this is the first."""
    return stored if stored.startswith(f"{location}.") else location
