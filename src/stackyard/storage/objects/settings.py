"""Which bucket, and how it is reached."""

from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket of Amazon's or of whatever speaks its protocol."""

    bucket: str
    endpoint: str
    """Of the service."""
    address: str
    """Of the bucket: its name stands in it, before the host or in the path."""
    public_address: str
    """Where clients reach it, when they are redirected."""
    region: str = "us-east-1"
    access_key: str | None = None
    """None: as Amazon's programs find it, from the environment, a file or the machine's metadata service."""
    secret_key: str | None = field(default=None, repr=False)
    verify: bool = True
    """Whether a TLS certificate has to be good."""
    encrypt: bool = False
    """Whether the store is asked to encrypt what it holds."""
    key_id: str | None = None
    """Of the key to encrypt with; None: the store's own."""
    storage_class: str | None = None
    user_agent: str = ""
    """What is added to the product's own."""


@dataclass(frozen=True, slots=True)
class GoogleCloud:
    """A bucket of Google Cloud Storage."""

    bucket: str
    key_file: str | None = None
    """None: the environment's, or the machine's service account."""
    credentials: str | None = field(default=None, repr=False)
    """The content of a key file."""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Azure:
    """A container of Azure Blob Storage."""

    container: str
    account: str
    endpoint: str
    account_key: str | None = field(default=None, repr=False)
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    verify: bool = True


Where = S3 | GoogleCloud | Azure


@dataclass(frozen=True, slots=True)
class Settings:
    """One store."""

    where: Where
    root: str = ""
    """What every object's name begins with."""
    _: KW_ONLY
    part: int = 10 << 20
    """Bytes of an object that are sent at a time."""
    segment: int = 4 << 30
    """Bytes after which another object is begun: stores copy no more than 5 GiB at once and take 10 000 parts."""
    log: bool = False
    """Whether a log line tells of each call."""
    redirect: timedelta = timedelta(minutes=20)
    """How long a URL lasts that a client is given."""
