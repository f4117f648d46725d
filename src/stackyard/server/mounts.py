"""Data folders that other machines may have mounted too: can nodes share this mount?"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from stackyard.config.model import Config
from stackyard.oci import layout
from stackyard.server.errors import StartError
from stackyard.storage.driver import OutOfSpace
from stackyard.storage.filesystem.probe import Unfit, probe

log = structlog.get_logger("stackyard.server")

_MOUNTS = Path("/proc/self/mountinfo")
_NFS = ("nfs", "nfs4")
_SHARED = (*_NFS, "ceph", "cifs", "smb3", "9p", "virtiofs", "lustre", "beegfs", "gpfs", "fuse", "fuseblk")
_LOOKUPS = {"lookupcache=pos", "lookupcache=none"}  # as the kernel writes them
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    point: str
    kind: str
    source: str
    options: frozenset[str]
    """Of the mount and of the file system."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines may have it mounted as well."""
        return self.kind in _SHARED or self.kind.startswith("fuse.")

    def __str__(self) -> str:
        return f"{self.source} on {self.point}, {self.kind}"


def find(path: str, lines: Iterable[str]) -> Mount | None:
    """The mount on which the absolute `path`, free of links, lies or would lie."""
    best = None
    for mount in map(parse, lines):
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        # Of several at one point the last is seen.
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def parse(line: str) -> Mount:
    """One line."""
    own, _, system = line.partition(" - ")
    point, options = own.split()[4:6]
    kind, source, *more = system.split()
    return Mount(_plain(point), kind, _plain(source), frozenset(",".join((options, *more)).split(",")))


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def warnings(mount: Mount) -> list[str]:
    """What should be mounted in another way, and why."""
    if mount.kind not in _NFS:
        return []
    found = []
    if not mount.options & _LOOKUPS:
        found.append(
            "mount it with lookupcache=positive: without, this machine may believe for a minute that a file is not "
            "there which another node has made, and each such belief costs a look at every folder above"
        )
    if mount.options & {"soft", "softerr"}:
        found.append(
            "mount it with hard instead of soft: with soft, a server that is late for a moment is an error of the "
            "disk, pushes fail and downloads are cut off"
        )
    if "nocto" in mount.options:
        found.append("mount it without nocto: with it, a node may read what a file held before another wrote to it")
    return found


def check(config: Config) -> None:
    """Warn of mount options, and try out what nodes rely on, if the data folder lies on a shared file system.

    Raises:
        StartError: Nodes cannot share this mount.
        OSError: The folder cannot be used at all.
    """
    if config.storage.filesystem is None:
        return
    root = Path(config.storage.filesystem.rootdirectory)
    with suppress(FileNotFoundError):  # not Linux
        mount = find(os.path.realpath(root), _MOUNTS.read_text().splitlines())
        if mount is not None and mount.is_shared:
            _look(root, mount, writable=not config.storage.maintenance.readonly.enabled)


def _look(root: Path, mount: Mount, *, writable: bool) -> None:
    for text in warnings(mount):
        log.warning("the data folder is shared: " + text, mount=mount.point, type=mount.kind)
    if not writable:
        return
    try:
        with suppress(OutOfSpace):
            probe(root / layout.OWN)
    except Unfit as error:
        raise StartError(
            f"the data folder {root} ({mount}) cannot be shared: {error}. Mount it as docs/shared-folders.md says, or "
            "choose a folder on another file system"
        ) from error
