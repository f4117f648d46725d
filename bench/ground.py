"""What servers of the scale benchmark stand on: one object store and one PostgreSQL, and the servers on them."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import ports
from tests.support.nodes import nginx_config

from bench import postgresql, servers
from bench.children import Child
from bench.limits import Limit
from bench.machine import Missing
from bench.postgresql import Postgresql
from bench.servers import Kind, Programs, Server, Setting

if TYPE_CHECKING:
    from tests.support.s3 import S3

SHARE = 0.3
"""Cores that a node gets."""
NODES = {Setting.ONE: 1, Setting.THREE: 3}


@dataclass(frozen=True)
class Nodes:
    """Equal nodes behind nginx, each in a group of its own."""

    server: Server
    """Asked through nginx; the processes are the nodes'."""
    limits: Sequence[Limit]
    proxy: Child

    def hold(self) -> None:
        """From now on each node gets no more than its share."""
        for limit in self.limits:
            limit.hold(SHARE)


@dataclass
class Ground:
    """Each thing is started when it is asked for first, and ends when this is closed."""

    folder: Path
    programs: Programs
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _things: ExitStack = field(default_factory=ExitStack)
    _alone: dict[tuple[Kind, Setting], Server] = field(default_factory=dict)
    _nodes: dict[tuple[Setting, bool], Nodes] = field(default_factory=dict)

    @cached_property
    def objects(self) -> "S3":
        """Ceph's gateway. Raises Missing where Ceph is not installed."""
        from tests.support import ceph  # boto3 takes a while, and most runs need none

        folder = Path(tempfile.mkdtemp(prefix="yc-", dir="/tmp"))  # there are sockets in it, whose paths must be short
        self._things.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            return self._things.enter_context(ceph.serve(folder)).server
        except pytest.skip.Exception as error:
            raise Missing(str(error)) from None
        except AssertionError as error:
            raise RuntimeError(f"Ceph does not start: {error}") from None

    @cached_property
    def database(self) -> Postgresql:
        """PostgreSQL. Raises Missing where it is not installed."""
        return self._things.enter_context(postgresql.serve())

    def alone(self, kind: Kind, setting: Setting = Setting.PLAIN) -> Server:
        """A registry that has the whole machine, and a bucket of its own; ours with its rows in PostgreSQL or SQLite.

        What PostgreSQL uses is counted as used by the registry.
        """
        if (kind, setting) not in self._alone:
            folder = self.folder / f"{kind}-{setting}".lower()
            others: tuple[Child, ...] = ()
            more = self._storage()
            if kind is Kind.STACKYARD and setting is Setting.SQLITE:
                more |= _rows(f"sqlite:///{folder}/rows.db")
            elif kind is Kind.STACKYARD:
                more |= _rows(self._new_database())
                others = (self.database.process,)
            server = servers.start(self.programs, kind, setting, folder, more)
            self._things.callback(server.process.stop)
            self._alone[kind, setting] = replace(server, others=others)
        return self._alone[kind, setting]

    def nodes(self, setting: Setting, *, in_folder: bool = False) -> Nodes:
        """One node or three, not held to their share yet, on a bucket or a folder, and a database, of their own.

        Raises:
            Missing: Nodes cannot be limited here.
        """
        if (setting, in_folder) not in self._nodes:
            place = self.folder / f"{setting}-{'folder' if in_folder else 'bucket'}".replace(" ", "-")
            limits = [self._limit() for _ in range(NODES[setting])]
            more = _folder(place / "data") if in_folder else self._storage()
            # Nobody wants to go back from here, and one of the nodes would write docker-registry's view for all.
            more |= _rows(self._new_database(), workers=1, distribution={"follow": False})
            nodes = []
            for number, limit in enumerate(limits):
                folder = place / str(number)
                own = _with_socket(more, folder / "admin.sock")
                node = servers.launch(self.programs, Kind.STACKYARD, setting, folder, own, within=limit.enter)
                self._things.callback(node.process.stop)
                nodes.append(node)
            for node in nodes:
                servers.wait_ready(node)
            proxy, port = self._proxy(nodes, place / "nginx")
            first, *rest = [node.process for node in nodes]
            server = Server(Kind.STACKYARD, setting, first, port, place, tuple(rest))
            self._nodes[setting, in_folder] = Nodes(server, limits, proxy)
        return self._nodes[setting, in_folder]

    def close(self) -> None:
        """End everything. Closing twice is not an error."""
        while self._nodes:
            for limit in self._nodes.popitem()[1].limits:
                limit.release()  # so that ending takes no longer than it has to
        self._things.close()

    def _new_database(self) -> str:
        return self.database.create(f"rows{next(self._numbers)}")

    def _limit(self) -> Limit:
        limit = Limit(str(next(self._numbers)))
        self._things.callback(limit.close)
        return limit

    def _storage(self) -> dict[str, Any]:
        """The section for a new bucket, in the words that both registries know."""
        s3 = self.objects
        where = {
            "bucket": s3.bucket(),
            "region": s3.region,
            "regionendpoint": s3.endpoint,
            "accesskey": s3.access_key,
            "secretkey": s3.secret_key,
            "v4auth": True,
        }
        return {"storage": {"filesystem": None, "s3": where}}

    def _proxy(self, nodes: Sequence[Server], folder: Path) -> tuple[Child, int]:
        """nginx as it is shipped, before these."""
        port = ports.free()
        folder.mkdir(exist_ok=True)
        file = folder / "nginx.conf"
        file.write_text(nginx_config([f"127.0.0.1:{node.port}" for node in nodes], folder, port))
        argv: list[str | Path] = [
            self.programs.nginx,
            "-c",
            file,
            "-p",
            folder,
            "-e",
            folder / "error.log",
            "-g",
            "daemon off;",
        ]
        proxy = Child(argv, log=folder / "output.log")
        self._things.callback(proxy.stop)
        servers.wait_ready(Server(Kind.NGINX, Setting.PLAIN, proxy, port, folder))
        return proxy, port


def versions() -> Mapping[str, str]:
    """What the programs below say they are; nothing about those that are not there."""
    found = {}
    with suppress(Missing):
        found["PostgreSQL"] = servers.first_line(postgresql.binaries() / "postgres", "--version")
    if gateway := shutil.which("radosgw"):
        found["Ceph"] = servers.first_line(gateway, "--version")
    return found


def _folder(root: Path) -> dict[str, Any]:
    return {"storage": {"filesystem": {"rootdirectory": str(root)}}}


def _rows(url: str, **more: Any) -> dict[str, Any]:
    return {"stackyard": {"database": {"url": url}, **more}}


def _with_socket(more: Mapping[str, Any], socket: Path) -> dict[str, Any]:
    return {**more, "stackyard": {**more["stackyard"], "api": {"socket": str(socket)}}}
