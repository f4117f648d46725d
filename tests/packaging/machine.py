"""A machine of the tests' own: its loopback and ports are free, its /opt is empty, and a dockerd runs on it."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support import tools
from tests.support.dockerd import Docker, Dockerd
from tests.support.processes import Child, Done, run

ROOT = Path(__file__).parent.parent.parent
BRIDGE = "yard0"


class Machine:
    """Namespaces for network and mounts. What it has under /opt is `folder` outside."""

    def __init__(self, folder: Path) -> None:
        tools.need_root("namespaces and dockerd need it")
        self.folder = folder
        self._holder = Child(
            [
                tools.path("unshare"),
                "--net",
                "--mount",
                "--propagation=private",
                "sh",
                "-c",
                "echo made; exec sleep inf",
            ],
            log=folder.with_suffix(".log"),
        )
        self._holder.wait_line("made")
        self.inside = [tools.path("nsenter"), f"--target={self._holder.pid}", "--net", "--mount", "--"]
        folder.mkdir()
        for command in (
            f"mount --bind {folder} /opt",
            "ip link set lo up",
            f"ip link add {BRIDGE} type bridge",
            f"ip addr add 172.31.0.1/24 dev {BRIDGE}",
            f"ip link set {BRIDGE} up",
        ):
            self.run(*command.split())
        options = [f"--bridge={BRIDGE}", "--userland-proxy=true"]
        self.dockerd = Dockerd(inside=self.inside, options=options)
        self.docker = Docker(self.dockerd, Path(tempfile.mkdtemp(dir=self.dockerd.folder)))

    def run(self, *argv: str | Path, stdin: bytes = b"", timeout: float = 300) -> Done:
        """A command on this machine. Raises Failed."""
        return run(*self.inside, *argv, stdin=stdin, timeout=timeout)

    def sh(self, line: str) -> Done:
        """A line as somebody would type it there, `docker` meaning this machine's."""
        return run(*self.inside, "sh", "-ec", line, env=self.environment())

    def tried(self, line: str) -> subprocess.CompletedProcess[str]:
        """As `sh`, for a line that may fail."""
        return subprocess.run(
            [*self.inside, "sh", "-ec", line],
            env=os.environ | self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def environment(self) -> Mapping[str, str]:
        return {
            "DOCKER_HOST": f"unix://{self.dockerd.socket}",
            "DOCKER_CONFIG": str(self.docker.folder),
            "DOCKER_BUILDKIT": "0",  # the builder of docker.io, which is in the daemon
        }

    def stop(self) -> None:
        self.dockerd.stop()
        self._holder.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
