"""The machine of a run, in words that say what matters."""

import os
import platform
import resource
import time
from collections.abc import Mapping
from pathlib import Path


def facts(folder: Path) -> Mapping[str, str]:
    """What the numbers depend on; `folder` is where the data lay."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "kernel": "Linux " + ".".join(platform.release().split(".")[:2]),
        "file system": _file_system(folder),
    }


def busy() -> float:
    """CPU seconds that all processes of the machine have used so far."""
    # user, nice, system: proc(5)
    ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:4]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def own() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """The kind of the longest mount point above the folder."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    above = [(len(fields[1]), fields[2]) for fields in mounts if folder.resolve().is_relative_to(fields[1])]
    return max(above)[1]
