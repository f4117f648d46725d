"""Cgroups (v1) that hold processes to a part of a core."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from bench.machine import Missing

_PERIOD = 100_000  # microseconds: the kernel's default, and that of docker's --cpus
_LONGEST = 5.0  # seconds until the kernel has forgotten what ended in a group


class Limit:
    """A group without a limit, until there is one.

    Raises:
        Missing: There are no such groups here, or they cannot be made.
    """

    def __init__(self, name: str) -> None:
        self.folder = controller(Path("/proc/self/mounts").read_text()) / f"stackyard-bench-{os.getpid()}-{name}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise Missing(f"no cgroup can be made here: {error.strerror}") from error
        if not self._quota.exists():
            self.close()
            raise Missing("the kernel's cgroups have no cpu.cfs_quota_us")

    @property
    def enter(self) -> Sequence[str]:
        """Words before a command that is to be inside, with all that it starts."""
        return [shutil.which("sh") or "sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.folder / "cgroup.procs")]

    @property
    def pids(self) -> Sequence[int]:
        """Who is inside."""
        return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]

    def hold(self, cores: float) -> None:
        """From now on all of them together get this much in every tenth of a second."""
        (self.folder / "cpu.cfs_period_us").write_text(str(_PERIOD))
        self._quota.write_text(str(round(cores * _PERIOD)))

    def release(self) -> None:
        """No limit."""
        self._quota.write_text("-1")

    def close(self) -> None:
        """Remove the group, in which everything has ended."""
        end = time.monotonic() + _LONGEST
        while True:
            try:
                return self.folder.rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    @property
    def _quota(self) -> Path:
        return self.folder / "cpu.cfs_quota_us"


def controller(mounts: str) -> Path:
    """Where the groups for CPU are, by /proc/self/mounts. Raises Missing."""
    for line in mounts.splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            return Path(folder)
    raise Missing("no cgroup v1 hierarchy with the cpu controller is mounted")
