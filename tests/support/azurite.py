"""Azurite, Microsoft's own emulator of Azure Blob Storage. It comes from npm, into build/."""

import base64
import fcntl
import hashlib
import hmac
import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from tests.support import ports, shared, tools
from tests.support.processes import Child, Failed, run

_PACKAGE = "azurite@3.37.0"
_FOLDER = Path(__file__).parent.parent.parent / "build" / _PACKAGE.replace("@", "-")
_numbers = itertools.count()


@dataclass(frozen=True)
class Azurite:
    """Where it is, and who may do anything there."""

    endpoint: str
    """With the account, as real ones have it in their host name."""
    account: str
    key: str

    def container(self) -> str:
        """The name of a new, empty container."""
        name = f"test-{os.getpid()}-{next(_numbers)}"
        url = f"{self.endpoint}/{name}"
        headers = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": "2021-12-02"}
        signed = [f"{key}:{value}" for key, value in headers.items()]
        # The eleven empty lines are headers that this request has not.
        text = "\n".join(["PUT", *[""] * 11, *signed, f"/{self.account}{urlsplit(url).path}", "restype:container"])
        digest = hmac.digest(base64.b64decode(self.key), text.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        request = Request(f"{url}?restype=container", method="PUT", headers=headers)
        with build_opener(ProxyHandler({})).open(request, timeout=30):
            return name


@contextmanager
def kept() -> Iterator[Azurite]:
    """A server that all workers share. Skips, saying why, where it cannot be installed."""
    tools.path("node")
    _install(tools.path("npm"))
    with shared.kept(serve) as server:
        yield server


def _install(npm: str) -> None:
    _FOLDER.parent.mkdir(exist_ok=True)
    with _FOLDER.with_name(f"{_FOLDER.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = _FOLDER / "done"
        if done.exists():
            return
        try:
            run(
                npm,
                "install",
                "--prefix",
                _FOLDER,
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                _PACKAGE,
                timeout=500,
            )
        except Failed as error:
            pytest.skip(f"{_PACKAGE} cannot be installed: {str(error).splitlines()[1]}")
        done.touch()


@contextmanager
def serve(folder: Path) -> Iterator[Azurite]:
    """A server of its own, which keeps everything in memory."""
    port = ports.free()
    account, key = "tests", base64.b64encode(secrets.token_bytes(64)).decode()
    child = Child(
        [
            *(tools.path("node"), _FOLDER / "node_modules/.bin/azurite-blob"),
            *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--blobKeepAliveTimeout", "60"),
            *("--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        ],
        log=folder / "out",
        cwd=folder,
        env={"AZURITE_ACCOUNTS": f"{account}:{key}"},
    )
    try:
        child.wait_for(lambda: ports.answers(port), f"azurite on port {port}", timeout=60)
        yield Azurite(f"http://127.0.0.1:{port}/{account}", account, key)
    finally:
        child.stop()
