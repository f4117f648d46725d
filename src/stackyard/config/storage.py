"""`storage`: where the bytes lie and what may happen to them."""

from datetime import timedelta

from pydantic import ValidationInfo, field_validator, model_validator

from stackyard.config.section import Duration, Section, advise, option, section

_FEWEST_THREADS = 25
_SHORTEST_INTERVAL = timedelta(seconds=1)


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
    """`storage`. Exactly one of the two drivers is set."""

    filesystem: Filesystem | None = option(None, "Keep the bytes on a local disk. The default.")
    inmemory: InMemory | None = option(None, "Keep the bytes in memory, for tests; they are gone at the end.")
    delete: Delete = section(Delete)
    redirect: Redirect = section(Redirect)
    maintenance: Maintenance = section(Maintenance)

    @model_validator(mode="before")
    @classmethod
    def _one_driver(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        drivers = [name for name in ("filesystem", "inmemory") if given.get(name) is not None]
        if len(drivers) > 1:
            raise ValueError(
                "has two drivers, filesystem and inmemory; keep one (REGISTRY_STORAGE=<driver> replaces the section)"
            )
        return given if drivers else given | {"filesystem": {}}
