"""Alembic's scripts. `metadata.migrate` runs them; there is no alembic.ini."""
