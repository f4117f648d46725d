"""What the benchmark of several nodes stands on: groups that limit, and the servers in them."""

import itertools
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
import yaml
from bench.cases import scale
from bench.children import Child
from bench.ground import Ground
from bench.limits import Limit, controller
from bench.machine import Missing
from bench.servers import Kind, Programs, Setting
from bench.wire import Connection
from tests.support.ceph import Ceph

from bench import children, content, postgresql, pushing

STACKYARD = Path(sys.executable).parent / "stackyard"
V1 = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


@pytest.fixture
def limit() -> Iterator[Limit]:
    try:
        made = Limit("test")
    except Missing as missing:
        pytest.skip(str(missing))
    yield made
    made.close()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    reference, nginx = shutil.which("docker-registry"), shutil.which("nginx", path="/usr/bin:/usr/sbin")
    if not reference or not nginx:
        pytest.skip("docker-registry or nginx is not installed")
    made = Ground(tmp_path, Programs(STACKYARD, Path(reference), Path(nginx)))
    try:
        yield made
    finally:
        made.close()


def test_what_runs_in_a_limit_gets_no_more_than_its_share(limit: Limit, tmp_path: Path) -> None:
    busy = "while :; do :; done"
    both = f"({busy}) & trap 'kill $!; exit' TERM; {busy}"
    limit.hold(0.2)

    with Child([*limit.enter, "sh", "-c", both], log=tmp_path / "log") as child:
        while len(limit.pids) < 2:
            time.sleep(0.01)
        before, began = child.cpu(), time.monotonic()
        time.sleep(1)  # what is measured is that time itself
        used, passed = child.cpu() - before, time.monotonic() - began
        limit.release()

    assert used <= 0.2 * passed + 0.1  # one period may have begun before


def test_groups_are_where_the_first_version_is_mounted_for_cpu() -> None:
    assert controller(V2 + V1) == Path("/sys/fs/cgroup/cpu,cpuacct")


def test_a_machine_with_the_second_version_alone_says_what_is_missing() -> None:
    with pytest.raises(Missing, match="no cgroup v1"):
        controller(V2)


async def test_what_postgresql_has_committed_is_on_the_disk() -> None:
    try:
        postgresql.binaries()
    except Missing as missing:
        pytest.skip(str(missing))
    with postgresql.serve() as server:
        connection = await asyncpg.connect(server.create("one"))

        settings = [await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit")]

        await connection.close()
    assert settings == ["on", "on"]
    assert not server.folder.exists()


async def test_nodes_are_limited_and_what_is_around_them_is_not(ground: Ground) -> None:
    try:
        nodes = ground.nodes(Setting.THREE)
    except Missing as missing:
        pytest.skip(str(missing))
    nodes.hold()

    with Connection(nodes.server) as connection:
        pushed = await pushing.image(connection, "a", layers=2)
        await pushing.manifest(connection, "a", "v1", content.manifest(pushed[0], pushed[1]))

    inside = [set(limit.pids) for limit in nodes.limits]
    processes = [set(process.pids()) for process in (nodes.server.process, *nodes.server.others)]
    assert inside == processes
    assert not set.union(*inside) & {*nodes.proxy.pids(), *ground.database.process.pids()}
    assert [(limit.folder / "cpu.cfs_quota_us").read_text() for limit in nodes.limits] == ["30000\n"] * 3
    ground.close()
    assert not any(limit.folder.exists() for limit in nodes.limits)


async def test_both_registries_keep_their_bytes_in_the_same_store(ground: Ground, ceph: Ceph) -> None:
    ground.objects = ceph.server  # that of all tests: another one would cost ten seconds
    try:
        servers = [ground.alone(kind) for kind in (Kind.STACKYARD, Kind.REFERENCE)]
    except Missing as missing:
        pytest.skip(str(missing))
    blobs = list(itertools.islice(content.unique(1024), len(servers)))

    for server, blob in zip(servers, blobs, strict=True):
        with Connection(server) as connection:
            await pushing.monolithic(connection, "a", blob)

    buckets = [
        yaml.safe_load(file.read_text())["storage"]["s3"]["bucket"] for file in ground.folder.glob("*/config.yml")
    ]
    stored = [content for bucket in buckets for content in ceph.server.content(bucket).values()]
    assert len(set(buckets)) == 2
    assert all(b"".join(blob.body) in stored for blob in blobs)
    assert not list(ground.folder.rglob("*.db")), "rows are in PostgreSQL"


def test_the_processor_time_of_this_process_family_grows_with_it(tmp_path: Path) -> None:
    before = children.family()

    with Child(["sh", "-c", "while :; do :; done"], log=tmp_path / "log") as child:
        while child.cpu() < 0.2:
            time.sleep(0.01)
        named = children.by_name()["sh"]
        beside = children.family()
    after = children.family()

    assert named >= 0.2
    assert after >= beside >= before + 0.2


def test_each_goal_of_the_issue_has_a_case() -> None:
    goals = {case.name: [repr(goal) for goal in case.goals] for case in scale.CASES}

    assert [name for name, said in goals.items() if any("least=2.5" in one for one in said)] == [
        "nodes-get",
        "nodes-push",
        "nodes-push-folder",
    ]
    assert {name for name, said in goals.items() if any("docker-registry" in one for one in said)} == {
        "s3-push-1k",
        "s3-push-100m",
        "s3-get",
    }
