"""What is acknowledged survives, and what fails or dies midway leaves nothing half done.

System calls are watched, failed and used as places to die with strace, in a process of its own.
"""

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.storage.contract import get, publish, put
from tests.support import tools

from stackyard.storage.driver import BlobStore, LocationTaken
from stackyard.storage.filesystem import FilesystemStore

PUSHER = Path(__file__).with_name("pusher.py")
UPLOAD, BLOB = "uploads/1/0", "blobs/ab/abcd/data"
TEXT = "acknowledged " * 5000
PUT = ("put", BLOB, TEXT)
CALLS = "mkdir,openat,pwrite64,fsync,linkat,unlink,rmdir,write"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[BlobStore]:
    store = FilesystemStore(root)
    yield store
    await store.close()


def trace(
    root: Path, *strace: str, pusher: Sequence[str], say: str = ""
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a pusher under strace: how it ended, and the log of its calls."""
    log = root.parent / "calls"
    ended = subprocess.run(
        [tools.path("strace"), "-f", "-y", "-qq", "-o", log, *strace, sys.executable, PUSHER, root, *pusher],
        input=say,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in ended.stderr:
        pytest.skip(f"strace may not trace here: {ended.stderr.strip()}")
    return ended, log.read_text(errors="replace")


def push(
    root: Path, *strace: str, pusher: Sequence[str] = ("publish", UPLOAD, BLOB, TEXT)
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Publish TEXT in a process under strace; how it ended, and the watched calls below the root or to stdout."""
    ended, log = trace(root, *strace, pusher=pusher)
    calls = [line.partition(" ")[2].strip() for line in log.splitlines()]
    return ended, [call.replace(str(root.parent), "") for call in calls if str(root) in call or "write(1<" in call]


def below(root: Path) -> list[str]:
    """Options by which strace watches only calls on the blob's folders and file."""
    paths = [root / BLOB, *(root / BLOB).parents]
    return [option for path in paths[: paths.index(root)] for option in ("-P", str(path))]


def successes(calls: list[str]) -> list[str]:
    """`call path` of each call that succeeded, for calls that take a path or a descriptor."""
    found = []
    for call in calls:
        match = re.match(r'(\w+)\((?:AT_FDCWD<[^>]*>, )?(?:\d+<)?"?([^",>]*)', call)
        if match and not re.search(r"= -1 E", call):
            found.append(f"{match[1]} {match[2]}")
    return found


# Order


def test_bytes_then_link_then_every_folder_are_synced_before_publish_returns(root: Path) -> None:
    _, calls = push(root, "-e", f"trace={CALLS}")

    happened = [call for call in successes(calls) if not call.startswith("openat")]
    assert happened == [
        "mkdir /root",
        "mkdir /root/uploads",
        "mkdir /root/uploads/1",
        "pwrite64 /root/uploads/1/0",
        "fsync /root/uploads/1/0",
        "mkdir /root/blobs",
        "mkdir /root/blobs/ab",
        "mkdir /root/blobs/ab/abcd",
        "linkat /root/uploads/1/0",
        "fsync /root/blobs/ab/abcd",
        "fsync /root/blobs/ab",
        "fsync /root/blobs",
        "fsync /root",
        "unlink /root/uploads/1/0",
        "rmdir /root/uploads/1",
        happened[-1],
    ]
    assert "published" in calls[-1]


def test_folders_that_a_neighbour_made_are_synced_as_well(root: Path) -> None:
    """The neighbour may have died, or not have come to its own sync yet."""
    (root / BLOB).parent.mkdir(parents=True)

    _, calls = push(root, "-e", f"trace={CALLS}")

    happened = successes(calls)
    after = happened[happened.index("linkat /root/uploads/1/0") :]
    assert [call for call in after if call.startswith("fsync")] == [
        "fsync /root/blobs/ab/abcd",
        "fsync /root/blobs/ab",
        "fsync /root/blobs",
        "fsync /root",
    ]


def test_a_folder_is_synced_again_only_where_its_names_are_new(root: Path) -> None:
    """Each sync, even of a clean folder, flushes the disk's own cache."""
    _, log = trace(root, "-e", "trace=fsync,unlink", pusher=("race", "me"), say="a/1\na/2\nb/3\n")

    _, second, third, _ = log.split("unlink(")

    assert re.findall(r"fsync\(\d+<.*?/root/(.*?)>", second) == ["uploads/me/a/2", "blobs/a/2", "blobs/a"]
    assert re.findall(r"fsync\(\d+<.*?/root/(.*?)>", third) == ["uploads/me/b/3", "blobs/b/3", "blobs/b", "blobs"]


def test_a_blob_that_is_put_and_every_folder_are_synced_before_put_returns(root: Path) -> None:
    _, calls = push(root, "-e", f"trace={CALLS}", pusher=PUT)

    happened = [call for call in successes(calls) if "/root/" in call or call.endswith("/root")]
    assert happened == [
        "mkdir /root",
        "mkdir /root/blobs",
        "mkdir /root/blobs/ab",
        "mkdir /root/blobs/ab/abcd",
        "openat /root/blobs/ab/abcd/data",
        "write /root/blobs/ab/abcd/data",
        "fsync /root/blobs/ab/abcd/data",
        "openat /root/blobs/ab/abcd",
        "fsync /root/blobs/ab/abcd",
        "openat /root/blobs/ab",
        "fsync /root/blobs/ab",
        "openat /root/blobs",
        "fsync /root/blobs",
        "openat /root",
        "fsync /root",
    ]
    assert "put" in calls[-1]


def test_many_that_are_put_together_are_synced_at_once_after_the_last_byte(root: Path) -> None:
    _, calls = push(root, "-e", "trace=write,fsync,syncfs", pusher=("together", "20", TEXT))

    happened = [call for call in successes(calls) if "/root" in call]
    assert happened == [*(f"write /root/blobs/{number}/data" for number in range(20)), "syncfs /root/blobs/19/data"]
    assert "put" in calls[-1]


@pytest.mark.parametrize("inject", [(), ("-e", "inject=syncfs:error=ENOSYS")], ids=["few", "no-syncfs"])
def test_each_is_synced_with_its_folders_where_that_cannot_be_had(root: Path, inject: Sequence[str]) -> None:
    count = "20" if inject else "3"

    _, calls = push(root, "-e", "trace=write,fsync,syncfs", *inject, pusher=("together", count, TEXT))

    happened = [call for call in successes(calls) if call.startswith("fsync")]
    assert happened[:4] == ["fsync /root/blobs/0/data", "fsync /root/blobs/0", "fsync /root/blobs", "fsync /root"]
    for number in range(1, int(count)):
        assert f"fsync /root/blobs/{number}/data" in happened
        assert f"fsync /root/blobs/{number}" in happened
    assert "put" in calls[-1]


def test_many_small_files_are_synced_before_they_get_their_names_and_after(root: Path) -> None:
    _, calls = push(root, "-e", "trace=write,rename,fsync,syncfs", pusher=("links", "20"))

    happened = [call.partition(" ")[0] for call in successes(calls) if "/root" in call]
    assert happened == ["write"] * 20 + ["syncfs"] + ["rename"] * 20 + ["syncfs"]
    assert "written" in calls[-1]


# Failures of the disk


@pytest.mark.parametrize("verb", ["together 3 text", "together 20 text", "links 3", "links 20"])
@pytest.mark.parametrize("inject", ["write:error=ENOSPC:when=3", "%s:error=EIO:when=1"])
async def test_of_many_that_fail_nothing_is_left(root: Path, verb: str, inject: str) -> None:
    inject = inject.replace("%s", "syncfs" if "20" in verb else "fsync")

    ended, _ = push(root, "-e", f"inject={inject}", pusher=verb.split())

    assert ended.stdout.endswith("; kept 0\n")


@pytest.mark.parametrize("inject", ["write:error=ENOSPC:when=1", *(f"fsync:error=EIO:when={n}" for n in range(1, 6))])
async def test_a_put_that_fails_leaves_nothing(root: Path, store: BlobStore, inject: str) -> None:
    ended, _ = push(root, "-P", str(root), *below(root), "-e", f"inject={inject}", pusher=PUT)

    assert ended.stdout.endswith("; kept 0\n")
    assert not (root / BLOB).parent.exists()
    await store.put(BLOB, TEXT.encode())
    assert await get(store, BLOB) == TEXT.encode()


async def test_a_disk_that_loses_bytes_empties_the_upload_and_says_so(root: Path, store: BlobStore) -> None:
    """The kernel reports a lost page once: a second sync of what is left would lie."""
    ended, _ = push(root, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1")

    assert ended.stdout == f"StorageError: {UPLOAD}: Input/output error; kept 0\n"
    assert await store.size(UPLOAD) == 0
    assert await store.size(BLOB) is None


async def test_a_server_that_has_no_space_left_when_syncing_says_so(root: Path, store: BlobStore) -> None:
    """NFS takes bytes and tells only then."""
    ended, _ = push(root, "-e", "trace=fsync", "-e", "inject=fsync:error=EDQUOT:when=1")

    assert ended.stdout == f"OutOfSpace: {UPLOAD}: Disk quota exceeded; kept 0\n"
    assert await store.size(UPLOAD) == 0


async def test_a_close_that_fails_is_a_failed_write(root: Path, store: BlobStore) -> None:
    ended, _ = push(root, "-P", str(root / UPLOAD), "-e", "trace=close", "-e", "inject=close:error=ENOSPC:when=1")

    assert ended.stdout == f"OutOfSpace: {UPLOAD}: No space left on device; kept 0\n"
    assert await store.size(UPLOAD) == 0


@pytest.mark.parametrize("sync", [2, 3, 4, 5])
async def test_a_folder_that_cannot_be_synced_takes_the_name_back(root: Path, store: BlobStore, sync: int) -> None:
    ended, _ = push(root, "-e", "trace=fsync", "-e", f"inject=fsync:error=EIO:when={sync}")

    assert ended.stdout == f"StorageError: {BLOB}: Input/output error; kept {len(TEXT)}\n"
    assert await store.size(BLOB) is None
    await publish(store, UPLOAD, BLOB)
    assert await get(store, BLOB) == TEXT.encode()


@pytest.mark.parametrize(("call", "time"), [("mkdir", 2), ("mkdir", 4), ("linkat", 1)])
async def test_a_publish_without_space_leaves_the_upload_as_it_was(
    root: Path, store: BlobStore, call: str, time: int
) -> None:
    await put(store, "uploads/1/neighbour")

    ended, _ = push(root, "-e", f"trace={call}", "-e", f"inject={call}:error=ENOSPC:when={time}")

    assert ended.stdout == f"OutOfSpace: {BLOB}: No space left on device; kept {len(TEXT)}\n"
    assert not (root / BLOB).parent.exists()
    await publish(store, UPLOAD, BLOB)
    assert await get(store, BLOB) == TEXT.encode()


async def test_a_file_system_that_cannot_sync_folders_is_no_failure(root: Path, store: BlobStore) -> None:
    ended, _ = push(root, "-e", "trace=fsync", "-e", "inject=fsync:error=EINVAL:when=2+")

    assert ended.stdout == "published\n"
    assert await get(store, BLOB) == TEXT.encode()


async def test_without_hard_links_the_file_is_renamed_and_never_over_another(root: Path, store: BlobStore) -> None:
    fails = ("-e", "trace=linkat", "-e", "inject=linkat:error=EPERM")
    first, _ = push(root, *fails)
    second, _ = push(root, *fails)

    assert first.stdout == "published\n"
    assert second.stdout == f"LocationTaken: {BLOB}: File exists; kept {len(TEXT)}\n"
    assert await get(store, BLOB) == TEXT.encode()
    await store.delete(UPLOAD)
    assert not (root / UPLOAD).parent.exists()


async def test_without_hard_links_a_name_that_cannot_be_synced_is_taken_back(root: Path, store: BlobStore) -> None:
    ended, _ = push(
        root,
        *("-e", "trace=linkat,fsync", "-e", "inject=linkat:error=EPERM", "-e", "inject=fsync:error=EIO:when=3"),
    )

    assert ended.stdout == f"StorageError: {BLOB}: Input/output error; kept {len(TEXT)}\n"
    assert await store.size(BLOB) is None
    assert await get(store, UPLOAD) == TEXT.encode()


async def test_writes_that_are_interrupted_or_cut_short_go_on(root: Path, store: BlobStore) -> None:
    ended, _ = push(root, "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=EINTR:when=1")

    assert ended.stdout == "published\n"
    assert await get(store, BLOB) == TEXT.encode()


# Death


@pytest.mark.parametrize(
    "call", ["mkdir:when=4", "openat:when=1", "write:when=1", *(f"fsync:when={n}" for n in range(1, 6))]
)
async def test_killed_within_a_put_the_location_is_lost_and_no_other(root: Path, store: BlobStore, call: str) -> None:
    """What lies there is nobody's: the next copy goes elsewhere."""
    name, _, when = call.partition(":")
    ended, _ = push(root, "-P", str(root), *below(root), "-e", f"inject={name}:signal=KILL:{when}", pusher=PUT)

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == ""
    await store.put(f"{BLOB}.1", TEXT.encode())
    assert await get(store, f"{BLOB}.1") == TEXT.encode()


@pytest.mark.parametrize(
    ("call", "time"),
    [
        *[("mkdir", 3), ("pwrite64", 1), ("fsync", 1)],
        *[("mkdir", 8), ("linkat", 1), ("fsync", 2), ("fsync", 4)],
        *[("unlink", 1), ("rmdir", 1)],
    ],
)
async def test_killed_at_any_call_the_target_is_absent_or_whole(
    root: Path, store: BlobStore, call: str, time: int
) -> None:
    ended, _ = push(root, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={time}")

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == ""
    assert await store.size(BLOB) in (None, len(TEXT))
    # Whoever comes next, the same upload or another, ends with whole bytes at the target.
    if not await store.size(UPLOAD):
        await put(store, UPLOAD, TEXT.encode())
    try:
        await publish(store, UPLOAD, BLOB)
    except LocationTaken:
        assert call in ("unlink", "rmdir")
    assert await get(store, BLOB) == TEXT.encode()


async def test_a_killed_writer_leaves_what_it_stored_and_nothing_at_any_target(root: Path, store: BlobStore) -> None:
    child = subprocess.Popen([sys.executable, PUSHER, root, "write", UPLOAD, str(20 << 20)], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"wrote\n"
    child.kill()
    child.wait(30)
    child.stdout.close()

    found = [one async for one in store.walk("uploads")]

    assert [one.location for one in found] == [UPLOAD]
    assert found[0].size > 16 << 20
    assert set(await get(store, UPLOAD)) == set(b"0123456789abcdef")
    assert not (root / "blobs").exists()
    async with store.writer(UPLOAD, 1 << 20) as writer:
        await writer.write(b"went on")
    assert await store.size(UPLOAD) == (1 << 20) + 7


async def test_killed_processes_leave_every_published_blob_whole(root: Path, store: BlobStore) -> None:
    published: list[str] = []
    for enough in (1, 3, 10, 30, 60):
        child = subprocess.Popen(
            [sys.executable, PUSHER, root, "loop", f"n{enough}"], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert child.stdout
        with child.stdout:
            published += [child.stdout.readline().strip() for _ in range(enough)]
            child.kill()
            published += [line.strip() for line in child.stdout if line.endswith("\n")]
        child.wait(30)

    present = [found.location async for found in store.walk("blobs")]

    assert set(published) <= set(present)
    for location in present:
        assert await get(store, location) == location.encode() * 3000


# Neighbours


async def test_of_processes_that_publish_one_target_exactly_one_wins(root: Path, store: BlobStore) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, PUSHER, root, "race", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for name in "abc"
    ]
    rounds = [str(number) for number in range(40)]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("".join(f"{one}\n" for one in rounds))
    outcomes = [racer.communicate(timeout=60)[0].split() for racer in racers]

    assert [racer.returncode for racer in racers] == [0, 0, 0]
    for number, results in enumerate(zip(*outcomes, strict=True)):
        assert sorted(results) == ["lost", "lost", "won"]
        winner = "abc"[results.index("won")]
        assert await get(store, f"blobs/{number}/data") == winner.encode() * 1000
