"""`stackyard import`, `stackyard recover` and `stackyard export --distribution`: whole volumes."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from stackyard.cli.client import Problem, answers
from stackyard.cli.loading import EX_CONFIG, Unusable
from stackyard.cli.output import counted, printable, size
from stackyard.config.errors import ConfigError
from stackyard.config.load import DEFAULT_PATHS, load
from stackyard.config.model import Config
from stackyard.server import assembly, images, mapping, volumes
from stackyard.server.errors import StartError
from stackyard.server.images import Moved
from stackyard.server.privileges import CannotStepDown
from stackyard.server.volumes import Progress, Report, Written
from stackyard.telemetry import logs

_ROOT = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"


def import_volume(root: Path, config_file: Path | None, *, dry_run: bool, as_json: bool) -> int:
    """Take a volume over, or with `dry_run` only say what would be; the exit status."""

    def work() -> int:
        config = _load(config_file, {_ROOT: str(root)})
        volumes.check(config)
        if dry_run:
            return _report(_run(lambda tell: volumes.survey(config, tell)), as_json=as_json, verb="would be imported")
        assembly.prepare(config, mapping.database_url(config), logins=False)
        if _is_served(config) and not asyncio.run(volumes.is_pending(config)):
            raise Problem(
                "a server runs on this volume, and has imported it: `stackyard imported` says what was not taken over; "
                "stop it, if the volume is to be read again"
            )
        return _report(_run(lambda tell: volumes.take_over(config, tell)), as_json=as_json, verb="imported")

    return _told(work)


def import_image(path: Path, name: str, config_file: Path | None, *, choice: str | None, as_json: bool) -> int:
    """Push the image in a file or folder as `name`; the exit status."""

    def work() -> int:
        config = _load(config_file, {})
        assembly.prepare(config, _database(config), logins=False)
        _tell_moved(asyncio.run(images.take(config, path, name, choice=choice)), f"imported as {name}", as_json=as_json)
        return 0

    return _told(work)


def export_image(name: str, path: Path, config_file: Path | None, *, as_json: bool) -> int:
    """Write an image to a file or folder; the exit status."""

    def work() -> int:
        config = _load(config_file, {})
        assembly.prepare(config, _database(config), logins=False)
        _tell_moved(asyncio.run(images.give(config, name, path)), f"exported to {path}", as_json=as_json)
        return 0

    return _told(work)


def recover(config_file: Path | None, *, as_json: bool) -> int:
    """Make a lost database anew from the volume; the exit status."""

    def work() -> int:
        config = _load(config_file, {})
        volumes.check(config)
        if _is_served(config):
            raise Problem("a server runs on this volume: stop it first")
        assembly.prepare(config, mapping.database_url(config), logins=False, recovering=True)
        report = _run(lambda tell: volumes.take_over(config, tell, recovering=True))
        status = _report(report, as_json=as_json, verb="recovered")
        if not as_json:
            print(
                "Lost with the database, because it is not on the volume: the history of tags and what was deleted, "
                "pull times, quotas and rules that were not in the configuration, the audit log."
            )
        return status

    return _told(work)


def export_distribution(config_file: Path | None, *, as_json: bool) -> int:
    """Make the volume ready for docker-registry; the exit status."""

    def work() -> int:
        config = _load(config_file, {})
        volumes.check(config)
        assembly.prepare(config, mapping.database_url(config), logins=False)
        written, unservable = asyncio.run(volumes.follow_now(config, lambda so_far: None))
        _tell_written(written, unservable, as_json=as_json)
        return 0

    return _told(work)


def _load(file: Path | None, more: dict[str, str]) -> Config:
    try:
        return load(str(file) if file else None, {**os.environ, **more}, defaults=DEFAULT_PATHS).config
    except ConfigError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"stackyard: {line}\n")
        raise Unusable from None


def _database(config: Config) -> str:
    if url := mapping.database_url(config):
        return url
    raise StartError("storage.inmemory: no other process than the server's sees what is in it")


def _is_served(config: Config) -> bool:
    local = mapping.local_socket(config)
    return local is not None and answers(local.path)


def _told(work: Callable[[], int]) -> int:
    logs.configure(level="error")
    try:
        return work()
    except Unusable:
        return EX_CONFIG
    except (Problem, StartError, CannotStepDown) as error:
        sys.stderr.write(f"stackyard: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stackyard: stopped; the next run goes on from here\n")
        return 130


def _run(work: Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Report]]) -> Report:
    with _bar() as tell:
        return asyncio.run(work(tell))


def _bar() -> AbstractContextManager[Callable[[Progress], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return nullcontext(lambda progress: None)
    from stackyard.cli.bars import ImportBar

    return ImportBar()


def _report(report: Report, *, as_json: bool, verb: str) -> int:
    progress = report.progress
    if as_json:
        document = {
            "repositories": progress.repositories,
            "manifests": progress.manifests,
            "tags": progress.tags,
            "problems": [{"path": each.path, "reason": each.reason} for each in report.problems],
        }
        print(json.dumps(document, indent=2))
        return 0
    for each in report.problems:
        print(f"{printable(each.path)}: {printable(each.reason)}")
    repositories = counted(progress.repositories, "repository", "repositories")
    counts = f"{repositories}, {counted(progress.manifests, 'manifest')} and {counted(progress.tags, 'tag')}"
    said = f"; not as it should be, see above: {counted(len(report.problems), 'thing')}" if report.problems else ""
    print(f"{counts} {verb}{said}")
    return 0


def _tell_moved(moved: Moved, what: str, *, as_json: bool) -> None:
    if as_json:
        document = {"digest": moved.digest, "manifests": moved.manifests, "blobs": moved.blobs, "bytes": moved.size}
        print(json.dumps(document, indent=2))
    else:
        counts = f"{counted(moved.manifests, 'manifest')}, {counted(moved.blobs, 'blob')}"
        print(f"{moved.digest} {what}: {counts}, {size(moved.size)}")


def _tell_written(written: Written | None, unservable: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"unservable": [{"what": what, "reason": reason} for what, reason in unservable]}
        if written:
            document |= {"repositories": written.repositories, "written": written.written, "removed": written.removed}
        print(json.dumps(document, indent=2))
        return
    for what, reason in unservable:
        print(f"{printable(what)}: {reason}")
    changed = f": {written.written} links written, {written.removed} removed" if written else ""
    print(f"docker-registry's view of the volume is up to date{changed}")
    if unservable:
        print(f"{counted(len(unservable), 'thing')} cannot be served whole, see above")
