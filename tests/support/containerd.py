"""containerd: a daemon of the tests' own, and ctr."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import tools
from tests.support.images import Image
from tests.support.processes import Child, Done, run

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{folder}/s"
"""


class Containerd:
    """A containerd with its own socket and data, without the Kubernetes part."""

    def __init__(self, *, inside: Sequence[str] = ()) -> None:
        tools.need_root("containerd needs it")
        self.inside = inside
        self.folder = Path(tempfile.mkdtemp(prefix="yc-", dir="/tmp"))
        self.socket = self.folder / "s"
        config = self.folder / "config.toml"
        config.write_text(_CONFIG.format(folder=self.folder))
        self._child = Child([*inside, tools.path("containerd"), "--config", config], log=self.folder / "log")
        self._child.wait_line("containerd successfully booted", timeout=60)

    def stop(self) -> None:
        self._child.stop(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Ctr:
    """The ctr command with this daemon. It keeps no passwords: they go with each command."""

    daemon: Containerd
    transport: Sequence[str] = ("--plain-http",)
    name: str = "ctr"
    patience: float = 300
    """Seconds that a command may take."""
    _loaded: dict[str, str] = field(default_factory=dict)
    _users: dict[str, str] = field(default_factory=dict)

    def __call__(self, *argv: str | Path) -> Done:
        """`ctr argv…`, run to its end."""
        ctr = [*self.daemon.inside, tools.path("ctr"), f"--address={self.daemon.socket}"]
        return run(*ctr, *argv, timeout=self.patience)

    def load(self, image: Image, reference: str) -> None:
        self("images", "import", "--all-platforms", "--no-unpack", image.archive)
        self("images", "tag", "--force", image.name, reference)
        self._loaded[reference] = image.name

    def push(self, reference: str) -> Done:
        return self("images", "push", *self._flags(reference), reference)

    def pull(self, reference: str) -> str:
        # The native snapshotter copies and needs no overlay of the kernel's.
        self("images", "pull", "--snapshotter", "native", *self._flags(reference), reference)
        listed = self("images", "ls", f"name=={reference}").out.splitlines()[1]
        manifest = self.content(next(word for word in listed.split() if word.startswith("sha256:")))
        if "manifests" in manifest:
            ours = next(one for one in manifest["manifests"] if one["platform"]["architecture"] == "amd64")
            manifest = self.content(ours["digest"])
        return str(manifest["config"]["digest"])

    def content(self, digest: str) -> dict[str, Any]:
        """A manifest or index from its store."""
        parsed: dict[str, Any] = json.loads(self("content", "get", digest).out)
        return parsed

    def forget(self, reference: str) -> None:
        names = [name for name in (reference, self._loaded.pop(reference, "")) if name]
        self("images", "rm", "--sync", *names)

    def login(self, address: str, user: str, password: str) -> Done:
        self._users[address] = f"{user}:{password}"
        return Done("", "")

    def logout(self, address: str) -> Done:
        self._users.pop(address, None)
        return Done("", "")

    def _flags(self, reference: str) -> list[str]:
        user = self._users.get(reference.partition("/")[0])
        return [*self.transport, *(("--user", user) if user else ())]
