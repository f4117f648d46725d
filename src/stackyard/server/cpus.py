"""How many CPUs this process may really use: affinity and the cgroup's quota, not the machine's size."""

import math
import os
from pathlib import Path

MOST_WORKERS = 4


def workers(wanted: int | None = None) -> int:
    """How many processes answer: as many as wanted, else one per usable CPU and four at most.

    Beyond four the disk is the limit, and memory is not free.
    """
    return wanted or min(MOST_WORKERS, usable())


def usable(root: Path = Path("/")) -> int:
    """CPUs this process may run on, at least 1; a quota of 1.5 CPUs counts as 2."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for quota in (_quota_v2(root), _quota_v1(root)) if quota is not None]
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas)]))


def _quota_v2(root: Path) -> float | None:
    """The tightest `cpu.max` between our cgroup and the root ("<quota> <period>" in µs, or "max <period>")."""
    quotas = []
    for folder in _folders(root / "sys/fs/cgroup", _own_path(root, "0::")):
        match _words(folder / "cpu.max"):
            case [quota, period] if quota != "max":
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _quota_v1(root: Path) -> float | None:
    """The tightest `cpu.cfs_quota_us` / `cpu.cfs_period_us`; a quota of -1 is none."""
    quotas = []
    for mount in ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"):
        for folder in _folders(root / mount, _own_path(root, ":cpu")):
            quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
            if quota and period and int(quota[0]) > 0:
                quotas.append(int(quota[0]) / int(period[0]))
    return min(quotas, default=None)


def _own_path(root: Path, mark: str) -> str:
    """Our path within the hierarchy whose line of /proc/self/cgroup holds `mark`; "" when there is none.

    Inside a container the path may be that of the host and not exist here; the mount's own root is then ours.
    """
    for line in _lines(root / "proc/self/cgroup"):
        if mark in line:
            return line.rsplit(":", 1)[1].strip("/")
    return ""


def _folders(mount: Path, path: str) -> list[Path]:
    own = mount / path
    return [own, *(parent for parent in own.parents if parent.is_relative_to(mount))]


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
