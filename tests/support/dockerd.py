"""Docker: a daemon of the tests' own, and its command line."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import tools
from tests.support.images import Image
from tests.support.processes import Child, Done, run


class Dockerd:
    """A dockerd with its own socket, data and containerd, which touches no network of the machine.

    Registries on localhost may speak plain HTTP to it, as to any dockerd.
    """

    def __init__(self, *, inside: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        tools.need_root("dockerd needs it")
        daemon = tools.path("dockerd")
        tools.path("containerd")
        # Short, because a unix socket's path may hold 107 bytes; absolute, because dockerd spins on a relative one.
        self.folder = Path(tempfile.mkdtemp(prefix="yd-", dir="/tmp"))
        self.socket = self.folder / "s"
        self._child = Child(
            [
                *inside,
                daemon,
                f"--host=unix://{self.socket}",
                f"--pidfile={self.folder}/pid",
                f"--data-root={self.folder}/data",
                f"--exec-root={self.folder}/exec",
                *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
                *options,
            ],
            log=self.folder / "log",
        )
        self._child.wait_line("API listen on", timeout=60)

    @property
    def output(self) -> str:
        return self._child.output

    def stop(self) -> None:
        self._child.stop(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Docker:
    """The docker command with this daemon, its passwords in `folder`."""

    daemon: Dockerd
    folder: Path
    name: str = "docker"
    _loaded: dict[str, str] = field(default_factory=dict)

    def __call__(self, *argv: str | Path, stdin: bytes = b"") -> Done:
        """`docker argv…`, run to its end."""
        docker = [tools.path("docker"), f"--config={self.folder}", f"--host=unix://{self.daemon.socket}"]
        return run(*docker, *argv, stdin=stdin, timeout=900)

    def load(self, image: Image, reference: str) -> None:
        self("load", "--input", image.archive)
        self("tag", image.name, reference)
        self._loaded[reference] = image.name

    def push(self, reference: str) -> Done:
        return self("push", reference)

    def pull(self, reference: str) -> str:
        self("pull", reference)
        return self("image", "inspect", "--format", "{{.Id}}", reference).out.strip()

    def forget(self, reference: str) -> None:
        names = [name for name in (reference, self._loaded.pop(reference, "")) if name]
        self("rmi", "--force", *names)

    def login(self, address: str, user: str, password: str) -> Done:
        return self("login", "--username", user, "--password-stdin", address, stdin=password.encode())

    def logout(self, address: str) -> Done:
        return self("logout", address)

    @property
    def passwords(self) -> str:
        """The file in which it remembers logins."""
        file = self.folder / "config.json"
        return file.read_text() if file.exists() else ""
