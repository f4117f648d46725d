"""Child processes: started, observed through /proc with all their descendants, and ended."""

import os
import shutil
import subprocess
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


class Child:
    """A server of this run. It ends with this process at the latest."""

    def __init__(self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*prefix, *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ["PATH"], **(env or {})},
            )
        self.log = log

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def cpu(self) -> float:
        """CPU seconds used so far by it, its descendants, and those of them that have ended."""
        return sum(_cpu(pid) for pid in self.pids())

    def pss(self) -> float:
        """Memory in MB: what is shared between processes counts once."""
        return sum(_pss(pid) for pid in self.pids()) / 1e6

    def pids(self) -> list[int]:
        return list(_descendants(self._process.pid))

    def stop(self) -> None:
        """End it politely, after ten seconds by force. Stopping twice is not an error."""
        family = self.pids()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in set(family) & set(self.pids()):
                os.kill(pid, 9)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()


def family() -> float:
    """CPU seconds used so far by this process and by all that it started, ended or not."""
    return sum(_cpu(pid) for pid in _descendants(os.getpid()))


def by_name() -> Mapping[str, float]:
    """The same for each name that programs have which this process started."""
    used: dict[str, float] = {}
    for pid in _descendants(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            used[name] = used.get(name, 0) + _cpu(pid)
    return used


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def _cpu(pid: int) -> float:
    # utime, stime, cutime, cstime: proc(5)
    return sum(int(field) for field in _stat(pid)[11:15]) / _TICKS


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
