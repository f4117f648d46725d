"""Lifecycle: pulls, expiry, leases and jobs, rules, quotas, import, and what Distribution's view of the volume lacks.

Revision ID: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# As in `metadata/schema.py` at the time of this revision.
Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.BigInteger()


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Nothing that is there changes its meaning."""
    _content()
    _pulls()
    _work()
    _policy()
    _imports()


def _content() -> None:
    # Nobody's pulls are known before this moment, on the database's clock as `metadata/clock.py` reads it.
    op.add_column("installation", sa.Column("pulls_since", Instant, nullable=False, server_default="0"))
    op.add_column("installation", sa.Column("import_state", Name, nullable=True))
    op.add_column("installation", sa.Column("view_complete", sa.Boolean(), nullable=False, server_default=sa.false()))
    now = {
        "sqlite": "CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER) * 1000",
        "postgresql": "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)",
    }[op.get_bind().dialect.name]
    op.execute(f"UPDATE installation SET pulls_since = {now}")  # noqa: S608 - two constants
    op.create_index(
        "repository_deleted", "repository", ["name", "deleted_at"], unique=False, **_where("deleted_at IS NOT NULL")
    )
    op.add_column("blob", sa.Column("verified_at", Instant, nullable=True))
    op.add_column("blob", sa.Column("damage", sa.Text(), nullable=True))
    op.create_index("blob_quarantined", "blob", ["digest"], unique=False, **_where("state = 'quarantined'"))
    op.add_column("manifest", sa.Column("expires_after", sa.BigInteger(), nullable=True))
    op.add_column("manifest", sa.Column("unneeded_by", sa.Text(), nullable=True))
    op.create_index("ix_manifest_digest", "manifest", ["digest"], unique=False)
    op.add_column("manifest_reference", sa.Column("missing", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("tag", sa.Column("expires_at", Instant, nullable=True))
    op.create_index("ix_tag_history_repository_id_digest", "tag_history", ["repository_id", "digest"], unique=False)
    op.create_index("tag_expiry", "tag", ["expires_at"], unique=False, **_where("expires_at IS NOT NULL"))


def _pulls() -> None:
    op.create_table(
        "tag_pull",
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("pulled_at", Instant, nullable=False),
        sa.Column("pulled_by", sa.Text(), nullable=False),
        sa.Column("pulls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_tag_pull"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "manifest_pull",
        sa.Column("manifest_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pulled_at", Instant, nullable=False),
        sa.Column("pulled_by", sa.Text(), nullable=False),
        sa.Column("pulls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("manifest_id", name="pk_manifest_pull"),
        sqlite_with_rowid=False,
    )


def _work() -> None:
    op.drop_table("job")  # nothing was ever written to it
    op.create_table(
        "lease",
        sa.Column("name", Name, nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", Instant, nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job",
        sa.Column("id", Identity, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("started_at", Instant, nullable=True),
        sa.Column("finished_at", Instant, nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="ck_job_state"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_audit_happened_at", "audit", ["happened_at", "id"], unique=False)
    op.create_index("ix_audit_actor", "audit", ["actor", "id"], unique=False)
    op.create_index("ix_audit_action", "audit", ["action", "id"], unique=False)
    op.create_index("audit_repository", "audit", ["repository", "id"], unique=False, **_where("repository IS NOT NULL"))
    op.create_index("job_open", "job", ["kind", "id"], unique=False, **_where("finished_at IS NULL"))
    op.create_table(
        "follow",
        sa.Column("id", Identity, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.CheckConstraint("kind IN ('repository', 'manifest', 'tag', 'link', 'blob')", name="ck_follow_kind"),
        sa.PrimaryKeyConstraint("id", name="pk_follow"),
    )


def _policy() -> None:
    op.add_column("repository", sa.Column("quotas", sa.Text(), nullable=True))
    op.add_column("repository", sa.Column("uncounted_to", Name, nullable=True))
    op.add_column("repository", sa.Column("settle_after", Instant, nullable=True))
    unsettled = _where("deleted_at IS NOT NULL AND quotas IS NOT NULL")
    op.create_index("repository_unsettled", "repository", ["id"], unique=False, **unsettled)
    op.add_column("blob_link", sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.execute(sa.text("UPDATE blob_link SET counted = :no WHERE deleted_at IS NOT NULL").bindparams(no=False))
    op.create_table(
        "rule",
        sa.Column("id", Identity, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("source IN ('config', 'api')", name="ck_rule_source"),
        sa.PrimaryKeyConstraint("id", name="pk_rule"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "quota",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("prefix", Name, nullable=False),
        sa.Column("max_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_repositories", sa.BigInteger(), nullable=True),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("used_repositories", sa.BigInteger(), nullable=False),
        sa.Column("counted_to", sa.BigInteger(), nullable=True),
        sa.Column("counted_digest", Name, nullable=True),
        sa.Column("source", Name, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("source IN ('config', 'api')", name="ck_quota_source"),
        sa.PrimaryKeyConstraint("id", name="pk_quota"),
        sa.UniqueConstraint("prefix", name="uq_quota_prefix"),
    )
    op.create_table(
        "quota_digest",
        sa.Column("quota_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("links", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("quota_id", "digest", name="pk_quota_digest"),
        sqlite_with_rowid=False,
    )


def _imports() -> None:
    op.create_table(
        "import_repository",
        sa.Column("name", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("manifests", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'done')", name="ck_import_repository_state"),
        sa.PrimaryKeyConstraint("name", name="pk_import_repository"),
        sqlite_with_rowid=False,
    )
    op.create_index("import_waiting", "import_repository", ["name"], unique=False, **_where("state = 'waiting'"))
    op.create_table(
        "import_problem",
        sa.Column("id", Identity, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_import_problem"),
        sa.UniqueConstraint("path", "reason", name="uq_import_problem_path_reason"),
    )
