"""The first schema. What the tables mean stands in `metadata/schema.py`; this is how they came to be.

Revision ID: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# As in `metadata/schema.py` at the time of this revision.
Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.BigInteger()


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Make everything, the seams of later work included."""
    _content()
    _work()
    _installation()


def _content() -> None:
    op.create_table(
        "repository",
        sa.Column("id", Identity, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("deleted_at", Instant, nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("restorable_until", Instant, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_repository"),
    )
    op.create_index(
        "repository_name",
        "repository",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "blob",
        sa.Column("id", Identity, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("copy", sa.Integer(), nullable=False),
        sa.Column("location", Name, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("marked_at", Instant, nullable=True),
        sa.CheckConstraint("state IN ('pending', 'live', 'deleting', 'quarantined')", name="ck_blob_state"),
        sa.PrimaryKeyConstraint("id", name="pk_blob"),
        sa.UniqueConstraint("digest", "copy", name="uq_blob_digest_copy"),
        sa.UniqueConstraint("location", name="uq_blob_location"),
    )
    op.create_index(
        "blob_live",
        "blob",
        ["digest"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "tombstone",
        sa.Column("digest", Name, nullable=False),
        sa.Column("next_copy", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_tombstone"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blob_link",
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("promised_until", Instant, nullable=False),
        sa.Column("deleted_at", Instant, nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("restorable_until", Instant, nullable=True),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_blob_link"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_blob_link_digest", "blob_link", ["digest"], unique=False)
    op.create_table(
        "manifest",
        sa.Column("id", Identity, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("total_size", sa.BigInteger(), nullable=False),
        sa.Column("artifact_type", sa.Text(), nullable=True),
        sa.Column("config_media_type", sa.Text(), nullable=True),
        sa.Column("platform", sa.Text(), nullable=True),
        sa.Column("subject", Name, nullable=True),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("promised_until", Instant, nullable=False),
        sa.Column("deleted_at", Instant, nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("restorable_until", Instant, nullable=True),
        sa.Column("annotations", sa.Text(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_manifest"),
        sa.UniqueConstraint("repository_id", "digest", name="uq_manifest_repository_id_digest"),
    )
    op.create_index(
        "manifest_subject",
        "manifest",
        ["repository_id", "subject", "digest"],
        unique=False,
        sqlite_where=sa.text("subject IS NOT NULL"),
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.create_table(
        "manifest_reference",
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("manifest_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('config', 'layer', 'child')", name="ck_manifest_reference_kind"),
        sa.PrimaryKeyConstraint("repository_id", "digest", "manifest_id", name="pk_manifest_reference"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_manifest_reference_manifest_id", "manifest_reference", ["manifest_id"], unique=False)
    op.create_table(
        "tag",
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("manifest_id", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_tag"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tag_manifest_id", "tag", ["manifest_id"], unique=False)
    op.create_table(
        "tag_history",
        sa.Column("id", Identity, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("set_at", Instant, nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("ended_at", Instant, nullable=False),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("restorable_until", Instant, nullable=False),
        sa.CheckConstraint("reason IN ('moved', 'deleted', 'manifest')", name="ck_tag_history_reason"),
        sa.PrimaryKeyConstraint("id", name="pk_tag_history"),
    )
    op.create_index("ix_tag_history_repository_id_name", "tag_history", ["repository_id", "name", "id"], unique=False)


def _work() -> None:
    op.create_table(
        "upload",
        sa.Column("id", Name, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("algorithm", Name, nullable=False),
        sa.Column("writers", sa.Integer(), nullable=False),
        sa.Column("location", Name, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("hashed", Name, nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("claimed_until", Instant, nullable=True),
        sa.Column("claimed_location", Name, nullable=True),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_upload_started_at", "upload", ["started_at"], unique=False)
    op.create_table(
        "due",
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.CheckConstraint("kind IN ('blob', 'link', 'manifest', 'repository')", name="ck_due_kind"),
        sa.PrimaryKeyConstraint("due_at", "kind", "repository_id", "digest", name="pk_due"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hold",
        sa.Column("kind", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name="pk_hold"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("id", Identity, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("happened_at", Instant, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_table(
        "audit",
        sa.Column("id", Identity, nullable=False),
        sa.Column("happened_at", Instant, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("action", Name, nullable=False),
        sa.Column("repository", Name, nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_table(
        "job",
        sa.Column("name", Name, nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", Instant, nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_job"),
        sqlite_with_rowid=False,
    )


def _installation() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("floor", sa.Integer(), nullable=False),
        sa.Column("policy_epoch", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_installation_only_row"),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    op.create_table(
        "signing_key",
        sa.Column("kid", Name, nullable=False),
        sa.Column("private_pem", sa.Text(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("retired_at", Instant, nullable=True),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_key"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO installation (id, version, floor, policy_epoch) VALUES (1, 1, 1, 0)")
