"""One folder that two machines have mounted: CephFS by ceph-fuse, and NFS inside a machine of its own.

STACKYARD_SHARED_MOUNTS names two mounts of one file system, with a colon between, to run this over instead.
"""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.crash.callers import HalfSent
from tests.scale.calling import NodeCaller, calling
from tests.storage.contract import (
    BLOB,
    CONTENT,
    MIB,
    OTHER_UPLOAD,
    UPLOAD,
    RenamingStoreContract,
    add_pieces,
    drain,
    get,
    locations,
    made_up,
    publish,
    put,
)
from tests.support import nodes as support
from tests.support import postgresql, pushing, tools
from tests.support.nodes import Node, shared
from tests.support.processes import wait_until

from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.storage.driver import LocationGone, LocationTaken, StorageError
from stackyard.storage.filesystem import FilesystemStore

GIVEN = os.environ.get("STACKYARD_SHARED_MOUNTS", "")

READ = """
import asyncio, pathlib, sys
from stackyard.storage.filesystem import FilesystemStore
async def read():
    store = FilesystemStore(pathlib.Path(sys.argv[1]))
    reader = await store.open("data")
    async for chunk in reader.chunks(0, reader.size):
        print(len(chunk), flush=True)
asyncio.run(read())
"""
FULL = bool(os.environ.get("STACKYARD_FULL"))
SLOW = {
    "test_walk_goes_on_while_what_it_meets_is_deleted",
    "test_walk_names_every_location_below_the_folder_once",
    "test_publishing_survives_deletions_that_empty_its_folder",
    "test_a_stream_of_many_mebibytes_is_kept_whole",
    "test_many_writers_do_not_mix",
}
"""Of the contract: hundreds of files, each several requests to a server, or many bytes to a disk in memory."""

pytestmark = pytest.mark.serial  # one cluster with one file system, and mounts of this process


@pytest.fixture(scope="module")
def mounts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """One folder as each of two machines sees it."""
    if GIVEN:
        yield [Path(each) for each in GIVEN.split(":")]
        return
    from tests.support import cephfs

    with cephfs.mounted(request.getfixturevalue("ceph"), tmp_path_factory.mktemp("cephfs")) as points:
        yield points


@pytest.fixture
def roots(mounts: list[Path]) -> list[Path]:
    """The same new root, by the one mount and by the other."""
    name = secrets.token_hex(8)
    (mounts[0] / name).mkdir()
    assert (mounts[1] / name).is_dir()
    return [mount / name for mount in mounts]


@pytest.fixture
async def stores(roots: list[Path]) -> AsyncIterator[list[FilesystemStore]]:
    """A store on each machine."""
    both = [FilesystemStore(root) for root in roots]
    yield both
    for store in both:
        await store.close()


@pytest.fixture
def store(stores: list[FilesystemStore]) -> FilesystemStore:
    return stores[0]


class TestSharedStore(RenamingStoreContract):
    """The contract, by one of the machines."""

    @pytest.fixture(autouse=True)
    def _quick(self, request: pytest.FixtureRequest) -> None:
        if request.node.originalname in SLOW and not FULL:
            pytest.skip("takes long on a shared file system; STACKYARD_FULL=1 runs it")


# Two machines


async def test_what_one_machine_publishes_another_that_had_looked_for_it_opens_at_once(
    stores: list[FilesystemStore],
) -> None:
    one, other = stores
    for number in range(20):
        blob, content = f"docker/blobs/{number % 3}/{number}/data", made_up(10_000, number)
        with pytest.raises(LocationGone):
            await other.open(blob)
        assert await other.size(blob) is None
        await put(one, UPLOAD, content)

        await publish(one, UPLOAD, blob)

        assert await get(other, blob) == content
        assert await other.size(blob) == len(content)


async def test_what_one_machine_puts_another_that_had_looked_for_it_opens_at_once(
    stores: list[FilesystemStore],
) -> None:
    one, other = stores
    for number in range(20):
        blob = f"docker/blobs/{number % 3}/{number}/data"
        with pytest.raises(LocationGone):
            await other.open(blob)

        await one.put(blob, CONTENT)

        assert await get(other, blob) == CONTENT


async def test_what_one_machine_deletes_is_gone_for_the_other_at_once(stores: list[FilesystemStore]) -> None:
    one, other = stores
    for number in range(20):
        blob = f"docker/blobs/{number}/data"
        await one.put(blob, CONTENT)
        assert await get(other, blob) == CONTENT

        await one.delete(blob)

        with pytest.raises(LocationGone):
            await other.open(blob)
        assert await other.size(blob) is None


async def test_a_machine_deletes_what_it_once_found_missing(stores: list[FilesystemStore]) -> None:
    one, other = stores
    assert await other.size(BLOB) is None
    await one.put(BLOB, CONTENT)

    await other.delete(BLOB)

    assert await one.size(BLOB) is None
    assert await locations(one, "docker") == []


async def test_of_two_machines_that_put_one_location_exactly_one_wins(stores: list[FilesystemStore]) -> None:
    for number in range(20):
        blob = f"docker/blobs/{number}/data"

        outcomes = await asyncio.gather(
            *(store.put(blob, str(index).encode()) for index, store in enumerate(stores)), return_exceptions=True
        )

        assert {type(outcome) for outcome in outcomes} == {LocationTaken, type(None)}
        won = str(outcomes.index(None)).encode()
        assert [await get(store, blob) for store in stores] == [won, won]


async def test_of_two_machines_that_publish_one_location_exactly_one_wins(stores: list[FilesystemStore]) -> None:
    for number in range(20 if FULL else 5):
        blob = f"docker/blobs/{number}/data"
        for store, upload in zip(stores, (UPLOAD, OTHER_UPLOAD), strict=True):
            await put(store, upload, upload.encode())

        outcomes = await asyncio.gather(
            *(publish(store, upload, blob) for store, upload in zip(stores, (UPLOAD, OTHER_UPLOAD), strict=True)),
            return_exceptions=True,
        )

        assert {type(outcome) for outcome in outcomes} == {LocationTaken, str}
        won = (UPLOAD, OTHER_UPLOAD)[outcomes.index(blob)].encode()
        assert [await get(store, blob) for store in stores] == [won, won]
        await stores[0].delete(UPLOAD, OTHER_UPLOAD)


@pytest.mark.parametrize("size", [1_000, 700_001])
async def test_an_upload_goes_on_at_the_other_machine_each_time(stores: list[FilesystemStore], size: int) -> None:
    parts = [made_up(size, seed) for seed in range(6)]

    for number, part in enumerate(parts):
        await add_pieces(stores[number % 2], UPLOAD, [part], offset=number * size)
        assert [await store.size(UPLOAD) for store in stores] == [(number + 1) * size] * 2
    await stores[0].publish(UPLOAD, BLOB, 6 * size)

    assert [await get(store, BLOB) for store in stores] == [b"".join(parts)] * 2


async def test_what_one_machine_cuts_off_the_other_does_not_read(stores: list[FilesystemStore]) -> None:
    one, other = stores
    await put(one, UPLOAD, made_up(MIB))
    assert await get(other, UPLOAD) == made_up(MIB)

    await add_pieces(one, UPLOAD, [b"!"], offset=5)

    assert await get(other, UPLOAD) == made_up(MIB)[:5] + b"!"


async def test_a_reader_of_what_the_other_machine_deletes_gets_the_bytes_or_an_error(
    stores: list[FilesystemStore],
) -> None:
    one, other = stores
    content = made_up(8 * MIB)
    await put(one, UPLOAD, content)
    await publish(one, UPLOAD, BLOB)
    reader = await other.open(BLOB)
    chunks = reader.chunks(0, reader.size)
    got = await anext(aiter(chunks))

    await one.delete(BLOB)
    try:
        async for chunk in chunks:
            got += chunk
    except StorageError:
        assert len(got) < len(content)
    else:
        assert len(got) == len(content)
    reader.close()

    assert content.startswith(got)


async def test_a_file_of_another_machine_is_never_handed_to_the_event_loop(store: FilesystemStore) -> None:
    await put(store, BLOB)
    reader = await store.open(BLOB)

    assert reader.fileno() is None
    assert await drain(reader, 0, reader.size) == CONTENT
    reader.close()


@pytest.mark.parametrize("error", ["ESTALE", "EIO"])
def test_a_stream_ends_with_an_error_where_the_server_has_the_file_no_more(tmp_path: Path, error: str) -> None:
    (tmp_path / "data").write_bytes(made_up(MIB * 3))
    strace = (tools.path("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64")
    inject = f"inject=pread64:error={error}:when=2+"

    ended = subprocess.run(
        [*strace, "-e", inject, "-P", tmp_path / "data", sys.executable, "-c", READ, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    if "ptrace" in ended.stderr:
        pytest.skip(f"strace may not trace here: {ended.stderr.strip()}")
    assert ended.stdout == f"{MIB}\n"
    assert "StorageError: data: " in ended.stderr.splitlines()[-1]


# Two nodes


@pytest.fixture(scope="module")
def nodes(mounts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """One on each machine, whose claims on uploads run out after two seconds of silence."""
    folder = tmp_path_factory.mktemp("nodes")
    root = secrets.token_hex(8)
    with ExitStack() as until_the_end:
        engine = until_the_end.enter_context(postgresql.serve())
        url = asyncio.run(engine.create())
        both = []
        for number, mount in enumerate(mounts, 1):
            place = folder / f"node{number}"
            place.mkdir()
            common = shared(url, {"filesystem": {"rootdirectory": str(mount / root)}})
            both.append(Node(place, common, program=support.QUICK_CLAIMS))
            until_the_end.callback(both[-1].close)
            both[-1].launch()
        for node in both:
            node.wait_ready()
        yield both


@pytest.fixture
def callers(nodes: list[Node]) -> Iterator[list[NodeCaller]]:
    with calling(nodes) as found:
        yield found


def test_what_is_pushed_to_one_node_is_pulled_from_the_other(nodes: list[Node]) -> None:
    one, other = (node.server for node in nodes)
    for number in range(10):
        layers = [made_up(size, number) for size in (1_000, 300_000)]
        for layer in layers:
            assert other.request("GET", f"/v2/a/b/blobs/{Digest.of(layer)}").status == 404
        pushing.image(one, "a/b", f"v{number}", *(pushing.blob(one, "a/b", layer) for layer in layers))

        assert [other.request("GET", f"/v2/a/b/blobs/{Digest.of(layer)}").body for layer in layers] == layers
        one, other = other, one

    assert pushing.served(one) == pushing.served(other)


def test_every_request_of_a_session_comes_to_the_other_node(callers: list[NodeCaller]) -> None:
    one, other = callers
    content = made_up(3_000_000, 77)
    session = one.start()

    for start in range(0, 2_700_000, 300_000):
        caller = callers[start // 300_000 % 2]
        part = content[start : start + 300_000]
        assert caller("PATCH", session, part, Content_Range=f"{start}-{start + len(part) - 1}") == 202
        assert [each.offset(session) for each in callers] == [start + len(part)] * 2
    assert other("PUT", f"{session}?digest={Digest.of(content)}", content[2_700_000:]) == 201

    assert [caller.blob(Digest.of(content)) for caller in callers] == [content] * 2
    assert (one.node.server.data / layout.blob(Digest.of(content), 0)).read_bytes() == content


def test_an_upload_goes_on_at_the_other_node_when_one_is_killed(nodes: list[Node]) -> None:
    content = made_up(8 * MIB, 78)
    with calling(nodes) as (victim, other):
        session = victim.start()
        assert victim("PATCH", session, content[:1_000_000]) == 202
        HalfSent(victim.node.server, victim, session, content[1_000_000:])
        victim.node.kill()
        try:
            assert other.offset(session) == 1_000_000
            wait_until(
                lambda: other("PATCH", session, content[1_000_000:2_000_000]) == 202, "the claim to run out", timeout=60
            )
            assert other("PUT", f"{session}?digest={Digest.of(content)}", content[2_000_000:]) == 201
            assert other.blob(Digest.of(content)) == content
        finally:
            victim.node.start()
    with calling(nodes) as (again, _):
        assert again.blob(Digest.of(content)) == content


# NFS


@pytest.mark.skipif(bool(GIVEN), reason="this is the inside of it")
@pytest.mark.timeout(900)
def test_all_of_this_holds_on_nfs() -> None:
    """The same tests, inside a machine that exports a folder and has it mounted twice."""
    from tests.support import nfs

    status, console = nfs.pytest_inside(
        "-q", "-p", "no:randomly", "--color=no", "--timeout=300", str(Path(__file__).relative_to(nfs.ROOT)), timeout=800
    )

    assert status == 0, console
