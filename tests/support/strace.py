"""What a process asks of the kernel, in order: strace(1) attached to it, and its output parsed."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import tools
from tests.support.processes import Child

# pid, then `name(arguments) = result …`, or the first or second half of a call that another thread's interrupted.
_LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_BEGUN = re.compile(r"(?P<text>\w+\(.*?) *<unfinished \.\.\.>")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>,? ?(?P<text>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\w+)")
_DESCRIPTOR = re.compile(r"(?P<number>\d+|AT_FDCWD)<(?P<path>[^>]*)>")


@dataclass(frozen=True)
class Call:
    """One system call that ended."""

    name: str
    arguments: str
    result: str
    begun: int
    """Line of the trace in which it began: `other.ended < begun` means that it came after the other."""
    ended: int
    thread: int = 0
    """The number of the thread that made it."""

    @property
    def succeeded(self) -> bool:
        return not self.result.startswith("-")

    @property
    def file(self) -> str:
        """The path behind the descriptor that is its first argument, `` when that is none (any more)."""
        match = _DESCRIPTOR.match(self.arguments)
        return match["path"].removesuffix(" (deleted)") if match else ""

    @property
    def paths(self) -> list[str]:
        """Its quoted arguments, and for calls of the `…at` kind relative ones joined to their folder."""
        return re.findall(r'"((?:[^"\\]|\\.)*)"', self.arguments)


def need() -> None:
    """Skips the test, saying why, where processes cannot be traced."""
    tried = subprocess.run([tools.path("strace"), "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace: {tried.stderr.decode(errors='replace').strip()}")


class Strace:
    """strace, attached to a running process and every thread and child that it will have."""

    def __init__(self, pid: int, output: Path, calls: str, *, inject: str = "") -> None:
        """Returns when every call is seen.

        Args:
            pid: The process.
            output: Where strace writes.
            calls: What `-e trace=` takes: the calls that are noted.
            inject: What `-e inject=` takes: a call that is delayed, or fails.
        """
        self._output = output
        command = [tools.path("strace"), "-f", "-y", "-s", "400", "-e", f"trace={calls}", "-e", "signal=none"]
        injected = ["-e", f"inject={inject}"] if inject else []
        self._child = Child([*command, *injected, "-o", output, "-p", str(pid)], log=output.with_suffix(".log"))
        self._child.wait_line("attached")

    def calls(self) -> list[Call]:
        """Everything traced so far, in the order in which it ended."""
        return list(parse(self._output.read_text(errors="replace")))

    def stop(self) -> None:
        """Let go of the process, which goes on. By force: strace itself waits for what it delays."""
        if self._child.status is None:
            self._child.kill()
        self._child.stop()

    def wait(self) -> None:
        """Until the traced process has ended."""
        self._child.wait()


def parse(text: str) -> Iterator[Call]:
    """The calls of a trace, each joined from its halves. Signals, exits and calls that never ended are left out."""
    halves: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines()):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        pid, rest = match["pid"], match["rest"]
        begun = number
        if half := _BEGUN.fullmatch(rest):
            halves[pid] = (number, half["text"])
            continue
        if (resumed := _RESUMED.fullmatch(rest)) and pid in halves:
            begun, first = halves.pop(pid)
            rest = first + resumed["text"]
        if call := _CALL.match(rest):
            yield Call(call["name"], call["arguments"], call["result"], begun, number, int(pid))
