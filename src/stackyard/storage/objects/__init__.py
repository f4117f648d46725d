"""The store in a bucket: S3 and what speaks it, Google Cloud Storage, Azure."""

from stackyard.storage.objects.store import ObjectStore

__all__ = ["ObjectStore"]
