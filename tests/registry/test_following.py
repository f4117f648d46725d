"""The follower: whatever the rows say, Distribution's files say it a moment later."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from tests.metadata import making
from tests.support import trees
from tests.support.trees import ROOT, Tree

from stackyard.metadata import blobs, collection, follow, manifests, tags
from stackyard.metadata import imports as rows
from stackyard.metadata.database import Database
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.registry import following
from stackyard.registry.chunks import Chunk
from stackyard.registry.following import Following, forget
from stackyard.registry.leases import Lease, Leases
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings

NOTHING = timedelta()
WEEK = timedelta(days=7)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "volume")


@pytest.fixture
async def registry(tree: Tree, database: Database) -> AsyncIterator[Registry]:
    async with trees.opened(tree, database, Settings(promise=NOTHING), written=False) as registry:
        yield registry


async def push(registry: Registry, repository: str, content: bytes) -> Digest:
    async def body() -> AsyncIterator[bytes]:
        yield content

    digest = Digest.of(content)
    await registry.uploads.push(repository, digest, Chunk(body(), length=len(content)), actor="user:alice")
    return digest


async def catch_up(registry: Registry, *, wholly: bool = False) -> None:
    """Follow until nothing is left to do."""
    following = registry.following
    assert following

    async def work(lease: Lease) -> None:
        if wholly:
            await following.write_all(lease)
        while await following.catch_up(lease):
            pass

    await Leases(registry.imports.database).run("follow", work)


def links(tree: Tree) -> dict[str, str]:
    """Every link by its path below `repositories`."""
    base = tree.root / ROOT / "repositories"
    return {str(path.relative_to(base)): path.read_text() for path in base.rglob("*") if path.is_file()}


def of_tag(repository: str, tag: str, *digests: Digest) -> dict[str, str]:
    """The links of a tag that points to the last of these."""
    current: dict[str, str] = {layout.tag(repository, tag): digests[-1]}
    return current | {layout.tag_entry(repository, tag, one): one for one in digests}


def below(expected: dict[str, str]) -> dict[str, str]:
    return {path.removeprefix(layout.REPOSITORIES + "/"): str(digest) for path, digest in expected.items()}


async def collect(database: Database, digest: Digest, *, repository: str | None = None) -> None:
    """Take the blob's link away, if `repository` says whose, then its bytes' row."""
    if repository:
        repository_id = await database.read(lambda c: c.execute(text("SELECT id FROM repository")).scalar_one())
        await database.write(collection.drop_link, repository_id, digest)
    await database.write(collection.mark_blobs, digest, readers=NOTHING)


async def forget_bytes(registry: Registry, database: Database, digest: Digest) -> None:
    """As the collector: bytes first, then the row."""
    looked = await database.write(collection.mark_blobs, digest, readers=NOTHING)
    for doomed in looked.doomed:
        await registry.blobs.store.delete(doomed.location)
        await database.write(collection.forget_blobs, [doomed])


async def test_what_was_pushed_is_linked(registry: Registry, tree: Tree, database: Database) -> None:
    blob = await push(registry, "team/app", b"layer")
    first = await making.put_manifest(database, "team/app", making.pushed(b"one", [making.layer(blob)]), "v1")
    second = await making.put_manifest(database, "team/app", making.pushed(b"two", [making.layer(blob)]), "v1", "v2")

    await catch_up(registry)

    assert links(tree) == below(
        {
            layout.layer("team/app", blob): blob,
            layout.revision("team/app", first): first,
            layout.revision("team/app", second): second,
        }
        | of_tag("team/app", "v1", second)
        | of_tag("team/app", "v2", second)
    )
    assert tree.blob_path(first).read_bytes() == b"one"
    assert tree.blob_path(second).read_bytes() == b"two"
    assert await database.read(follow.waiting, limit=9) == []


async def test_the_bytes_of_many_manifests_are_written_together(
    registry: Registry, tree: Tree, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several goes, past a file that no row knows of."""
    monkeypatch.setattr(following, "_PAYLOADS", 300)
    payloads = [f"manifest {number}".encode() * 2 for number in range(40)]
    made = [await making.put_manifest(database, "a", making.pushed(one), f"v{n}") for n, one in enumerate(payloads)]
    strange = tree.blob_path(made[3])
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"strange")

    await catch_up(registry)

    expected: dict[str, str] = {layout.revision("a", digest): digest for digest in made}
    for number, digest in enumerate(made):
        expected |= of_tag("a", f"v{number}", digest)
    assert links(tree) == below(expected)
    for digest, payload in zip(made, payloads, strict=True):
        place = tree.blob_path(digest)
        if place == strange:
            assert place.read_bytes() == b"strange"
            place = place.with_name("data.1")
        assert place.read_bytes() == payload


async def test_what_was_deleted_is_not_linked(registry: Registry, tree: Tree, database: Database) -> None:
    blob = await push(registry, "a", b"layer")
    kept = await making.put_manifest(database, "a", making.pushed(b"kept"), "v1", "v2")
    gone = await making.put_manifest(database, "a", making.pushed(b"gone"), "v3", "v4")
    await catch_up(registry)

    await database.write(tags.delete, "a", "v2", actor="user:alice", undo=WEEK)
    await database.write(manifests.delete, "a", gone, actor="user:alice", undo=WEEK)
    await database.write(blobs.unlink, "a", blob, actor="user:alice", undo=WEEK)
    await catch_up(registry)

    assert links(tree) == below({layout.revision("a", kept): kept} | of_tag("a", "v1", kept))


async def test_the_bytes_of_a_manifest_go_with_its_row(registry: Registry, tree: Tree, database: Database) -> None:
    digest = await making.put_manifest(database, "a", making.pushed(b"manifest"))
    await catch_up(registry)
    await forget_bytes(registry, database, digest)
    assert tree.blob_path(digest).exists()  # the manifest needs it

    await database.write(manifests.delete, "a", digest, actor="user:alice", undo=NOTHING)
    await database.write(lambda c: c.execute(text("UPDATE manifest SET promised_until = 0, restorable_until = 0")))
    repository_id = await database.read(lambda c: c.execute(text("SELECT id FROM repository")).scalar_one())
    assert (await database.write(collection.drop_manifest, repository_id, digest)).gone
    await database.write(collection.mark_blobs, digest, readers=NOTHING)
    await forget_bytes(registry, database, digest)
    await catch_up(registry)

    assert not tree.blob_path(digest).exists()
    assert links(tree) == {}


async def test_a_later_copy_is_found_at_the_first_location(registry: Registry, tree: Tree, database: Database) -> None:
    digest = await push(registry, "a", b"layer")
    await collect(database, digest, repository="a")
    await push(registry, "a", b"layer")  # the bytes of the first copy are still there
    await catch_up(registry)
    assert tree.blob_path(digest).stat().st_nlink == 1

    await forget_bytes(registry, database, digest)
    await catch_up(registry)

    second = tree.blob_path(digest).with_name("data.1")
    assert tree.blob_path(digest).samefile(second)
    os.utime(second, (0, 0))
    assert (await registry.comparison.run(repair=True)).is_well
    await collect(database, digest, repository="a")
    await forget_bytes(registry, database, digest)
    await catch_up(registry)
    assert not second.parent.exists()


async def test_a_collector_that_slept_takes_a_name_and_no_bytes(
    registry: Registry, tree: Tree, database: Database
) -> None:
    digest = await push(registry, "a", b"layer")
    await collect(database, digest, repository="a")
    (doomed,) = (await database.write(collection.mark_blobs, digest, readers=NOTHING)).doomed
    await forget_bytes(registry, database, digest)  # another one does its work
    await push(registry, "a", b"layer")
    await catch_up(registry)

    await registry.blobs.store.delete(doomed.location)  # and now it wakes up

    blob = await registry.blobs.find("a", digest)
    assert (tree.root / blob.location).read_bytes() == b"layer"
    assert not tree.blob_path(digest).exists()
    await catch_up(registry, wholly=True)
    assert tree.blob_path(digest).read_bytes() == b"layer"


async def test_a_crash_at_any_point_is_made_good(registry: Registry, tree: Tree, database: Database) -> None:
    blob = await push(registry, "a", b"layer")
    digest = await making.put_manifest(database, "a", making.pushed(b"manifest", [making.layer(blob)]), "v1")
    entries = await database.read(follow.waiting, limit=9)
    await catch_up(registry)
    expected = links(tree)

    for _ in range(2):  # all of it again, and from a view of which half is there
        for _, repository_id, kind, name in entries:
            await database.write(follow.add, repository_id, kind, name)
        await catch_up(registry)
        assert links(tree) == expected
        (tree.root / layout.revision("a", digest)).unlink()
    assert tree.blob_path(digest).read_bytes() == b"manifest"
    assert not tree.blob_path(digest).with_name("data.1").exists()


async def test_everything_is_looked_at_when_nobody_followed(registry: Registry, tree: Tree, database: Database) -> None:
    blob = await push(registry, "a", b"layer")
    old = await making.put_manifest(database, "a", making.pushed(b"old"), "old", "moved")
    await catch_up(registry)
    expected = links(tree)
    new = await making.put_manifest(database, "a", making.pushed(b"new", [making.layer(blob)]), "moved", "new")
    await database.write(tags.delete, "a", "old", actor="user:alice", undo=WEEK)

    async def nobody(lease: Lease) -> None:
        await forget(database, lease)

    await Leases(database).run("follow", nobody)
    assert links(tree) == expected
    assert not await database.read(rows.is_view_complete)
    await catch_up(registry, wholly=True)

    assert await database.read(rows.is_view_complete)
    assert links(tree) == below(
        {layout.layer("a", blob): blob, layout.revision("a", old): old, layout.revision("a", new): new}
        | of_tag("a", "moved", old, new)
        | of_tag("a", "new", new)
    )


async def test_a_repository_that_is_gone_is_not_shown(registry: Registry, tree: Tree, database: Database) -> None:
    for name in ("a", "a/b"):
        await making.put_manifest(database, name, making.pushed(b"manifest"), "v1")
    await catch_up(registry)

    def delete(c: Connection) -> None:
        repository_id = c.execute(text("SELECT id FROM repository WHERE name = 'a'")).scalar_one()
        c.execute(text("UPDATE repository SET deleted_at = 1 WHERE name = 'a'"))
        follow.add(c, repository_id, "repository", "a")

    await database.write(delete)
    await catch_up(registry)

    assert {path.partition("/_")[0] for path in links(tree)} == {"a/b"}


async def test_nothing_is_written_without_the_lease(registry: Registry, tree: Tree, database: Database) -> None:
    await push(registry, "a", b"layer")
    following = registry.following
    assert isinstance(following, Following)

    async def work(lease: Lease) -> None:
        lease.deadline = 0
        with pytest.raises(Exception, match="follow"):
            await following.catch_up(lease)

    await Leases(database).run("follow", work)

    assert links(tree) == {}


async def test_bytes_of_a_manifest_that_were_lost_are_written_again(registry: Registry, tree: Tree) -> None:
    digest = await registry.imports.database.write(making.put, "a", making.pushed(b"manifest"), "v1")
    await catch_up(registry)
    path = tree.blob_path(digest)
    path.write_bytes(b"damaged!")

    await registry.scrub.run()
    await catch_up(registry)

    assert path.with_name("data.1").read_bytes() == b"manifest"
    assert registry.following
    assert await registry.following.unservable() == []


async def test_what_nobody_is_shown_is_not_named_as_what_cannot_be_served(registry: Registry, tree: Tree) -> None:
    for repository, content in (("a", b"shown"), ("b", b"deleted")):
        await push(registry, repository, content)
        tree.blob_path(Digest.of(content)).write_bytes(b"damaged")
    await registry.imports.database.write(blobs.unlink, "b", Digest.of(b"deleted"), actor="user:alice", undo=WEEK)

    await registry.scrub.run()

    assert registry.following
    assert await registry.following.unservable() == [(Digest.of(b"shown"), "its bytes are damaged: push it again")]
