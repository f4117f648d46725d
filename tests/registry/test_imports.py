"""The import of a volume of Distribution's: all that is whole, nothing that is not, and no byte of it changed."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from tests.metadata.checks import broken_promises
from tests.support import trees
from tests.support.trees import FOREIGN, IMAGE, Tree, of

from stackyard.metadata import blobs, quotas, takeover
from stackyard.metadata import imports as rows
from stackyard.metadata.database import Database
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import BlobUnknown, DigestInvalid, ManifestUnknown, NameUnknown, Unavailable
from stackyard.registry.chunks import Chunk
from stackyard.registry.collection import Held
from stackyard.registry.leases import Leases
from stackyard.registry.quotas import Quotas
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings

AT = datetime.fromtimestamp(1_600_000_000, UTC)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "volume")


@pytest.fixture
async def registry(tree: Tree, database: Database) -> AsyncIterator[Registry]:
    """Over the tree, to be imported."""
    async with trees.opened(tree, database, Settings(), written=True) as registry:
        await registry.imports.look()
        yield registry


async def problems(registry: Registry) -> list[tuple[str, str]]:
    """What was not taken over: the last parts of the path, and why."""
    return [(found.path.rpartition("repositories/")[2], found.reason) for found in await registry.imports.problems()]


async def all_of(database: Database, sql: str) -> list[Any]:
    def read(c: Connection) -> list[Any]:
        return [tuple(row) for row in c.execute(text(sql))]

    return await database.read(read)


async def send(registry: Registry, repository: str, content: bytes, *, digest: Digest | None = None) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield content

    chunk = Chunk(body(), length=len(content))
    await registry.uploads.push(repository, digest or Digest.of(content), chunk, actor="user:alice")


async def test_everything_is_served_as_it_was_and_nothing_on_the_volume_changes(
    registry: Registry, tree: Tree, database: Database
) -> None:
    layer = tree.layer("team/app", b"layer")
    arm, amd = (tree.image("team/app", layer, config=name) for name in (b'"arm"', b'"amd"'))
    tree.index("team/app", arm, amd, tag="v1")
    untagged = tree.image("team/app", layer, config=b'"untagged"')
    tree.image("team", tree.layer("team", b"other"), tag="latest")
    before = tree.everything()

    await registry.imports.run(None)

    assert not registry.imports.pending
    index = await registry.manifests.find("team/app", "v1")
    assert await registry.manifests.payload("team/app", index) == tree.blob_path(index.digest).read_bytes()
    for child in (arm, amd, untagged):
        found = await registry.manifests.find("team/app", Digest(child["digest"]))
        assert (found.media_type, found.size) == (IMAGE, child["size"])
    blob = await registry.blobs.find("team/app", Digest(layer["digest"]))
    assert (blob.size, blob.location) == (5, layout.blob(blob.digest, 0))
    with pytest.raises(BlobUnknown):
        await registry.blobs.find("team", Digest(layer["digest"]))
    assert await registry.repositories.page(after="", limit=None, may_see=None) == (["team", "team/app"], False)
    assert await registry.tags.page("team/app", after="", limit=9) == (["v1"], False)
    assert tree.everything() == before
    assert await problems(registry) == []
    assert await database.read(broken_promises) == []


async def test_times_are_those_of_the_links(registry: Registry, tree: Tree, database: Database) -> None:
    tree.image("a", tag="v1")

    await registry.imports.run(None)

    microseconds = int(AT.timestamp()) * 1_000_000
    for column in ("tag.updated_at", "manifest.created_at", "blob_link.created_at", "repository.created_at"):
        table, _, name = column.partition(".")
        assert await all_of(database, f"SELECT DISTINCT {name} FROM {table}") == [(microseconds,)], column
    assert await all_of(database, "SELECT DISTINCT created_by FROM manifest") == [("import",)]


async def test_a_repository_is_imported_when_it_is_first_asked_for(registry: Registry, tree: Tree) -> None:
    tree.image("a", tag="v1")
    tree.image("b", tag="v1")

    await registry.imports.ensure("a")

    assert (await registry.manifests.find("a", "v1")).media_type == IMAGE
    with pytest.raises(ManifestUnknown):
        await registry.manifests.find("b", "v1")
    assert registry.imports.pending


async def test_what_is_not_on_the_volume_is_asked_for_in_vain(registry: Registry, tree: Tree) -> None:
    tree.image("a/b", tag="v1")

    for name in ("", "a", "other", "a/b/c"):
        await registry.imports.ensure(name)

    assert (await registry.imports.progress()).repositories == 0


async def test_a_repository_shows_nothing_before_it_shows_everything(
    registry: Registry, tree: Tree, database: Database
) -> None:
    tree.image("a", tree.layer("a", b"layer"), tag="v1")
    await registry.imports._discover("a")
    assert await database.write(takeover.open_repository, "a")
    link = takeover.FoundBlob(Digest.of(b"layer"), 5, AT)

    assert await database.write(takeover.add_blobs, "a", [link]) == {link.digest}

    with pytest.raises(BlobUnknown):
        await registry.blobs.find("a", link.digest)
    with pytest.raises(NameUnknown):
        await registry.tags.page("a", after="", limit=9)
    await registry.imports.ensure("a")  # as after kill -9
    assert (await registry.blobs.find("a", link.digest)).size == 5
    assert await all_of(database, "SELECT count(*) FROM repository") == [(1,)]


async def test_two_that_import_one_repository_at_once_make_it_once(
    registry: Registry, tree: Tree, database: Database
) -> None:
    for number in range(30):
        tree.image("a", tree.layer("a", b"%d" % number), tag=f"v{number}", config=b"%d" % number)
    other = Registry.over(registry.blobs.store, database, Settings(), registry.imports.files)
    await other.imports.look()

    await asyncio.gather(*(each.imports.ensure("a") for each in (registry, other, registry)))

    assert await all_of(database, "SELECT count(*) FROM repository") == [(1,)]
    assert await all_of(database, "SELECT count(*) FROM manifest") == [(30,)]
    assert await all_of(database, "SELECT count(*) FROM tag") == [(30,)]


async def test_who_comes_late_changes_nothing(registry: Registry, tree: Tree, database: Database) -> None:
    tree.image("a", tag="v1")
    await registry.imports.ensure("a")
    digest = Digest((await registry.manifests.find("a", "v1")).digest)

    with pytest.raises(takeover.Settled):
        await database.write(takeover.add_tags, "a", [takeover.FoundTag("v2", digest, AT)], undo=timedelta())


async def test_the_catalogue_shows_what_is_still_to_be_read(registry: Registry, tree: Tree, database: Database) -> None:
    tree.image("b", tag="v1")
    tree.image("c", tag="v1")
    tree.layer("d", b"never had a manifest")
    await send(registry, "a", b"blob")
    await database.write(rows.found, [("b", True), ("c", True), ("d", False)])
    await registry.imports.ensure("c")

    assert await registry.repositories.page(after="", limit=None, may_see=None) == (["b", "c"], False)
    assert await registry.repositories.page(after="b", limit=1, may_see=None) == (["c"], False)


async def test_damaged_links_are_healed_where_their_folder_tells_what_they_were(registry: Registry, tree: Tree) -> None:
    layer = tree.layer("a", b"layer")
    image = tree.image("a", layer, tag="v1")
    tree.link("a", "_layers", layer["digest"], b"")
    tree.link("a", "_manifests/revisions", image["digest"], b"garbage")
    tree.tag("a", "newline", image["digest"] + "\n")
    (tree.repository("a") / "_manifests/tags/empty/current").mkdir(parents=True)
    (tree.repository("a") / "_manifests/tags/empty/current/link").write_bytes(b"")
    (tree.repository("a") / "_manifests/tags/gone").mkdir()
    (tree.repository("a") / f"_layers/sha256/{of(b'x')[7:]}").mkdir()

    await registry.imports.run(None)

    assert (await registry.manifests.find("a", "v1")).digest == image["digest"]
    assert (await registry.manifests.find("a", "newline")).digest == image["digest"]
    assert (await registry.blobs.find("a", Digest(layer["digest"]))).size == 5
    reasons = dict(await problems(registry))
    healed = "the link was damaged; its folder told what it stands for"
    assert reasons.pop(f"a/_layers/{layer['digest'].replace(':', '/')}/link") == healed
    assert reasons.pop(f"a/_manifests/revisions/{image['digest'].replace(':', '/')}/link") == healed
    assert {path.split("/")[-3]: reason for path, reason in reasons.items()} == {
        "empty": "skipped: the link is empty, so nobody knows what the tag pointed to",
        "gone": "skipped: the tag has no link to what it points to",
        "sha256": "skipped: there is no link in the folder",
    }


async def test_what_is_dangling_is_skipped_and_what_needs_it_is_incomplete(
    registry: Registry, tree: Tree, database: Database
) -> None:
    lost, kept = tree.layer("a", b"lost"), tree.layer("a", b"kept")
    tree.blob_path(lost["digest"]).unlink()
    image = tree.image("a", lost, kept, tag="v1")
    child = tree.image("a", kept, config=b'"child"')
    index = tree.index("a", image, child, tag="all")
    tree.blob_path(child["digest"]).unlink()
    tree.tag("a", "deleted", of(b"a manifest that was deleted"))

    await registry.imports.run(None)

    assert (await registry.manifests.find("a", "v1")).digest == image["digest"]
    assert (await registry.manifests.find("a", "all")).digest == index["digest"]
    with pytest.raises(ManifestUnknown):
        await registry.manifests.find("a", "deleted")
    with pytest.raises(BlobUnknown):
        await registry.blobs.find("a", Digest(lost["digest"]))
    missing = await all_of(database, "SELECT digest FROM manifest_reference WHERE missing ORDER BY digest")
    assert missing == sorted([(lost["digest"],), (child["digest"],)])
    reasons = [reason for _, reason in await problems(registry)]
    assert sorted(reasons) == sorted(
        [
            "skipped: the blob's bytes are not there",
            f"incomplete: it names {lost['digest']}, which is not here",
            "skipped: its bytes are not there",
            "incomplete: an index names it, and it is not here",
            f"skipped: it points to {of(b'a manifest that was deleted')}, which is not here",
        ]
    )


async def test_foreign_layers_are_not_missing(registry: Registry, tree: Tree, database: Database) -> None:
    elsewhere = {"mediaType": FOREIGN, "digest": of(b"w"), "size": 9, "urls": ["https://example.com/w"]}
    tree.image("a", elsewhere, tag="v1")

    await registry.imports.run(None)

    assert await problems(registry) == []
    assert await all_of(database, "SELECT required, missing FROM manifest_reference WHERE kind = 'layer'") in (
        [(0, 0)],
        [(False, False)],
    )


async def test_what_is_no_manifest_is_skipped_and_all_that_it_may_need_stays(
    registry: Registry, tree: Tree, database: Database
) -> None:
    tree.layer("a", b"named by schema 1")
    old = tree.manifest("a", {"schemaVersion": 1, "name": "a", "fsLayers": []}, tag="old")
    tree.manifest("a", b"not JSON", tag="broken")
    damaged = tree.manifest("a", {"schemaVersion": 2}, tag="damaged")
    tree.blob_path(damaged["digest"]).write_bytes(b"other bytes")
    tree.image("a", tag="v1")

    await registry.imports.run(None)

    assert await registry.tags.page("a", after="", limit=9) == (["v1"], False)
    reasons = {reason for path, reason in await problems(registry) if "revisions" in path}
    assert reasons == {
        "skipped: Docker schema 1 is not supported; push again with a current client",
        "skipped: not JSON",
        "skipped: its bytes have another digest",
    }
    assert (await registry.blobs.find("a", Digest(old["digest"]))).size == old["size"]
    assert await all_of(database, "SELECT * FROM due") == []


async def test_manifests_linked_only_among_the_blobs_are_found_by_their_tags(registry: Registry, tree: Tree) -> None:
    image = tree.image("a", tag="v1")
    revision = tree.link("a", "_manifests/revisions", image["digest"])
    revision.unlink()
    revision.parent.rmdir()
    tree.link("a", "_layers", image["digest"])

    await registry.imports.run(None)

    assert (await registry.manifests.find("a", "v1")).digest == image["digest"]
    assert await problems(registry) == []


async def test_what_else_lies_around_is_told_or_passed_over(registry: Registry, tree: Tree) -> None:
    image = tree.image("a", tag="v1")
    tree.upload("a")
    tree.upload("never/finished")
    tree.link("a", "_layers", "sha256:" + "ab" * 32).with_suffix(".0a1b.tmp").write_bytes(b"")
    tree.link("a", "_layers", "sha384:" + "ab" * 48)
    tree.image("Old/b", tag="v1")
    (tree.root / "docker/registry/v2/repositories/file").write_bytes(b"")
    payload = b'{"schemaVersion": 2, "manifests": []}'  # no media type
    untyped = tree.manifest("a", payload, tag="untyped")

    await registry.imports.run(None)

    assert (await registry.manifests.find("a", "v1")).digest == image["digest"]
    assert (await registry.manifests.find("a", "untyped")).size == untyped["size"]
    assert sorted(await problems(registry)) == [
        ("Old", "skipped: not the name of a repository"),
        ("a/_layers/sha256/" + "ab" * 32 + "/link", "skipped: the blob's bytes are not there"),
        ("a/_layers/sha384", "skipped: digests by sha384 cannot be verified here"),
        ("a/_uploads/0a1b", "skipped: an upload that was not finished"),
        ("never/finished/_uploads", "skipped: nothing was ever finished here"),
    ]


async def test_blobs_that_nobody_links_are_collected_later(registry: Registry, tree: Tree, database: Database) -> None:
    layer = tree.layer("a", b"loose")
    tree.image("a", tag="v1")
    digest = tree.blob(b"left by a collection that was killed")

    await registry.imports.run(None)

    waiting = await all_of(database, "SELECT kind, digest FROM due")
    assert sorted(waiting) == sorted([("blob", digest), ("link", layer["digest"])])
    week = await all_of(database, "SELECT min(due_at) FROM due")
    assert datetime.fromtimestamp(week[0][0] / 1e6, UTC) > datetime.now(UTC) + timedelta(days=6)


async def test_a_push_of_what_lies_there_already_uses_it(registry: Registry, tree: Tree, database: Database) -> None:
    tree.layer("a", b"layer")
    before = tree.everything()

    await send(registry, "b", b"layer")

    assert tree.everything() == before
    assert (await registry.blobs.find("b", Digest.of(b"layer"))).location == layout.blob(Digest.of(b"layer"), 0)
    await registry.imports.run(None)
    assert (await registry.blobs.find("a", Digest.of(b"layer"))).size == 5


async def test_a_push_heals_what_lies_there_damaged(registry: Registry, tree: Tree, database: Database) -> None:
    damaged = tree.blob_path(tree.layer("a", b"layer")["digest"])
    damaged.write_bytes(b"lay")

    await send(registry, "b", b"layer")
    await registry.imports.run(None)

    for name in ("a", "b"):
        assert (await registry.blobs.find(name, Digest.of(b"layer"))).location == layout.blob(Digest.of(b"layer"), 1)
    assert damaged.read_bytes() == b"lay"
    assert (await all_of(database, "SELECT damage FROM blob WHERE state = 'quarantined'")) == [
        ("found with 3 bytes, and the blob of this digest has 5",)
    ]


async def test_bytes_that_are_not_the_digest_change_nothing(registry: Registry, tree: Tree, database: Database) -> None:
    tree.layer("a", b"layer")

    with pytest.raises(DigestInvalid):
        await send(registry, "b", b"wrong", digest=Digest.of(b"layer"))

    assert await all_of(database, "SELECT * FROM blob") == []


async def test_an_import_that_ended_is_not_begun_again(registry: Registry, tree: Tree, database: Database) -> None:
    tree.image("a", tag="v1")
    await registry.imports.run(None)
    tree.image("b", tag="v1")

    await database.write(rows.settle, written=True)
    await registry.imports.look()

    assert not registry.imports.pending


async def test_quotas_count_what_was_imported_and_refuse_none_of_it(
    registry: Registry, tree: Tree, database: Database
) -> None:
    layer = tree.layer("team/a", b"x" * 1000)
    for number in range(3):
        tree.image("team/a", layer, tag=f"v{number}", config=b"%d" % number)
    tree.image("team/b", tree.layer("team/b", b"x" * 1000), tag="v1", config=b"0")
    await database.write(quotas.put, prefix="team/", max_bytes=10, max_repositories=1, source="api", actor="user:root")

    await registry.imports.run(None)

    (found,) = await database.read(quotas.page, limit=9)
    sizes = dict(await all_of(database, "SELECT digest, size FROM blob WHERE state = 'live'"))
    assert (found.used_bytes, found.used_repositories) == (sum(sizes.values()), 2)
    await database.write(rows.begin, "listing")
    tree.image("team/b", tag="v2", config=b"new")
    await registry.imports.run(None)
    (again,) = await database.read(quotas.page, limit=9)
    sizes = dict(await all_of(database, "SELECT digest, size FROM blob WHERE state = 'live'"))
    assert (again.used_bytes, again.used_repositories) == (sum(sizes.values()), 2)


async def read_again(registry: Registry, database: Database) -> None:
    """As after a time with docker-registry."""
    await database.write(rows.begin, "listing")
    await registry.imports.look()
    await registry.imports.run(None)


def written_later(tree: Tree, seconds: int = 3600) -> None:
    """Everything on the volume was written so long after now."""
    for path in tree.repository("").rglob("link"):
        later = time.time() + seconds
        os.utime(path, (later, later))


async def test_a_tag_that_was_moved_on_the_volume_afterwards_is_moved_here(
    registry: Registry, tree: Tree, database: Database
) -> None:
    old, new = tree.image("a", tag="v1", config=b"1"), tree.image("a", config=b"2")
    await registry.imports.run(None)
    tree.tag("a", "v1", new["digest"])
    await read_again(registry, database)
    assert (await registry.manifests.find("a", "v1")).digest == old["digest"]  # ours is no older

    written_later(tree)
    await read_again(registry, database)

    assert (await registry.manifests.find("a", "v1")).digest == new["digest"]
    assert await all_of(database, "SELECT digest, ended_by FROM tag_history") == [(old["digest"], "import")]


async def test_what_was_deleted_here_comes_back_only_when_it_was_pushed_again_there(
    registry: Registry, tree: Tree, database: Database
) -> None:
    image = tree.image("team/a", tree.layer("team/a", b"layer"), tag="v1")
    await registry.imports.run(None)
    await database.write(quotas.put, prefix="team/", max_bytes=1, max_repositories=1, source="api", actor="user:root")
    await Quotas(database, Leases(database)).work()
    await registry.manifests.remove("team/a", Digest(image["digest"]), actor="user:alice")
    await database.write(blobs.unlink, "team/a", Digest.of(b"layer"), actor="user:alice", undo=timedelta(days=1))

    await read_again(registry, database)  # nothing was written since
    with pytest.raises(ManifestUnknown):
        await registry.manifests.find("team/a", "v1")

    written_later(tree)
    await read_again(registry, database)
    assert (await registry.manifests.find("team/a", "v1")).digest == image["digest"]
    assert await registry.blobs.find("team/a", Digest.of(b"layer"))
    (verified,) = await Quotas(database, Leases(database)).verify()
    assert not verified.counting
    assert verified.differences == []


async def test_what_is_put_right_on_the_volume_is_told_no_more(
    registry: Registry, tree: Tree, database: Database
) -> None:
    tree.image("a", tag="v1")
    upload = tree.repository("a") / "_uploads"
    tree.upload("a")
    await registry.imports.run(None)
    assert len(await problems(registry)) == 1

    shutil.rmtree(upload)
    await read_again(registry, database)

    assert await problems(registry) == []


async def test_nothing_is_collected_or_purged_before_everything_is_read(
    registry: Registry, tree: Tree, database: Database
) -> None:
    tree.image("a", tree.layer("a", b"shared"), tag="v1")
    await send(registry, "b", b"shared")
    await database.write(blobs.unlink, "b", Digest.of(b"shared"), actor="user:alice", undo=timedelta())

    with pytest.raises(Held, match="import"):
        await registry.collection.run(grace=timedelta(), readers=timedelta())
    with pytest.raises(Unavailable, match="imported"):
        await registry.purge.repository("b", actor="user:alice")

    await registry.imports.run(None)
    await registry.purge.repository("b", actor="user:alice")
    await registry.collection.run(grace=timedelta(), readers=timedelta())
    assert (await registry.blobs.find("a", Digest.of(b"shared"))).size == 6
