"""A registry process that answers."""

import copy
import http.client
import shutil
import ssl
import subprocess
import tempfile
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from tests.support import ports
from tests.support.processes import Child

Config = Mapping[str, Any]

READY = 20  # seconds
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Running:
    """A registry process, its address as clients write it, and its folders."""

    process: Child
    port: int
    folder: Path
    data: Path
    config: Path
    tls: bool = False
    host: str = "localhost"
    temporary: bool = False
    inside: Sequence[str] = ()

    @property
    def address(self) -> str:
        """What stands before the first slash of an image's name."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def log(self) -> str:
        """Everything it has printed so far."""
        return self.process.output

    def wait_ready(self) -> None:
        """Return as soon as it answers. Raises AssertionError with its output when it ends before that."""
        self.process.wait_for(self._answers, f"an answer at {self.url}", timeout=READY)

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request on a connection of its own; certificates are not verified."""
        connection = self._connect()
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def manifest(self, repository: str, reference: str) -> Answer:
        """A manifest or index, whatever its type."""
        return self.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ", ".join(MANIFESTS)})

    def kill(self, sig: int) -> None:
        """Send the process a signal."""
        self.process.kill(sig)

    def stop(self) -> int:
        """End it politely; its exit status."""
        status = self.process.stop()
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        return status

    def _connect(self) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=ssl._create_unverified_context())

    def _answers(self) -> bool:
        if self.inside:
            command = [*self.inside, "curl", "-sko", "/dev/null", f"{self.url}/v2/"]
            return subprocess.run(command, check=False).returncode == 0
        try:
            return self.request("GET", "/v2/").status < 500
        except (OSError, http.client.HTTPException):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()


def launch(
    command: Sequence[str | Path],
    config: Config,
    env: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    host: str = "localhost",
    inside: Sequence[str] = (),
) -> Running:
    """`command serve CONFIG` started, not awaited: see tests.support.stackyard."""
    place = folder or Path(tempfile.mkdtemp(prefix="yard-"))
    place.mkdir(parents=True, exist_ok=True)
    port = ports.free()
    full = _merge(_defaults(place, port), config)
    file = place / "config.yml"
    file.write_text(yaml.safe_dump(full))
    return Running(
        process=Child([*inside, *command, "serve", file], log=place / "output.log", env=env, cwd=place),
        port=int(str(full["http"]["addr"]).rpartition(":")[2]),
        folder=place,
        data=Path(full["storage"].get("filesystem", {}).get("rootdirectory", place)),
        config=file,
        tls="tls" in full["http"],
        host=host,
        temporary=folder is None,
        inside=inside,
    )


def _defaults(place: Path, port: int) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(place / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }


def _merge(below: dict[str, Any], above: Config) -> dict[str, Any]:
    """`above` laid over `below`, mapping by mapping, and without what it says is None; neither is changed."""
    merged = copy.deepcopy(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return {key: value for key, value in merged.items() if value is not None}
