"""The machine of a run, in words that say what matters."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

_SPARE = 2 << 30  # bytes that stay free for programs
_PIECE = 1 << 20


class Missing(Exception):
    """This machine has not what a case needs."""


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


def fill_page_cache(folder: Path) -> None:
    """Let free memory be cached pages of a file in `folder`, which has to stay until the end of the run.

    A virtual machine that has just booted asks its host for each page that it uses for the first time, and may give
    free ones back. That costs more than a registry does with the page, so whoever came first would be measured with it.
    """
    with (folder / "holes").open("wb+", buffering=0) as file:
        left = max(0, _available() - _SPARE)
        file.truncate(left)
        piece = bytearray(_PIECE)
        while left > 0:
            left -= file.readinto(piece) or left


def _available() -> int:
    """Bytes of memory that could be used."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def busy() -> float:
    """CPU seconds that all processes of the machine have used so far."""
    # user, nice, system: proc(5)
    ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:4]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


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
