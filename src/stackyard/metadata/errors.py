"""What can go wrong with the rows, apart from what a client can act on (that is `oci.errors`).

MetadataError
├── FenceLost            somebody else took the session over, or it ended
├── BlobVanished         the bytes a write relied on are being collected
├── DatabaseFull         no space for the database
├── DatabaseUnavailable  no answer from it; later may work
└── CannotStart          said once, at the start, in one sentence
    ├── SQLiteTooOld · UnsafeFileSystem · BadDatabaseURL
    └── SchemaMissing · SchemaOutdated · SchemaTooNew
"""


class MetadataError(Exception):
    """The rows could not be read or written."""


class FenceLost(MetadataError):
    """The claim is not ours any more: it was taken over, or the session ended."""


class BlobVanished(MetadataError):
    """The blob to be linked is not live (any more): its bytes have to be published after all."""


class DatabaseFull(MetadataError):
    """No space left for the database. Nothing of the transaction is visible."""


class DatabaseUnavailable(MetadataError):
    """The database does not answer, or is locked by somebody who does not let go. Whether a write happened is open."""


class LeaseLost(MetadataError):
    """Another process does this background work now, or may."""


class CannotStart(MetadataError):
    """The database cannot be used as it is; the message says what to do."""


class BadDatabaseURL(CannotStart):
    """Neither `sqlite:///path` nor `postgresql://…`."""


class SQLiteTooOld(CannotStart):
    """This SQLite can corrupt a WAL database that several processes write."""


class UnsafeFileSystem(CannotStart):
    """The file system cannot carry SQLite's shared memory or locks."""


class SchemaMissing(CannotStart):
    """The database holds no tables of ours."""


class SchemaOutdated(CannotStart):
    """The database was not migrated to this version."""


class SchemaTooNew(CannotStart):
    """A newer stackyard migrated the database and this one can no longer work with it."""
