"""A real Ceph: one monitor, one disk in memory, and its gateway, which speaks S3. On loopback only."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import ports, shared, tools
from tests.support.processes import Child, run
from tests.support.s3 import S3

_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
# Without this radosgw asks for an encrypted connection, which "none" cannot give, and hangs.
ms mon client mode = crc
run dir = {folder}
admin socket = {folder}/$name.asok
pid file =
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
crash dir = {folder}

# One copy of everything, on one disk.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1

[mon]
mon data = {folder}/mon
paxos propose interval = 0.02

[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 20G
osd class update on start = false
osd op num shards = 2
osd op num threads per shard = 1

[client]
rgw data = {folder}/rgw
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
# What was deleted leaves the memory after seconds, not after two hours.
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
# A gateway tells the others what they must not remember, and waits half a minute for one that was killed.
rgw cache enabled = false
debug rgw = 0/0
"""


@dataclass(frozen=True)
class Ceph:
    """A cluster that runs, and the gateway that all workers of this run share."""

    config: Path
    server: S3

    @contextmanager
    def gateway(self) -> Iterator["Gateway"]:
        """A gateway to the same buckets for one test alone, which may kill it."""
        gateway = Gateway(self)
        try:
            yield gateway
        finally:
            gateway.stop()


class Gateway:
    """A radosgw. After `kill`, `start` brings it back on the same port."""

    def __init__(self, ceph: Ceph) -> None:
        self._config = ceph.config
        self.port = ports.free()
        self.server = replace(ceph.server, endpoint=f"http://127.0.0.1:{self.port}")
        self.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def start(self) -> None:
        """It answers."""
        name = f"client.rgw.{self.port}"
        # Without tcp_nodelay every small answer waits 40 ms for an acknowledgement.
        frontend = f"beast tcp_nodelay=1 endpoint=127.0.0.1:{self.port}"
        self._child = Child(
            [tools.path("radosgw"), "-f", "-c", self._config, "-n", name, f"--rgw-frontends={frontend}"],
            log=self._config.with_name(f"{name}.out"),
        )
        self._child.wait_for(lambda: ports.answers(self.port), f"radosgw on port {self.port}", timeout=60)

    def kill(self) -> None:
        """As a crash would end it."""
        self._child.kill()
        self.stop()

    def stop(self) -> None:
        self._child.stop()


@contextmanager
def kept() -> Iterator[Ceph]:
    """A cluster that all workers share. Skips, saying why, where Ceph is not installed."""
    for program in _PROGRAMS:
        tools.path(program)
    with shared.kept(serve) as ceph:
        yield ceph


@contextmanager
def serve(folder: Path) -> Iterator[Ceph]:
    """A cluster of its own, its files in `folder`: a path of at most 70 bytes, for the sockets in it."""
    config = folder / "ceph.conf"
    port = ports.free()
    fsid = str(uuid.uuid4())
    config.write_text(_CONFIG.format(fsid=fsid, port=port, folder=folder))
    started: list[Child | Gateway] = []
    try:
        started.append(_monitor(config, fsid, port))
        started.append(_disk(config))
        ceph = Ceph(config, _user(config))
        gateway = Gateway(ceph)
        started.append(gateway)
        yield replace(ceph, server=gateway.server)
    finally:
        for child in reversed(started):  # at once: nothing of it is needed again
            child.kill()
            child.stop()


def _monitor(config: Path, fsid: str, port: int) -> Child:
    monitor = (tools.path("ceph-mon"), "-c", config, "-i", "a")
    map_ = config.with_name("monmap")
    run(tools.path("monmaptool"), "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", map_)
    run(*monitor, "--mkfs", "--monmap", map_)
    child = Child([*monitor, "-f"], log=config.with_name("mon.out"))
    child.wait_for(lambda: ports.answers(port), f"ceph-mon on port {port}")
    return child


def _disk(config: Path) -> Child:
    disk = (tools.path("ceph-osd"), "-c", config, "-i", "0")
    name = str(uuid.uuid4())
    config.with_name("osd").mkdir()
    run(tools.path("ceph"), "-c", config, "--connect-timeout", "30", "osd", "new", name, "0")
    run(*disk, "--mkfs", "--osd-uuid", name, "--no-mon-config")
    return Child([*disk, "-f"], log=config.with_name("osd.out"))


def _user(config: Path) -> S3:
    """Somebody who may make any number of buckets. Waits until the disk is there."""
    options = ("--uid=test", "--display-name=test", "--max-buckets=0")
    made = run(tools.path("radosgw-admin"), "-c", config, "user", "create", *options, timeout=60)
    key = json.loads(made.out)["keys"][0]
    return S3("", key["access_key"], key["secret_key"])
