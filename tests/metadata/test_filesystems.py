"""Where SQLite's log is safe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import tools
from tests.support.processes import Child, run

from stackyard.metadata import filesystems
from stackyard.metadata.database import open_database
from stackyard.metadata.errors import UnsafeFileSystem
from stackyard.metadata.migrate import migrate


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Path]:
    """A real FUSE mount."""
    tools.need_root("only root mounts without asking")
    program = tools.path("fuse-overlayfs")
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse")
    lower, upper, work, mounted = (tmp_path / name for name in ("lower", "upper", "work", "mounted"))
    for folder in (lower, upper, work, mounted):
        folder.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    child = Child([program, "-f", "-o", options, mounted], log=tmp_path / "log")
    child.wait_for(mounted.is_mount, "the mount")
    yield mounted
    run("umount", mounted)
    child.stop()


def test_a_folder_of_this_machine_is_allowed(tmp_path: Path) -> None:
    filesystems.check_folder(tmp_path)


def test_memory_is_allowed() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm")
    filesystems.check_folder(Path("/dev/shm"))


async def test_a_database_on_fuse_is_refused_before_anything_is_written(fuse: Path) -> None:
    (fuse / "there.db").touch()

    with pytest.raises(UnsafeFileSystem, match=r"FUSE.*local disk, or PostgreSQL"):
        migrate(f"sqlite:///{fuse}/stackyard.db")
    with pytest.raises(UnsafeFileSystem):
        await open_database(f"sqlite:///{fuse}/there.db")

    assert [path.name for path in fuse.iterdir()] == ["there.db"]


# From linux/magic.h; NFS and CIFS cannot be mounted wherever tests run.
@pytest.mark.parametrize(
    ("magic", "name"),
    [(0x6969, "NFS"), (0xFF534D42, "CIFS"), (0xFE534D42, "SMB2"), (0x65735546, "FUSE"), (0x01021997, "9p")],
)
def test_file_systems_of_other_machines_are_known_by_their_number(magic: int, name: str) -> None:
    assert filesystems.unsafe_name(magic) == name


# ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs
@pytest.mark.parametrize("magic", [0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0x2FC12FC1, 0xF2F52010])
def test_file_systems_of_this_machine_are_allowed(magic: int) -> None:
    assert filesystems.unsafe_name(magic) is None
