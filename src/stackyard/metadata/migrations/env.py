"""What Alembic runs: the connection comes from `metadata.migrate`, which holds the lock and the transaction."""

from alembic import context

from stackyard.metadata.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
