"""Several equal nodes over one PostgreSQL database and one store, and the shipped proxies before them."""

import http.client
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml
from tests.support import ports, tools, workers
from tests.support.haproxy import Haproxy
from tests.support.processes import Child, is_running, run, wait_until
from tests.support.running import Answer, Config, Running

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PROGRAM: Sequence[str | Path] = [ROOT / ".venv/bin/stackyard"]
QUICK_CLAIMS: Sequence[str | Path] = [sys.executable, ROOT / "tests/crash/quick_claims.py"]
"""The program with claims on uploads that run out after two seconds of silence."""
PATIENCE = 90  # seconds for a node to be ready, on a busy machine


class Node:
    """One of the nodes: `stackyard serve` with one worker, at an address that it keeps when it is started again."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        *,
        program: Sequence[str | Path] = PROGRAM,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        """Not started yet.

        Args:
            folder: Its own: log, configuration and local socket.
            config: What all nodes have in common: the database and the store.
            host: An IPv4 address of its own machine.
            inside: Words before its command that enter a namespace.
        """
        self.folder = folder
        self.name = folder.name
        self.host = host
        self.port = ports.free()
        self.socket = folder / "admin.sock"
        self._config = config
        self._program = program
        self._inside = inside
        self._server: Running | None = None

    @property
    def where(self) -> str:
        """Where proxies find it."""
        return f"{self.host}:{self.port}"

    @property
    def server(self) -> Running:
        """Its process."""
        assert self._server is not None, f"{self.name} was never started"
        return self._server

    def launch(self) -> None:
        """Start it, and do not wait."""
        own = {"workers": 1, "api": {"socket": str(self.socket)}} | dict(self._config["stackyard"])
        file = self.folder / "config.yml"
        file.write_text(
            yaml.safe_dump(
                {
                    "version": "0.1",
                    "log": {"level": "info"},
                    "storage": self._config["storage"],
                    "http": {"addr": self.where, "draintimeout": "30s"},
                    "stackyard": own,
                }
            )
        )
        argv = [*self._inside, *self._program, "serve", file]
        self._server = Running(
            process=Child(argv, log=self.folder / "output.log", cwd=self.folder),
            port=self.port,
            folder=self.folder,
            data=Path(self._config["storage"].get("filesystem", {}).get("rootdirectory", self.folder)),
            config=file,
            host=self.host,
            inside=self._inside,
        )

    def start(self) -> None:
        """Start it; returns as soon as it is ready."""
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return as soon as it says itself that it can serve."""
        self.server.process.wait_for(self.is_ready, f"{self.name} to be ready", timeout=PATIENCE)

    def is_ready(self) -> bool:
        """What it answers at /readyz."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://{self.where}/readyz", timeout=10).status_code == 200
        return False

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request to this node alone, on a connection of its own. A blob that lies elsewhere is fetched there."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 307:
                elsewhere = httpx.get(answer.headers["Location"], timeout=60)
                return Answer(elsewhere.status_code, answer.headers, elsewhere.content)
            return Answer(answer.status, answer.headers, body)
        finally:
            connection.close()

    def kill(self) -> None:
        """SIGKILL to every process of it at once, as when the machine loses its power; returns when all have ended."""
        self._signal(signal.SIGKILL)
        self.server.process.wait()
        self.server.process.stop()

    def end(self) -> int:
        """As an operator stops it: running requests may finish. The exit status."""
        return self.server.process.stop(timeout=60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stand still within the context."""
        pids = self._pids()
        self._signal(signal.SIGSTOP)
        wait_until(lambda: all(map(workers.is_stopped, pids)), f"{self.name} to stand still")
        try:
            yield
        finally:
            with suppress(ProcessLookupError):  # killed meanwhile
                self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it if it runs."""
        if self._server is not None and is_running(self._server.process.pid):
            self._signal(signal.SIGCONT)
            self.end()

    def _pids(self) -> list[int]:
        supervisor = self.server.process.pid
        return [supervisor, *workers.children(supervisor)]

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.server.process.pid, number)


class Proxy(Protocol):
    """One of the shipped proxies at work."""

    @property
    def address(self) -> str:
        """What stands before the first slash of an image's name."""
        ...

    @property
    def output(self) -> str:
        """A line for each request that ended."""
        ...

    def stop(self) -> None: ...


class ShippedNginx:
    """nginx with deploy/nginx.conf, in which nothing is changed but addresses and folders."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        program = tools.path("nginx")
        self.folder = Path(tempfile.mkdtemp(prefix="yx-", dir="/tmp"))
        self.port = ports.free()
        file = self.folder / "nginx.conf"
        file.write_text(nginx_config([node.where for node in nodes], self.folder, self.port))
        argv: list[str | Path] = [
            program,
            "-c",
            file,
            "-p",
            self.folder,
            "-e",
            self.folder / "error.log",
            "-g",
            "daemon off;",
        ]
        self._child = Child(argv, log=self.folder / "log")
        self._child.wait_for(lambda: ports.answers(self.port), f"nginx on port {self.port}")
        self.pid = self._child.pid
        """Of the process whose children do the work."""

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @property
    def output(self) -> str:
        return (self.folder / "registry.log").read_text()

    def stop(self) -> None:
        self._child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def nginx_config(nodes: Sequence[str], folder: Path, port: int) -> str:
    """deploy/nginx.conf for these nodes, its files in `folder`, listening on the loopback."""
    text = (DEPLOY / "nginx.conf").read_text()
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("/run/nginx.pid", f"{folder}/pid"),
        ("/var/log/nginx", str(folder)),
        ("http {\n", f"http {{\n{temporary}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return _with_nodes(text, "server ", nodes)


def haproxy_config(nodes: Sequence[str], port: int) -> str:
    """deploy/haproxy.cfg for these nodes, listening on the loopback."""
    text = (DEPLOY / "haproxy.cfg").read_text()
    assert "bind :80\n" in text
    return _with_nodes(text.replace("bind :80\n", f"bind 127.0.0.1:{port}\n"), r"server node\d ", nodes)


def _with_nodes(text: str, before: str, nodes: Sequence[str]) -> str:
    """The three nodes of a shipped configuration replaced by as many of these; lines for more than there are go."""
    for number in (1, 2, 3):
        line = re.compile(rf"^( *{before})node{number}:5000(.*\n)", re.MULTILINE)
        assert line.search(text), f"node{number} is not in the configuration"
        where = nodes[number - 1] if number <= len(nodes) else ""
        text = line.sub(rf"\g<1>{where}\g<2>" if where else "", text)
    return text


def shipped_haproxy(nodes: Sequence[Node]) -> Haproxy:
    """HAProxy with deploy/haproxy.cfg, in which nothing is changed but addresses."""
    port = ports.free()
    return Haproxy(haproxy_config([node.where for node in nodes], port), port)


@contextmanager
def cluster(
    folder: Path,
    common: Config,
    *,
    count: int = 3,
    program: Sequence[str | Path] = PROGRAM,
    network: "Network | None" = None,
) -> Iterator[list[Node]]:
    """`count` nodes that are ready.

    Args:
        folder: Where each has a folder of its own.
        common: `shared` makes one: the database and the store of all.
        program: Instead of the shipped command.
        network: Each in a namespace of this network, instead of all on the loopback.
    """
    nodes = []
    for number in range(1, count + 1):
        place = folder / f"node{number}"
        place.mkdir(parents=True, exist_ok=True)
        host, inside = network.join(place.name) if network else ("127.0.0.1", ())
        nodes.append(Node(place, common, program=program, host=host, inside=inside))
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_ready()
        yield nodes
    finally:
        for node in nodes:
            node.close()


def shared(database: str, storage: Config, **settings: Any) -> dict[str, Any]:
    """What nodes have in common.

    Args:
        database: The URL.
        storage: The section of that name: `{"filesystem": {"rootdirectory": …}}` or another store.
        settings: More under `stackyard:`.
    """
    return {
        "storage": {**storage, "delete": {"enabled": True}},
        "stackyard": {"database": {"url": database}, **settings},
    }


class Network:
    """A switch and cables: each node in a network namespace of its own, and this machine on the same switch.

    The addresses are of the range for measurements (RFC 2544), which nobody routes.
    """

    def __init__(self) -> None:
        tools.need_root("network namespaces need it")
        for program in ("unshare", "nsenter", "ip", "curl"):
            tools.path(program)
        number = os.getpid() % 250 + 1
        self._bridge = f"sy{os.getpid() % 100000}"
        self._prefix = f"198.18.{number}"
        self._children: dict[str, Child] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="yw-", dir="/tmp"))
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self._prefix}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        self.host = f"{self._prefix}.1"
        """This machine's address."""

    def join(self, name: str) -> tuple[str, tuple[str, ...]]:
        """A new namespace: its address, and the words before a command that enter it."""
        index = len(self._children) + 1
        outer, host = self._cable(name, index), f"{self._prefix}.{index + 1}"
        child = Child(
            [tools.path("unshare"), "--net", "sh", "-c", "echo ready; exec sleep infinity"], log=self._folder / name
        )
        child.wait_line("ready")
        self._children[name] = child
        inside = (tools.path("nsenter"), f"--target={child.pid}", "--net", "--")
        _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", str(child.pid))
        _ip("link", "set", outer, "master", self._bridge, "up")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{host}/24", "dev", "eth0")):
            run(*inside, tools.path("ip"), *words)
        run(*inside, tools.path("ip"), "link", "set", "eth0", "up")
        return host, inside

    @contextmanager
    def cut(self, name: str) -> Iterator[None]:
        """The switch forgets this cable within the context: nothing arrives, and nobody is told so."""
        outer = self._cable(name, list(self._children).index(name) + 1)
        _ip("link", "set", outer, "nomaster")
        try:
            yield
        finally:
            _ip("link", "set", outer, "master", self._bridge)

    def stop(self) -> None:
        for child in self._children.values():
            child.stop()
        _ip("link", "delete", self._bridge)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cable(self, name: str, index: int) -> str:
        return f"{self._bridge}n{index}"


def _ip(*words: str) -> None:
    run(tools.path("ip"), *words)


@contextmanager
def reachable(socket: Path, network: Network) -> Iterator[int]:
    """The port of this machine's address on `network` that leads to PostgreSQL's socket."""
    port = ports.free()
    config = f"""\
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen database
    bind {network.host}:{port}
    server postgresql unix@{socket}
"""
    relay = Haproxy(config, port, host=network.host)
    try:
        yield port
    finally:
        relay.stop()
