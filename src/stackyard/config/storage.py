"""`storage`: where the bytes lie and what may happen to them."""

from datetime import timedelta

from pydantic import ValidationInfo, field_validator, model_validator

from stackyard.config.objects import S3, Azure, Gcs
from stackyard.config.section import Duration, Section, advise, option, section

_FEWEST_THREADS = 25
_SHORTEST_INTERVAL = timedelta(seconds=1)
_DRIVERS = ("filesystem", "inmemory", "s3", "s3aws", "gcs", "azure")
_COUNTED = {2: "two", 3: "three"}


class Filesystem(Section):
    """`storage.filesystem`."""

    rootdirectory: str = option("/var/lib/registry", "The folder that holds `docker/registry/v2`.")
    maxthreads: int = option(
        100, f"The most file operations at once in one worker process; {_FEWEST_THREADS} at least.", ge=0, le=10_000
    )

    @field_validator("maxthreads")
    @classmethod
    def _enough_threads(cls, threads: int, info: ValidationInfo) -> int:
        """Distribution raises a smaller number to its minimum; refusing it would not be a drop-in."""
        if threads < _FEWEST_THREADS:
            what = f"{threads} is below {_FEWEST_THREADS}; {_FEWEST_THREADS} is used"
            advise(info, f"storage.filesystem.maxthreads: {what}")
        return max(threads, _FEWEST_THREADS)


class InMemory(Section):
    """`storage.inmemory`, which takes no parameters."""


class Delete(Section):
    """`storage.delete`."""

    enabled: bool = option(False, "Whether clients may delete manifests, tags and blobs; else DELETE answers 405.")


class Redirect(Section):
    """`storage.redirect`."""

    disable: bool = option(False, "Whether blobs are always served here, never by a redirect to the store.")


class UploadPurging(Section):
    """`storage.maintenance.uploadpurging`."""

    enabled: bool = option(True, "Whether uploads nobody finished are removed.")
    age: Duration = option(timedelta(hours=168), "How long after its start an unfinished upload is removed.")
    interval: Duration = option(timedelta(hours=24), "How often is looked for such uploads.")
    dryrun: bool = option(False, "Only log what would be removed.")

    @field_validator("interval")
    @classmethod
    def _with_a_pause(cls, interval: timedelta, info: ValidationInfo) -> timedelta:
        """Distribution would look without a pause; a number without a unit, nanoseconds, comes to the same."""
        if interval < _SHORTEST_INTERVAL:
            advise(info, "storage.maintenance.uploadpurging.interval: is below 1s; 1s is used")
        return max(interval, _SHORTEST_INTERVAL)


class ReadOnly(Section):
    """`storage.maintenance.readonly`."""

    enabled: bool = option(False, "Whether every write is refused with 405.")


class Maintenance(Section):
    """`storage.maintenance`."""

    uploadpurging: UploadPurging = section(UploadPurging)
    readonly: ReadOnly = section(ReadOnly)


class Storage(Section):
    """`storage`. Exactly one driver is set; `s3aws` never is, since that only names `s3` in the file."""

    filesystem: Filesystem | None = option(None, "Keep the bytes on a local disk. The default.")
    inmemory: InMemory | None = option(None, "Keep the bytes in memory, for tests; they are gone at the end.")
    s3: S3 | None = option(None, "Keep the bytes in a bucket of Amazon S3, or of a service that speaks its language.")
    s3aws: S3 | None = option(None, "Another name of storage.s3, with the same keys.")
    gcs: Gcs | None = option(None, "Keep the bytes in a bucket of Google Cloud Storage.")
    azure: Azure | None = option(None, "Keep the bytes in a container of Azure Blob Storage.")
    delete: Delete = section(Delete)
    redirect: Redirect = section(Redirect)
    maintenance: Maintenance = section(Maintenance)

    @model_validator(mode="before")
    @classmethod
    def _one_driver(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        drivers = [name for name in _DRIVERS if given.get(name) is not None]
        if len(drivers) > 1:
            count, names = _COUNTED.get(len(drivers), len(drivers)), f"{', '.join(drivers[:-1])} and {drivers[-1]}"
            raise ValueError(f"has {count} drivers, {names}; keep one (REGISTRY_STORAGE=<driver> replaces the section)")
        return given if drivers else given | {"filesystem": {}}

    @model_validator(mode="after")
    def _one_name(self) -> "Storage":
        return self.model_copy(update={"s3": self.s3aws, "s3aws": None}) if self.s3aws is not None else self

    @property
    def objects(self) -> tuple[str, S3 | Gcs | Azure] | None:
        """The driver's name and section when it is an object store."""
        sections = {"s3": self.s3, "gcs": self.gcs, "azure": self.azure}
        return next(((name, each) for name, each in sections.items() if each is not None), None)
