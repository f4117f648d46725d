"""Rows: who links what, on SQLite or PostgreSQL."""
