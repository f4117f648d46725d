"""NFSv4.2 by Linux's own server and client, in a machine of its own: User-Mode Linux, whose root is ours, read-only.

The export lies on ext4. Two mounts of it share nothing of what they remember of names and bytes, as if they were on two
machines.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support import tools

ROOT = Path(__file__).parent.parent.parent
MOUNTS = {"/mnt/one": "lookupcache=positive", "/mnt/two": "lookupcache=all"}
"""The second remembers what it did not find, as every client does that is not told otherwise."""

_MODULES = "/usr/lib/uml/modules"
_ENDED = "the guest ended with "
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAST = "."  # the kernel adds words of its own
_MEMORY = 2 << 30
_POWER_OFF = 0x4321FEDC  # linux/reboot.h


def pytest_inside(*arguments: str, timeout: float) -> tuple[int | None, str]:
    """Run pytest in the guest, where STACKYARD_SHARED_MOUNTS names the two mounts.

    Skips, saying why, where there is no User-Mode Linux or no NFS server.

    Returns:
        Its exit status, None when the guest did not come so far, and all that the console showed.
    """
    tools.need_root("the guest's root is the host's, and it needs what only root may read")
    kernel = tools.path("linux.uml")
    for program in ("modprobe", "rpc.nfsd", "exportfs", "mount.nfs4", "mkfs.ext4"):
        tools.path(program)
    if shutil.disk_usage("/dev/shm").free < _MEMORY:
        pytest.skip(f"/dev/shm has no {_MEMORY >> 20} MiB free for the guest's memory and what it exports")
    with tempfile.TemporaryDirectory(prefix="ynfs-", dir="/dev/shm") as folder:
        disk = Path(folder, "disk")
        with disk.open("wb") as file:
            file.truncate(4 << 30)
        subprocess.run([tools.path("mkfs.ext4"), "-q", disk], check=True, timeout=60)
        command = [
            kernel,
            *("mem=1536M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"ubd0={disk}"),
            *("con=null", "con0=fd:0,fd:1", "quiet", f"init={sys.executable}", f"PYTHONPATH={ROOT}"),
            *("--", "-m", __name__, *arguments, _LAST),
        ]
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": folder},  # where it keeps what it takes for its memory
            timeout=timeout,
            check=False,
        )
    console = ended.stdout.decode(errors="replace")
    _, _, status = console.rpartition(_ENDED)
    return (int(status.split()[0]) if status.split()[:1] and status.split()[0].isdigit() else None), console


# Inside


def _be_the_guest(arguments: Sequence[str]) -> None:
    """As process 1: set everything up, run pytest, switch the machine off."""
    os.environ.update(PATH=_PATH, HOME="/tmp", PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(ROOT))
    status: object = "nothing: it could not be set up"
    try:
        _set_up()
        os.environ["STACKYARD_SHARED_MOUNTS"] = ":".join(MOUNTS)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
    except Exception:  # the machine is off before anybody else could tell
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    finally:
        os.write(1, f"\n{_ENDED}{status}\n".encode())
        ctypes.CDLL(None).reboot(_POWER_OFF)


def _set_up() -> None:
    for kind, point in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/mnt")):
        os.makedirs(point, exist_ok=True)
        _do("mount", "-t", kind, kind, point)
    os.mkdir("/mnt/project")
    _do("mount", "--bind", str(ROOT), "/mnt/project")
    for point in ("/run", "/tmp", "/dev/shm", "/var/lib/nfs"):
        os.makedirs(point, exist_ok=True)
        _do("mount", "-t", "tmpfs", "tmpfs", point)
    os.chmod("/tmp", 0o1777)
    if not ROOT.exists():  # it lay in one of these
        ROOT.mkdir(parents=True)
        _do("mount", "--bind", "/mnt/project", str(ROOT))
    _do("ip", "link", "set", "lo", "up")
    os.makedirs("/mnt/modules/lib")
    os.symlink(_MODULES, "/mnt/modules/lib/modules")
    for module in ("nfsd", "nfsv4"):
        _do("modprobe", "-d", "/mnt/modules", module)
    _serve()
    for point, option in MOUNTS.items():
        os.mkdir(point)
        _do("mount", "-t", "nfs4", "-o", f"vers=4.2,hard,nosharecache,{option}", "127.0.0.1:/", point)


def _serve() -> None:
    for folder in ("sm", "v4recovery", "rpc_pipefs", "nfsdcltrack"):
        os.mkdir(f"/var/lib/nfs/{folder}")
    for file in ("etab", "rmtab"):
        Path("/var/lib/nfs", file).touch()
    os.mkdir("/mnt/export")
    _do("mount", "-t", "ext4", "/dev/ubda", "/mnt/export")
    # To the server, mounts of one machine are one client, from whom it would never take a delegation back when the
    # other one writes. So it gives none.
    Path("/proc/sys/fs/leases-enable").write_text("0")
    _do("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    _do("mount", "-t", "rpc_pipefs", "sunrpc", "/var/lib/nfs/rpc_pipefs")
    _do("rpc.mountd", "-N", "2", "-N", "3")
    _do("rpc.nfsd", "-N", "3", "-U", "4")
    _do("exportfs", "-o", "rw,no_root_squash,no_subtree_check,insecure,fsid=0", "127.0.0.1:/mnt/export")
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")  # nobody has anything to reclaim


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    _be_the_guest(sys.argv[1 : sys.argv.index(_LAST)])
