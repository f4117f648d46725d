"""Bytes in files below one folder."""

from stackyard.storage.filesystem.store import FilesystemStore

__all__ = ["FilesystemStore"]
