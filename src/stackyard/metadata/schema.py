"""The tables, as SQLAlchemy Core. What each row promises stands beside it.

`repository_id` comes first in the keys of what belongs to a repository, so that one database engine that shards by it
can take over. Digests and states are text, so that a person with a SQL shell can read them. Names and digests compare
by bytes on both engines. Foreign keys are left out: no row that others name is ever removed before them, and on
PostgreSQL each one would cost a lock and a lookup per row written.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
    true,
)

from stackyard.metadata.clock import Instant

VERSION = 2
"""What this code writes. Raised by every migration."""
FLOOR = 2
"""The oldest code that may still work on a database of this VERSION."""

# States are written into the statements, not bound: only then do the planners use the partial indexes.
PENDING, LIVE, DELETING, QUARANTINED = (
    literal_column(f"'{state}'", Text()) for state in ("pending", "live", "deleting", "quarantined")
)

# SQLite numbers rows by itself only in a column that is exactly INTEGER.
Identity = BigInteger().with_variant(Integer(), "sqlite")
# SQLite compares text by bytes; PostgreSQL only when told so.
Name = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _clustered(name: str, *items: Any) -> Table:
    """A table that SQLite keeps in the order of its primary key, saving one tree and one lookup."""
    return Table(name, metadata, *items, sqlite_with_rowid=False)


def _partial(name: str, *columns: Column[Any], where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


# One row. A migration changes it last, so its version is the truth about all other tables.
installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("floor", Integer, nullable=False),
    # Raised whenever rules, quotas or other policy change, so that nobody acts on remembered ones.
    Column("policy_epoch", BigInteger, nullable=False),
    # Since when pulls are recorded: what was not pulled since then may have been pulled before.
    Column("pulls_since", Instant, nullable=False),
    # NULL: nobody has looked yet. listing: the repositories of the volume are being found; reading: all are known, see
    # `import_repository`; done: all that was found is in the other tables, or there was nothing.
    Column("import_state", Name),
    # Whether Distribution's view of the volume shows everything but what `follow` tells of.
    Column("view_complete", Boolean, nullable=False, server_default=false()),
    CheckConstraint("id = 1", name="only_row"),
)

# A deleted repository keeps its row and all that hangs on it until its undo span ends; a push under the same name
# meanwhile makes a new row.
repository = Table(
    "repository",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", Name, nullable=False),
    # True from the first manifest on: an upload alone does not make a repository known.
    Column("listed", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Column("deleted_by", Text),
    Column("restorable_until", Instant),
    # The quotas that count what it holds: their ids, ascending, with commas between; NULL: none does. Written where
    # every push looks anyway, so that quotas cost nothing where there are none.
    Column("quotas", Text),
    # Digests up to this one count no more (it is deleted) or not again yet (it is being restored); NULL: all count.
    Column("uncounted_to", Name),
    # It is being restored: nobody takes it off its quotas before this.
    Column("settle_after", Instant),
)
_partial("repository_name", repository.c.name, where="deleted_at IS NULL", unique=True)
_partial("repository_deleted", repository.c.name, repository.c.deleted_at, where="deleted_at IS NOT NULL")
_partial("repository_unsettled", repository.c.id, where="deleted_at IS NOT NULL AND quotas IS NOT NULL")

# A location is owned by exactly one row, from before its first byte until after its last (`copy` counts a digest's
# locations, and `tombstone` goes on counting when the rows are gone).
blob = Table(
    "blob",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("digest", Name, nullable=False),
    Column("copy", Integer, nullable=False),
    Column("location", Name, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    # When it got the state `deleting`: the bytes stay for readers a while longer.
    Column("marked_at", Instant),
    # When its bytes were last read back and had the right digest; NULL: not since they were written.
    Column("verified_at", Instant),
    # Why it is quarantined.
    Column("damage", Text),
    UniqueConstraint("digest", "copy"),
    UniqueConstraint("location"),
    CheckConstraint("state IN ('pending', 'live', 'deleting', 'quarantined')", name="state"),
)
_partial("blob_live", blob.c.digest, where="state = 'live'", unique=True)
_partial("blob_quarantined", blob.c.digest, where="state = 'quarantined'")

tombstone = _clustered(
    "tombstone",
    Column("digest", Name, primary_key=True),
    Column("next_copy", Integer, nullable=False),
)

# Where a blob may be seen. Follows the digest, not the blob row, so that bytes that came again heal every link.
blob_link = _clustered(
    "blob_link",
    Column("repository_id", BigInteger, primary_key=True),
    Column("digest", Name, primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    # Not collected before: what a client was told to be there.
    Column("promised_until", Instant, nullable=False),
    Column("deleted_at", Instant),
    Column("deleted_by", Text),
    Column("restorable_until", Instant),
    # Quotas count it: it can be seen, and not all manifests that need it are deleted.
    Column("counted", Boolean, nullable=False, server_default=true()),
)
Index("ix_blob_link_digest", blob_link.c.digest)

manifest = Table(
    "manifest",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("repository_id", BigInteger, nullable=False),
    Column("digest", Name, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    # Bytes of the manifest and of all that it names, children's own references not counted.
    Column("total_size", BigInteger, nullable=False),
    Column("artifact_type", Text),
    Column("config_media_type", Text),
    Column("platform", Text),
    Column("subject", Name),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("promised_until", Instant, nullable=False),
    Column("deleted_at", Instant),
    Column("deleted_by", Text),
    Column("restorable_until", Instant),
    # JSON object of strings, NULL when empty.
    Column("annotations", Text),
    # Last, so that reading the columns above never touches a large manifest's overflow pages.
    Column("payload", LargeBinary, nullable=False),
    # Seconds that a tag may point here before it expires, from `expires-after` labels and annotations. Seldom read.
    Column("expires_after", BigInteger),
    # The rule that took away what held it, while it was promised: when that is over it goes, unless something needs it.
    Column("unneeded_by", Text),
    UniqueConstraint("repository_id", "digest"),
)
# The manifest's own bytes may lie in the store as well, for Distribution to find.
Index("ix_manifest_digest", manifest.c.digest)
_partial(
    "manifest_subject",
    manifest.c.repository_id,
    manifest.c.subject,
    manifest.c.digest,
    where="subject IS NOT NULL",
)

# What a manifest row names. Lives exactly as long as that row, so also while the manifest can be restored.
manifest_reference = _clustered(
    "manifest_reference",
    Column("repository_id", BigInteger, primary_key=True),
    Column("digest", Name, primary_key=True),
    Column("manifest_id", BigInteger, primary_key=True),
    Column("kind", Name, nullable=False),
    # False marks the exceptions: what need not be in the store.
    Column("required", Boolean, nullable=False),
    # It was not there when the manifest was imported: the manifest is incomplete until it is pushed.
    Column("missing", Boolean, nullable=False, server_default=false()),
    CheckConstraint("kind IN ('config', 'layer', 'child')", name="kind"),
)
Index("ix_manifest_reference_manifest_id", manifest_reference.c.manifest_id)

tag = _clustered(
    "tag",
    Column("repository_id", BigInteger, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("manifest_id", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    Column("expires_at", Instant),
)
Index("ix_tag_manifest_id", tag.c.manifest_id)
_partial("tag_expiry", tag.c.expires_at, where="expires_at IS NOT NULL")

# The last pulls, written in batches. Apart from the rows they tell of, which would have to be rewritten whole.
tag_pull = _clustered(
    "tag_pull",
    Column("repository_id", BigInteger, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("pulled_at", Instant, nullable=False),
    Column("pulled_by", Text, nullable=False),
    Column("pulls", BigInteger, nullable=False),
)
# By digest; a pull by tag is the tag's.
manifest_pull = _clustered(
    "manifest_pull",
    Column("manifest_id", BigInteger, primary_key=True, autoincrement=False),
    Column("pulled_at", Instant, nullable=False),
    Column("pulled_by", Text, nullable=False),
    Column("pulls", BigInteger, nullable=False),
)

# Every digest that a tag no longer points to, oldest first.
tag_history = Table(
    "tag_history",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("repository_id", BigInteger, nullable=False),
    Column("name", Name, nullable=False),
    Column("digest", Name, nullable=False),
    Column("set_at", Instant, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Column("ended_by", Text, nullable=False),
    # moved: the tag points elsewhere now. deleted: the tag went. manifest: it went with its manifest.
    Column("reason", Name, nullable=False),
    Column("restorable_until", Instant, nullable=False),
    CheckConstraint("reason IN ('moved', 'deleted', 'manifest')", name="reason"),
)
Index("ix_tag_history_repository_id_digest", tag_history.c.repository_id, tag_history.c.digest)
Index("ix_tag_history_repository_id_name", tag_history.c.repository_id, tag_history.c.name, tag_history.c.id)

# What may have become garbage, and when to look. Only a hint: whoever takes a row checks everything again.
# Keyed by time alone, unlike the rest: it is read from its old end and written near its new one.
due = _clustered(
    "due",
    Column("due_at", Instant, primary_key=True),
    Column("kind", Name, primary_key=True),
    # 0 where the matter belongs to no repository.
    Column("repository_id", BigInteger, primary_key=True),
    Column("digest", Name, primary_key=True),
    CheckConstraint("kind IN ('blob', 'link', 'manifest', 'repository')", name="kind"),
)

upload = _clustered(
    "upload",
    Column("id", Name, primary_key=True),
    Column("repository_id", BigInteger, nullable=False),
    Column("algorithm", Name, nullable=False),
    # How many locations this session has had; the bytes lie at `location`, which is one of them.
    Column("writers", Integer, nullable=False),
    Column("location", Name, nullable=False),
    # Bytes at `location` that count; there may be more, of a writer that did not come to its end.
    Column("offset", BigInteger, nullable=False),
    # The digest of the first `offset` bytes, when it is known.
    Column("hashed", Name),
    # The claim: who writes, until when, and which claim it is, counted from 1. Nobody writes when `holder` is NULL.
    Column("fence", BigInteger, nullable=False),
    Column("holder", Text),
    Column("claimed_until", Instant),
    # Where the holder writes. Becomes `location` when it comes to its end; not `location` while it takes over.
    Column("claimed_location", Name),
    Column("started_at", Instant, nullable=False),
    Column("started_by", Text, nullable=False),
)
Index("ix_upload_started_at", upload.c.started_at)

# Placed by a backup, an export or a move to another store: what they need stays.
hold = _clustered(
    "hold",
    Column("kind", Name, primary_key=True),
    Column("id", Name, primary_key=True),
    Column("expires_at", Instant, nullable=False),
)

# What happened, for those who follow. Rows are written in the transaction that they tell of.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("repository_id", BigInteger, nullable=False),
    Column("happened_at", Instant, nullable=False),
    Column("kind", Name, nullable=False),
    Column("detail", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("happened_at", Instant, nullable=False),
    Column("actor", Name, nullable=False),
    Column("action", Name, nullable=False),
    Column("repository", Name),
    Column("detail", Text),
)
Index("ix_audit_happened_at", audit.c.happened_at, audit.c.id)
Index("ix_audit_actor", audit.c.actor, audit.c.id)
Index("ix_audit_action", audit.c.action, audit.c.id)
_partial("audit_repository", audit.c.repository, audit.c.id, where="repository IS NOT NULL")

# One row per kind of background work: who does it, until when, and which turn it is.
lease = _clustered(
    "lease",
    Column("name", Name, primary_key=True),
    Column("holder", Text),
    Column("fence", BigInteger, nullable=False),
    Column("leased_until", Instant),
    # JSON: what the next holder goes on from.
    Column("state", Text),
)

# Long work that somebody asked for. Done by whichever process holds the lease for its kind.
job = Table(
    "job",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("state", Name, nullable=False),
    # JSON objects.
    Column("request", Text, nullable=False),
    Column("progress", Text),
    Column("result", Text),
    # Somebody asked for it to end early.
    Column("cancelled", Boolean, nullable=False),
    # How often it was begun: work that ends its process each time must not be tried for ever.
    Column("attempts", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state"),
)
_partial("job_open", job.c.kind, job.c.id, where="finished_at IS NULL")

# What may not have reached the view of the volume that Distribution reads. Only a hint, as `due`: whoever takes a row
# writes what the other tables say now.
follow = Table(
    "follow",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("repository_id", BigInteger, nullable=False),
    Column("kind", Name, nullable=False),
    # A tag, or a digest.
    Column("name", Name, nullable=False),
    CheckConstraint("kind IN ('repository', 'manifest', 'tag', 'link', 'blob')", name="kind"),
)

# One decision of an administrator about repositories whose names match: retention, immutable tags and so on.
rule = Table(
    "rule",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("kind", Name, nullable=False),
    # JSON object, as `registry` reads it.
    Column("detail", Text, nullable=False),
    # config: stands in the configuration file, and can be changed only there.
    Column("source", Name, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    CheckConstraint("source IN ('config', 'api')", name="source"),
    sqlite_autoincrement=True,  # a number is not given twice: the audit log names rules that are gone
)

# A limit on all repositories whose names begin with `prefix` ('' for the whole store).
quota = Table(
    "quota",
    metadata,
    # The policy epoch that it came with: never given twice, for repositories remember it longer than it may live.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("prefix", Name, nullable=False),
    # Bytes and numbers of repositories; NULL: no limit.
    Column("max_bytes", BigInteger),
    Column("max_repositories", BigInteger),
    Column("used_bytes", BigInteger, nullable=False),
    Column("used_repositories", BigInteger, nullable=False),
    # How far the repositories that were there before it are counted: up to this id; NULL: all are. Of that one
    # repository, the digests up to `counted_digest`.
    Column("counted_to", BigInteger),
    Column("counted_digest", Name),
    Column("source", Name, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    UniqueConstraint("prefix"),
    CheckConstraint("source IN ('config', 'api')", name="source"),
)
# How many links and manifests below a quota's prefix count for a digest. Its size is counted once, while there are any.
quota_digest = _clustered(
    "quota_digest",
    Column("quota_id", BigInteger, primary_key=True),
    Column("digest", Name, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("links", BigInteger, nullable=False),
)

# Repositories found on a volume of Distribution's, and how far each has been imported.
import_repository = _clustered(
    "import_repository",
    Column("name", Name, primary_key=True),
    Column("state", Name, nullable=False),
    # Whether Distribution lists it.
    Column("listed", Boolean, nullable=False),
    # What it becomes: a row that is marked as deleted, by nobody, until everything is there.
    Column("repository_id", BigInteger),
    Column("manifests", BigInteger, nullable=False),
    Column("tags", BigInteger, nullable=False),
    CheckConstraint("state IN ('waiting', 'done')", name="state"),
)
_partial("import_waiting", import_repository.c.name, where="state = 'waiting'")
# What could not be taken over, and why.
import_problem = Table(
    "import_problem",
    metadata,
    Column("id", Identity, primary_key=True),
    # Below the root of the volume.
    Column("path", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("found_at", Instant, nullable=False),
    UniqueConstraint("path", "reason"),
)

signing_key = _clustered(
    "signing_key",
    Column("kid", Name, primary_key=True),
    Column("private_pem", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("retired_at", Instant),
)
