"""Ceph's file system, mounted several times by ceph-fuse: each mount is a client of its own, as on another machine."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.support import tools
from tests.support.ceph import Ceph
from tests.support.processes import Child, run, wait_until


@contextmanager
def mounted(ceph: Ceph, folder: Path, *, count: int = 2) -> Iterator[list[Path]]:
    """Where the one file system is mounted. Skips, saying why, where that cannot be.

    Args:
        ceph: A cluster without a file system.
        folder: Empty; the logs and the mount points come into it.
    """
    tools.need_root("mounting needs it")
    for program in ("ceph-mds", "ceph-fuse", "umount"):
        tools.path(program)
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse")
    _make_file_system(ceph)
    with ExitStack() as until_the_end:
        until_the_end.enter_context(_metadata_server(ceph, folder))
        points = [folder / f"mount{number}" for number in range(1, count + 1)]
        for point in points:
            until_the_end.enter_context(_mount(ceph, point))
        yield points


def _make_file_system(ceph: Ceph) -> None:
    for pool in ("metadata", "data"):
        _ceph(ceph, "osd", "pool", "create", f"cephfs.{pool}", "8")
    _ceph(ceph, "fs", "new", "cephfs", "cephfs.metadata", "cephfs.data")


@contextmanager
def _metadata_server(ceph: Ceph, folder: Path) -> Iterator[None]:
    data = folder / "mds"
    data.mkdir()
    argv: list[str | Path] = [tools.path("ceph-mds"), "-f", "-c", ceph.config, "-i", "a", f"--mds-data={data}"]
    child = Child(argv, log=folder / "mds.out")

    def is_active() -> bool:
        ranks = json.loads(_ceph(ceph, "mds", "stat", "--format=json"))["fsmap"]["filesystems"][0]["mdsmap"]["info"]
        return any(rank["state"] == "up:active" for rank in ranks.values())

    try:
        child.wait_for(is_active, "ceph-mds to be active", timeout=60)
        yield
    finally:
        child.kill()  # at once: nothing of it is needed again
        child.stop()


@contextmanager
def _mount(ceph: Ceph, point: Path) -> Iterator[None]:
    point.mkdir()
    child = Child([tools.path("ceph-fuse"), "-f", "-c", ceph.config, point], log=point.with_suffix(".out"))
    try:
        child.wait_for(point.is_mount, f"{point} to be mounted", timeout=60)
        yield
        run("umount", point)
        wait_until(lambda: child.status is not None, "ceph-fuse to end")
    finally:
        if point.is_mount():
            run("umount", "--lazy", point)
        child.stop()


def _ceph(ceph: Ceph, *words: str) -> str:
    return run(tools.path("ceph"), "-c", ceph.config, "--connect-timeout", "30", *words).out
