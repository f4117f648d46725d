"""The first two commands of a newcomer, on a bare Debian: `make serve` needs python3 and make, and nothing else."""

import http.client
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.packaging import debian
from tests.support import ports, tools
from tests.support.processes import Child, run

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parent.parent.parent
MADE_HERE = (".git", ".venv", "build", "dist", "data", "uv.lock", ".hypothesis", ".*_cache", "__pycache__")
NOT_IN_A_TARBALL = shutil.ignore_patterns(*MADE_HERE)
HERE = "/srv/stackyard"


class Bare:
    """A Debian with make and python3 and our source, in a folder; this machine's network, and its package settings."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.log = folder / "log"
        run("tar", "--extract", "--file", debian.system("make", "python3", variant="minbase"), "--directory", self.root)
        shutil.copytree(ROOT, self.root / HERE[1:], ignore=NOT_IN_A_TARBALL, symlinks=True)
        self.pip = self._borrow_settings()

    def _borrow_settings(self) -> dict[str, str]:
        """How this machine reaches its packages, which ours do not know and need not know."""
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        told = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        for line in run("python3", "-m", "pip", "config", "list").out.splitlines():
            name, _, value = line.partition("=")
            told.setdefault(f"PIP_{name.split('.')[-1].upper().replace('-', '_')}", value.strip("'"))
        if authority := told.get("PIP_CERT"):
            shutil.copy(authority, self.root / "etc/authority.pem")
            told["PIP_CERT"] = "/etc/authority.pem"
        links = Path(told.get("PIP_FIND_LINKS", "/nothing"))
        if links.is_dir():
            shutil.copytree(links, self.root / str(links)[1:])
        return told

    def command(self, line: str, *, user: int = 0) -> list[str]:
        """What runs a shell line there, in a process tree of its own that ends as one."""
        mounts = "mount -t proc proc proc && mount --bind /dev dev"
        inside = f"setpriv --reuid={user} --regid={user} --clear-groups sh -c '{line}'"
        names = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **self.pip}
        settings = " ".join(f"'{name}={value}'" for name, value in names.items())
        script = f"cd {self.root} && {mounts} && exec env -i {settings} chroot . {inside}"
        return [tools.path("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script]

    def tried(self, line: str, *, user: int = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(line, user=user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )

    def start(self, line: str) -> Child:
        return Child(self.command(line), log=self.log)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    tools.need_root("a chroot needs it")
    folder = tmp_path_factory.mktemp("bare")
    yield Bare(folder)
    shutil.rmtree(folder)


def answer(port: int) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def test_make_serve_is_all_that_a_bare_machine_needs(bare: Bare) -> None:
    for absent in ("git", "gcc", "pip3", "update-ca-certificates"):
        assert bare.tried(f"command -v {absent}").returncode != 0
    config = bare.root / "etc/docker/registry/config.yml"
    config.parent.mkdir(parents=True)
    config.write_text("this would stop whoever reads it")

    # A user may not install anything, and is told the one line that somebody who may has to run.
    refused = bare.tried(f"cp -r {HERE} /tmp/mine && make -C /tmp/mine setup", user=65534)
    assert refused.returncode != 0
    assert "sudo apt-get install -y python3-venv" in refused.stdout

    port = ports.free()
    server = bare.start(f"make -C {HERE} serve ADDR=127.0.0.1:{port}")
    server.wait_for(lambda: answer(port) == 200, "an answer to GET /v2/", timeout=600)
    assert "installing the Debian package python3-venv" in server.output
    assert f"{HERE}/data" in server.output
    assert (bare.root / f"{HERE[1:]}/data/stackyard").is_dir()

    second = bare.tried(f"make -C {HERE} serve ADDR=127.0.0.1:{port}")
    assert second.returncode != 0
    assert "make serve ADDR=" in second.stdout
    assert "Traceback" not in second.stdout

    server.kill(signal.SIGTERM)
    server.stop()
    assert answer(port) is None
    assert bare.tried(f"make -C {HERE} setup").stdout.strip().splitlines()[1:-1] == []


def test_no_service_starts_while_test_packages_are_installed(bare: Bare) -> None:
    (bare.root / f"{HERE[1:]}/scripts/system-packages.txt").write_text("nginx  nginx-light  # a service\n")
    policy = bare.root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\n# somebody else's\nexit 0\n")

    installed = bare.tried(f"sh {HERE}/scripts/system-packages; pgrep -c nginx || ls /run/nginx.pid")

    assert "installing nginx-light" in installed.stdout
    assert "No such file" in installed.stdout
    assert "somebody else" in policy.read_text()
    assert bare.tried("command -v nginx").returncode == 0
