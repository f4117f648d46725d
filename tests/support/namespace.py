"""A corner of the machine with its own network and its own /etc, for what loopback cannot show.

Docker takes every registry on 127.0.0.0/8 for an insecure one and never
verifies its certificate. Here is a host name with another address, and an
/etc in which tests may write: neither exists outside.
"""

import shutil
import tempfile
from pathlib import Path

from tests.support import tools
from tests.support.processes import Child

ADDRESS = "192.0.2.1"  # of the range for documentation


class Namespace:
    """Put `inside` before a command to run it there."""

    def __init__(self, host: str) -> None:
        tools.need_root("namespaces need it")
        for program in ("unshare", "nsenter", "ip", "curl"):
            tools.path(program)
        self.host = host
        self.folder = Path(tempfile.mkdtemp(prefix="yn-", dir="/tmp"))
        self.etc = self.folder / "etc"
        shutil.copytree("/etc", self.etc, symlinks=True)
        with (self.etc / "hosts").open("a") as hosts:
            hosts.write(f"\n{ADDRESS} {host}\n")
        set_up = (
            f"ip link set lo up && ip address add {ADDRESS}/32 dev lo && "
            f"mount --bind {self.etc} /etc && echo ready && exec sleep infinity"
        )
        self._child = Child([tools.path("unshare"), "--net", "--mount", "sh", "-c", set_up], log=self.folder / "log")
        self._child.wait_line("ready")
        self.inside = (tools.path("nsenter"), f"--target={self._child.pid}", "--net", "--mount", "--")

    def trust(self, port: int, authority: Path | None) -> None:
        """Put the authority's certificate where docker, podman and skopeo look for this registry's; None removes it."""
        folder = self.etc / "docker/certs.d" / f"{self.host}:{port}"
        shutil.rmtree(folder, ignore_errors=True)
        if authority is not None:
            folder.mkdir(parents=True)
            shutil.copy(authority, folder / "ca.crt")

    def stop(self) -> None:
        self._child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
