"""A PostgreSQL of this run's own, at its defaults: what it has committed is on the disk."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import Child
from bench.machine import Missing

_USER = "postgres"
_PORT = 5432  # only part of a socket's name: it listens on no address
_READY = 60  # seconds
# Each worker and each background process of a node has ten.
_SETTINGS = ("listen_addresses=", f"port={_PORT}", "max_connections=200")


@dataclass(frozen=True)
class Postgresql:
    """A server that answers on a socket in its folder."""

    process: Child
    folder: Path

    def create(self, name: str) -> str:
        """The URL of a new, empty database."""
        command = [str(binaries() / "createdb"), "-h", str(self.folder), "-p", str(_PORT), "-U", _USER, name]
        subprocess.run(command, check=True, capture_output=True)
        return f"postgresql://{_USER}@/{name}?host={self.folder}&port={_PORT}"


@contextmanager
def serve() -> Iterator[Postgresql]:
    """One that ends, and whose data goes, with the context. Raises Missing where there is none."""
    programs = binaries()
    # Not in the run's own folder, which the user that PostgreSQL wants may not enter, and whose name may be too long.
    folder = Path(tempfile.mkdtemp(prefix="stackyard-bench-", dir="/var/tmp"))
    try:
        user = _as_another(folder)
        data = str(folder / "data")
        made = [*user, str(programs / "initdb"), "-D", data, "-U", _USER, "-A", "trust"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder)
        options = [f"--{setting}" for setting in _SETTINGS]
        argv: list[str | Path] = [*user, programs / "postgres", "-D", data, "-k", folder, *options]
        with Child(argv, log=folder / "log") as process:
            _wait_ready(process)
            yield Postgresql(process, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def binaries() -> Path:
    """The folder of the newest one's programs. Raises Missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        raise Missing("PostgreSQL is not installed")
    return Path(initdb).parent


def _as_another(folder: Path) -> Sequence[str]:
    """Words before a command that run it as a user whom PostgreSQL accepts: it refuses root."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        setpriv = None
    if setpriv is None:
        raise Missing(f"root cannot run PostgreSQL: there is no user {_USER}, or no setpriv")
    os.chown(folder, user.pw_uid, user.pw_gid)
    # The death signal again: the kernel forgets it when a process changes its user.
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=INT", "--"]


def _wait_ready(process: Child) -> None:
    end = time.monotonic() + _READY
    while not _is_ready(process):
        if process.ended or time.monotonic() > end:
            raise RuntimeError(f"PostgreSQL does not start:\n{process.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _is_ready(process: Child) -> bool:
    return "ready to accept connections" in process.log.read_text(errors="replace")
