"""The three servers, each in several settings, on free ports of the loopback interface."""

import http.client
import os
import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from bench.children import Child

USER, PASSWORD = "alice", "correct horse battery staple"
_READY = 120  # seconds until a start counts as failed


class Kind(StrEnum):
    """Which program."""

    STACKYARD = "Stackyard"
    REFERENCE = "docker-registry"
    NGINX = "nginx"


class Setting(StrEnum):
    """What differs from: plain HTTP, anonymous, access log off, level error."""

    PLAIN = "plain"
    TLS = "TLS"
    DEFAULTS = "defaults"
    CHEAP = "bcrypt cost 5"
    DEAR = "bcrypt cost 10"
    LARGE = "large"
    SQLITE = "SQLite"
    ONE = "one node"
    THREE = "three nodes"


_COSTS = {Setting.CHEAP: 5, Setting.DEAR: 10}


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    kind: Kind
    setting: Setting
    process: Child
    port: int
    data: Path
    others: tuple[Child, ...] = ()
    """What else does its work."""

    def cpu(self) -> float:
        """CPU seconds that it has used so far."""
        return sum(child.cpu() for child in (self.process, *self.others))

    def pss(self) -> float:
        """MB of memory."""
        return sum(child.pss() for child in (self.process, *self.others))

    @property
    def tls(self) -> bool:
        return self.setting is Setting.TLS

    def url(self, path: str) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def __str__(self) -> str:
        return str(self.kind) if self.setting is Setting.PLAIN else f"{self.kind}, {self.setting}"


@dataclass(frozen=True)
class Programs:
    """Where the programs are."""

    stackyard: Path
    reference: Path
    nginx: Path

    def serve(self, kind: Kind, config: Path) -> Sequence[str | Path]:
        if kind is Kind.NGINX:
            return [self.nginx, "-e", config.parent / "nginx.log", "-c", config]
        return [self.stackyard if kind is Kind.STACKYARD else self.reference, "serve", config]


def start(
    programs: Programs,
    kind: Kind,
    setting: Setting,
    folder: Path,
    more: Mapping[str, Any] | None = None,
) -> Server:
    """A server with its config, data and log in `folder`, answering. Started there again, it finds its data.

    `more` is added to a registry's config, section by section; what is None there is taken from it.

    Raises:
        RuntimeError: It ended, or does not answer; the message is what it printed.
    """
    server = launch(programs, kind, setting, folder, more)
    try:
        wait_ready(server)
    except BaseException:
        server.process.stop()
        raise
    return server


def launch(
    programs: Programs,
    kind: Kind,
    setting: Setting,
    folder: Path,
    more: Mapping[str, Any] | None = None,
    *,
    within: Sequence[str] = (),
) -> Server:
    """The same, not awaited. `within` are words before its command."""
    folder.mkdir(exist_ok=True, parents=True)
    port = _free_port()
    config = _nginx(folder, port, setting) if kind is Kind.NGINX else _registry(folder, port, setting, more or {})
    process = Child([*within, *programs.serve(kind, config)], log=folder / "output.log")
    return Server(kind, setting, process, port, folder / "data")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback interface and its key, made once per folder."""
    chain, key = folder / "server.crt", folder / "server.key"
    if not chain.exists():
        options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        command = ["openssl", "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return chain, key


def _registry(folder: Path, port: int, setting: Setting, more: Mapping[str, Any]) -> Path:
    """Distribution's config file; both registries read the same."""
    config: dict[str, Any] = {
        "version": "0.1",
        "storage": {
            # As in the files that Debian's package and the registry:2 image ship.
            "cache": {"blobdescriptor": "inmemory"},
            "filesystem": {"rootdirectory": str(folder / "data")},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if setting is not Setting.DEFAULTS:
        config["log"] = {"level": "error", "accesslog": {"disabled": True}}
    if setting is Setting.TLS:
        chain, key = certificate(folder.parent)
        config["http"]["tls"] = {"certificate": str(chain), "key": str(key)}
    if setting in _COSTS:
        config["auth"] = {"htpasswd": {"realm": "bench", "path": str(_htpasswd(folder, _COSTS[setting]))}}
    for section, keys in more.items():
        config[section] = _joined(config.get(section, {}), keys) if isinstance(keys, dict) else keys
    return _write(folder / "config.yml", yaml.safe_dump(config))


def _joined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**below, **above}.items() if value is not None}


def _htpasswd(folder: Path, cost: int) -> Path:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost)).decode()
    # As Apache's htpasswd writes it; the algorithm is the same.
    return _write(folder / "htpasswd", f"{USER}:{stored.replace('$2b$', '$2y$')}\n")


def _nginx(folder: Path, port: int, setting: Setting) -> Path:
    """Static files below `folder`/data, sent by sendfile, by two workers as the others have."""
    log = f"access_log {folder}/access.log;" if setting is Setting.DEFAULTS else "access_log off;"
    tls, listen = "", f"127.0.0.1:{port}"
    if setting is Setting.TLS:
        chain, key = certificate(folder.parent)
        tls, listen = (
            f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {chain}; ssl_certificate_key {key};",
            f"{listen} ssl",
        )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return _write(
        folder / "nginx.conf",
        # A worker that gave up root could not read a temporary folder.
        ("user root; " if os.geteuid() == 0 else "")
        + f"daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx.log error;"
        "events { worker_connections 1024; }"
        f"http {{ {log} {temporary} sendfile on; tcp_nopush on; keepalive_requests 1000000000;"
        "default_type application/vnd.oci.image.manifest.v1+json;"
        f"server {{ listen {listen}; {tls} root {folder}/data; }} }}",
    )


def _write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _free_port() -> int:
    # Below the range of outgoing connections, so that no client of ours takes it before the server does.
    ports = list(range(21000, 32000))
    random.shuffle(ports)  # others who look for one at the same time should not find the same
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                probe.close()
                if _bindable(port):
                    return port
    raise RuntimeError("no free port")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_ready(server: Server) -> None:
    """It answers. Raises RuntimeError."""
    deadline = time.monotonic() + _READY
    while not _answers(server):
        if server.process.ended or time.monotonic() > deadline:
            raise RuntimeError(f"{server} does not answer:\n{server.process.log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.005)  # the step in which the time to readiness is measured


def _answers(server: Server) -> bool:
    connection: http.client.HTTPConnection
    if server.tls:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=5, context=ssl._create_unverified_context()
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def versions(programs: Programs) -> Mapping[str, str]:
    """What each program says it is."""
    return {
        Kind.STACKYARD: first_line(programs.stackyard, "--version"),
        Kind.REFERENCE: first_line(programs.reference, "--version"),
        Kind.NGINX: first_line(programs.nginx, "-v"),
        "wrk": first_line("wrk", "-v"),
        "Python": sys.version.split()[0],
    }


def first_line(*argv: str | Path) -> str:
    """Of what a command prints."""
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    return next(iter((done.stdout + done.stderr).splitlines()), "")
