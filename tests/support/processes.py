"""Child processes of a test: daemons that live beside it, and commands that end."""

import atexit
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL = 0.02  # seconds
_alive: set["Child"] = set()


class Failed(Exception):
    """A command ended with another status than 0; the message is everything that it printed."""


@dataclass(frozen=True)
class Done:
    """What a command that succeeded printed."""

    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def run(
    *argv: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = 300,
) -> Done:
    """Run a command to its end, `env` added to this process's own environment.

    Raises:
        Failed: It ended with another status than 0.
        subprocess.TimeoutExpired: It took more than `timeout` seconds, and was killed.
    """
    command = [str(word) for word in argv]
    ended = subprocess.run(
        command, input=stdin, capture_output=True, env=os.environ | (env or {}), cwd=cwd, timeout=timeout, check=False
    )
    out, err = ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
    if ended.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {ended.returncode}:\n{out}{err}")
    return Done(out, err)


def wait_until(true: Callable[[], bool], what: str, *, timeout: float = 30) -> None:
    """Return as soon as `true` holds. Raises AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(POLL)


def is_running(pid: int) -> bool:
    """Whether the process still does anything. A zombie has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Child:
    """A daemon of this test: its output goes to `log`, and it ends with the test process at the latest."""

    def __init__(
        self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log = log
        self._began = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*_dies_with_us(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | (env or {}),
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        _alive.add(self)

    @property
    def output(self) -> str:
        """What it has printed, without what an earlier process left in the same file."""
        return self.log.read_bytes()[self._began :].decode(errors="replace")

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._popen.poll()

    def wait_for(self, true: Callable[[], bool], what: str, *, timeout: float = 30) -> None:
        """Return as soon as `true` holds. Raises AssertionError with the output when the process ends before that."""

        def holds() -> bool:
            assert self.status is None, f"{self.argv[0]} ended with {self.status} before {what}:\n{self.output}"
            return true()

        try:
            wait_until(holds, what, timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- output of {self.argv[0]}\n{self.output}") from None

    def wait_line(self, text: str, *, timeout: float = 30) -> None:
        """Return as soon as `text` stands in the output."""
        self.wait_for(lambda: text in self.output, f"{text!r} in its output", timeout=timeout)

    def wait(self, *, timeout: float = 30) -> int:
        """The exit status, once it has ended."""
        return self._popen.wait(timeout)

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        self._popen.send_signal(sig)

    def stop(self, *, timeout: float = 20) -> int:
        """End it politely, after `timeout` seconds by force. Stopping twice is not an error."""
        _alive.discard(self)
        if self.status is None:
            self._popen.terminate()
            try:
                return self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        return self._popen.wait()


def _dies_with_us() -> list[str]:
    """A prefix that makes the kernel end the child when this process is killed.

    Only on the main thread: the kernel means the thread that forked.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "KILL", "--"]


@atexit.register
def _stop_all() -> None:
    for child in list(_alive):
        child.stop(timeout=5)
