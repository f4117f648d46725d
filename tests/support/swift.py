"""A real OpenStack Swift, which speaks S3 by its middleware `s3api`, with semantics of its own. On loopback only.

It is a program of this machine like the others, but comes from PyPI, into an environment of its own.
"""

import fcntl
import getpass
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.support import ports, shared, tools
from tests.support.processes import Child, Failed, run
from tests.support.s3 import S3

_PACKAGE = "swift==2.38.3"
_FOLDER = Path(__file__).parent.parent.parent / "build" / _PACKAGE.replace("==", "-")
_BIN = _FOLDER / "bin"
_KINDS = ("account", "container", "object")

# Where Swift looks for the servers of each kind: here one. (The program for that takes nine runs.)
_RINGS = """\
import sys
from swift.common.ring import RingBuilder

for kind, port in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    server = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": "one", "weight": 1.0, "meta": "", **server})
    builder.rebalance()
    builder.get_ring().save(f"{kind}.ring.gz")
"""
_COMMON = """\
[swift-hash]
swift_hash_path_prefix = {secret}
swift_hash_path_suffix = {secret}
[storage-policy:0]
name = only
default = yes
"""
# Without a worker of its own each server is one process, which ends with us.
_SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_address = /nonexistent
log_level = WARNING
"""
_STORAGE = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats bulk s3api tempauth slo dlo copy proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
conn_timeout = 10
error_suppression_limit = 1000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:copy]
use = egg:swift#copy
"""


@contextmanager
def kept() -> Iterator[S3]:
    """A server that all workers share. Skips, saying why, where it cannot be installed."""
    tools.path("memcached")
    _install()
    with shared.kept(serve) as server:
        yield server


def _install() -> None:
    _FOLDER.parent.mkdir(exist_ok=True)
    with _FOLDER.with_name(f"{_FOLDER.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = _FOLDER / "done"
        if done.exists():
            return
        try:
            run(sys.executable, "-m", "venv", "--clear", _FOLDER)
            run(_BIN / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", _PACKAGE)
        except Failed as error:
            pytest.skip(f"{_PACKAGE} cannot be installed: {str(error).splitlines()[-1]}")
        done.touch()


@contextmanager
def serve(folder: Path) -> Iterator[S3]:
    """A server of its own, its files in `folder`."""
    (folder / "devices/one").mkdir(parents=True)
    (folder / "swift.conf").write_text(_COMMON.format(secret=uuid.uuid4()))
    ring = {kind: ports.free() for kind in _KINDS}
    memcached, port = ports.free(), ports.free()
    cache = [tools.path("memcached"), "-u", "nobody", "-l", "127.0.0.1", "-p", str(memcached), "-U", "0", "-m", "16"]
    started = [Child(cache, log=folder / "memcached.out")]
    try:
        run(_BIN / "python", "-c", _RINGS, *(str(word) for item in ring.items() for word in item), cwd=folder)
        started += [_start(folder, kind, ring[kind], _STORAGE.format(kind=kind)) for kind in _KINDS]
        started.append(_start(folder, "proxy", port, _PROXY.format(memcached=memcached)))
        for child, its_port in zip(started, (memcached, *ring.values(), port), strict=True):
            child.wait_for(partial(ports.answers, its_port), f"{child.argv[0]} on port {its_port}", timeout=60)
        yield S3(f"http://127.0.0.1:{port}", "test:tester", "testing")
    finally:
        for child in reversed(started):  # at once: nothing of it is needed again
            child.kill()
            child.stop()


def _start(folder: Path, kind: str, port: int, pipeline: str) -> Child:
    config = folder / f"{kind}.conf"
    config.write_text(_SERVER.format(port=port, user=getpass.getuser(), folder=folder) + pipeline)
    return Child([_BIN / f"swift-{kind}-server", config], log=folder / f"{kind}.out")
