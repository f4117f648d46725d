"""podman, buildah and skopeo: one library, three commands."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import tools
from tests.support.images import Image
from tests.support.processes import Done, run


@dataclass
class _Containers:
    """Storage, passwords and configuration in `folder`; nothing of the machine's is read or written.

    `tls_verify` off allows plain HTTP; on, the certificates in certs.d count.
    """

    folder: Path
    tls_verify: bool = False
    inside: Sequence[str] = ()
    _loaded: dict[str, Image] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Made anew each time, so that a first use needs no set-up."""
        for name in ("home/.config/containers", "run", "store", "runroot", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        storage = {"driver": '"vfs"', "graphroot": f'"{self.folder}/store"', "runroot": f'"{self.folder}/runroot"'}
        engine = {"cgroup_manager": '"cgroupfs"', "events_logger": '"none"', "tmp_dir": f'"{self.folder}/tmp"'}
        files = {
            "CONTAINERS_STORAGE_CONF": _toml("storage", storage),
            "CONTAINERS_CONF": _toml("engine", engine),
            "CONTAINERS_REGISTRIES_CONF": "unqualified-search-registries = []\n",
        }
        for variable, text in files.items():
            (self.folder / variable).write_text(text)
        passwords = self.folder / "auth.json"
        if not passwords.exists():
            passwords.write_text("{}")
        policy = self.folder / "home/.config/containers/policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        return {variable: str(self.folder / variable) for variable in files} | {
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "REGISTRY_AUTH_FILE": str(passwords),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def command(self, program: str, *argv: str | Path, stdin: bytes = b"") -> Done:
        return run(
            *self.inside, tools.path(program), *argv, env=self.environment(), stdin=stdin, timeout=900, cwd=self.folder
        )

    @property
    def verify(self) -> str:
        return f"--tls-verify={str(self.tls_verify).lower()}"

    @property
    def passwords(self) -> str:
        """The file in which it remembers logins."""
        file = self.folder / "auth.json"
        return file.read_text() if file.exists() else ""


@dataclass
class Podman(_Containers):
    """The podman command."""

    name: str = "podman"

    def __call__(self, *argv: str | Path, stdin: bytes = b"") -> Done:
        tools.need_root("podman's private storage needs it")
        return self.command(self.name, *argv, stdin=stdin)

    def load(self, image: Image, reference: str) -> None:
        self("pull", "--quiet", f"docker-archive:{image.archive}")
        self("tag", image.config, reference)
        self._loaded[reference] = image

    def push(self, reference: str) -> Done:
        return self("push", self.verify, reference)

    def pull(self, reference: str) -> str:
        return "sha256:" + self("pull", "--quiet", self.verify, reference).out.split()[-1]

    def forget(self, reference: str) -> None:
        image = self._loaded.pop(reference, None)
        self("rmi", "--force", image.config if image else reference)

    def login(self, address: str, user: str, password: str) -> Done:
        flags = ("--username", user, "--password-stdin", self.verify)
        return self("login", *flags, address, stdin=password.encode())

    def logout(self, address: str) -> Done:
        return self("logout", address)


@dataclass
class Buildah(Podman):
    """The buildah command."""

    name: str = "buildah"

    def push(self, reference: str) -> Done:
        return self("push", self.verify, reference, f"docker://{reference}")


@dataclass
class Skopeo(_Containers):
    """The skopeo command. It has no storage: what it pulls lies in a folder until forgotten."""

    name: str = "skopeo"

    def __call__(self, *argv: str | Path, stdin: bytes = b"") -> Done:
        return self.command(self.name, *argv, stdin=stdin)

    def load(self, image: Image, reference: str) -> None:
        self._loaded[reference] = image

    def push(self, reference: str) -> Done:
        archive = self._loaded[reference].archive
        return self("copy", f"--dest-{self.verify[2:]}", f"docker-archive:{archive}", f"docker://{reference}")

    def pull(self, reference: str) -> str:
        target = self.folder / "pulled"
        run("rm", "-rf", target)
        self("copy", f"--src-{self.verify[2:]}", f"docker://{reference}", f"dir:{target}")
        return str(json.loads((target / "manifest.json").read_text())["config"]["digest"])

    def forget(self, reference: str) -> None:
        self._loaded.pop(reference, None)

    def login(self, address: str, user: str, password: str) -> Done:
        flags = ("--username", user, "--password-stdin", self.verify)
        return self("login", *flags, address, stdin=password.encode())

    def logout(self, address: str) -> Done:
        return self("logout", address)


def _toml(table: str, values: Mapping[str, str]) -> str:
    return "".join([f"[{table}]\n", *(f"{key} = {value}\n" for key, value in values.items())])
