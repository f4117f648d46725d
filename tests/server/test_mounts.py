"""What a start says of a data folder that other machines may have mounted too."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import tools

from stackyard.server import mounts
from stackyard.server.mounts import Mount
from stackyard.storage.filesystem.probe import probe

ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard"
HOME = "40 27 0:40 / /home rw,relatime shared:7 master:1 - nfs4 10.0.0.1:/home rw,vers=4.2,hard,addr=10.0.0.1"
DATA = "42 27 0:39 / /srv/data\\040of\\134all rw - nfs4 10.0.0.1:/a rw,vers=4.2,soft,nocto,lookupcache=pos"
CEPH = "43 27 0:41 / /mnt/ceph rw,nosuid,nodev - fuse.ceph-fuse ceph-fuse rw,user_id=0,allow_other"
OVER = "44 43 0:42 / /mnt/ceph rw - tmpfs none rw"
LINES = [ROOT, HOME, DATA, CEPH]


@pytest.mark.parametrize(
    ("path", "point", "shared"),
    [
        ("/", "/", False),
        ("/homes", "/", False),
        ("/home", "/home", True),
        ("/home/a/b", "/home", True),
        ("/srv/data of\\all/registry", "/srv/data of\\all", True),
        ("/srv/data", "/", False),
        ("/mnt/ceph/x", "/mnt/ceph", True),
    ],
)
def test_a_path_lies_on_the_innermost_mount_above_it(path: str, point: str, shared: bool) -> None:
    found = mounts.find(path, LINES)

    assert found
    assert (found.point, found.is_shared) == (point, shared)


def test_of_mounts_at_one_point_the_last_counts() -> None:
    found = mounts.find("/mnt/ceph/x", [*LINES, OVER])

    assert found
    assert (found.kind, found.is_shared) == ("tmpfs", False)


def test_a_line_is_read_with_the_options_of_mount_and_file_system() -> None:
    assert mounts.parse(CEPH) == Mount(
        "/mnt/ceph", "fuse.ceph-fuse", "ceph-fuse", frozenset({"rw", "nosuid", "nodev", "user_id=0", "allow_other"})
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("hard,lookupcache=pos", []),
        ("hard,lookupcache=none", []),
        ("hard", ["lookupcache=positive"]),
        ("soft,lookupcache=pos", ["hard instead of soft"]),
        ("softerr,nocto", ["lookupcache=positive", "hard instead of soft", "without nocto"]),
    ],
)
def test_options_of_nfs_that_harm_are_told(options: str, said: list[str]) -> None:
    warnings = mounts.warnings(Mount("/srv", "nfs4", "a:/", frozenset(options.split(","))))

    assert len(warnings) == len(said)
    assert all(part in text for part, text in zip(said, warnings, strict=True))


def test_other_file_systems_have_no_options_to_warn_of() -> None:
    assert mounts.warnings(Mount("/srv", "ceph", "a:/", frozenset({"rw"}))) == []


@pytest.mark.parametrize("where", ["disk", "/dev/shm"])
def test_the_trial_passes_on_a_local_file_system_and_leaves_nothing(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "new" if where == "disk" else Path(where, tmp_path.parent.name + tmp_path.name)

    probe(folder)

    assert list(folder.iterdir()) == []
    folder.rmdir()


@pytest.mark.parametrize(
    ("inject", "said"),
    [
        ("fsync:error=EIO:when=1", "writing and syncing a file fails: Input/output error"),
        ("fsync:error=EIO:when=5", "syncing a folder fails: Input/output error"),
        ("linkat:error=EIO:when=1", "giving a file another name, by link(2) or RENAME_NOREPLACE, fails"),
        ("linkat:retval=0:when=2", "link(2) does not refuse a name that is taken"),
        ("rename:error=EACCES", "rename(2) fails: Permission denied"),
        ("rename:retval=0", "rename(2) does not replace a file by another"),
        ("write:retval=9:when=2", "what was written and closed is not what is read"),
        ("fsync:error=ENOSPC:when=1", "OutOfSpace"),
    ],
)
def test_the_trial_says_which_promise_is_broken(tmp_path: Path, inject: str, said: str) -> None:
    program = (
        "import sys, pathlib; from stackyard.storage.filesystem.probe import probe; probe(pathlib.Path(sys.argv[1]))"
    )
    call = inject.partition(":")[0]
    strace = [tools.path("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]

    ended = subprocess.run(
        [*strace, sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )

    if "ptrace" in ended.stderr:
        pytest.skip(f"strace may not trace here: {ended.stderr.strip()}")
    assert ended.returncode == 1
    assert said in ended.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
