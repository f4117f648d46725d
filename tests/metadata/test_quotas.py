"""Quotas: usage is what a recount says, whatever happened, and never more than the limit, whoever pushes at once."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, select
from tests.metadata.making import ACTOR, HOUR, NOTHING, WEEK, child, layer, push, pushed, put
from tests.support.postgresql import Server

from stackyard.metadata import (
    blobs,
    collection,
    counting,
    emptying,
    history,
    manifests,
    purging,
    quotas,
    recount,
    repositories,
)
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.errors import BlobVanished
from stackyard.metadata.quotas import Quota
from stackyard.metadata.schema import blob_link, due, manifest, manifest_reference, quota_digest, repository
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown, QuotaExceeded, RegistryError

T = TypeVar("T")


def limit(
    c: Connection, prefix: str, max_bytes: int | None = None, max_repositories: int | None = None, *, step: int = 100
) -> None:
    """A quota, and everything that is there counted."""
    quotas.put(c, prefix=prefix, max_bytes=max_bytes, max_repositories=max_repositories, source="api", actor=ACTOR)
    while counting.count(c, limit=step):
        pass


def used(c: Connection, prefix: str) -> tuple[int, int]:
    """Bytes and repositories."""
    found = quotas.find(c, prefix)
    assert found is not None
    return found.used_bytes, found.used_repositories


def mount(c: Connection, source: str, target: str, content: bytes) -> Any:
    return blobs.mount(c, source=source, target=target, digest=Digest.of(content), actor=ACTOR, promise=NOTHING)


def id_of(c: Connection, name: str, *, deleted: bool = False) -> int | None:
    condition = repository.c.deleted_at.is_not(None) if deleted else repository.c.deleted_at.is_(None)
    found: int | None = c.execute(
        select(repository.c.id).where(repository.c.name == name, condition).order_by(repository.c.id.desc())
    ).scalar()
    return found


@contextlib.contextmanager
def in_steps_of(digests: int) -> Iterator[None]:
    """Deleting and restoring count so many digests at a time."""
    before = repositories._DIGESTS
    repositories._DIGESTS = digests
    try:
        yield
    finally:
        repositories._DIGESTS = before


def delete_repository(c: Connection, name: str, *, step: int = 100, undo: timedelta = WEEK) -> bool:
    """Also one that nothing but uploads made known."""
    repository_id = id_of(c, name)
    if repository_id is None:
        return False
    with in_steps_of(step):
        repositories._hide(c, repository_id, name, ACTOR, undo)
    return True


def restore_repository(c: Connection, name: str, *, step: int = 100) -> bool:
    """One step; whether it is back."""
    repository_id = id_of(c, name, deleted=True)
    assert repository_id is not None
    if not counting.reopen(c, repository_id, limit=step):
        return False
    repositories._RESTORE.run(c, id_=repository_id)
    return True


def restore_for_a_person(c: Connection, name: str, *, step: int) -> bool:
    with in_steps_of(step):
        return repositories.restore(c, name, actor=ACTOR)


def differences(c: Connection) -> list[Any]:
    return [each for each in recount.recount(c) if each.differences]


def delete_manifest(c: Connection, name: str, digest: Digest) -> bool:
    return manifests.delete(c, name, digest, actor=ACTOR, undo=WEEK)


def unlink(c: Connection, name: str, content: bytes) -> bool:
    return blobs.unlink(c, name, Digest.of(content), actor=ACTOR, undo=WEEK)


async def test_a_digest_counts_once_per_prefix_however_many_repositories_link_it(database: Database) -> None:
    for prefix in ("", "team/", "team/deep/", "other/"):
        await database.write(limit, prefix, 1000)
    for name in ("team/a", "team/a", "team/deep/b", "team/deep/c", "teams"):
        await database.write(push, name, b"12345")
    await database.write(mount, "team/a", "team/d", b"12345")

    assert await database.read(used, "") == (5, 0)
    assert await database.read(used, "team/") == (5, 0)
    assert await database.read(used, "team/deep/") == (5, 0)
    assert await database.read(used, "other/") == (0, 0)
    for name in ("team/deep/b", "team/deep/c"):
        await database.write(unlink, name, b"12345")
    assert await database.read(used, "team/deep/") == (0, 0)
    assert await database.read(used, "team/") == (5, 0)
    assert await database.read(differences) == []


async def test_what_does_not_fit_is_refused_and_leaves_nothing(database: Database) -> None:
    await database.write(limit, "team/", 10)
    await database.write(push, "team/a", b"123456")

    with pytest.raises(QuotaExceeded, match=r"the quota of team/ is exceeded: 6 B of 10 B used, 5 B more needed"):
        await database.write(push, "team/b", b"abcde")
    assert await database.write(push, "team/b", b"123456")  # it is there already
    await database.write(push, "team/b", b"abcd")

    assert await database.read(used, "team/") == (10, 0)
    with pytest.raises(QuotaExceeded):
        await database.write(push, "team/b", b"!")
    assert await database.read(differences) == []


async def test_the_tightest_of_several_quotas_refuses(database: Database) -> None:
    await database.write(limit, "", 10)
    await database.write(limit, "team/", 8)
    await database.write(push, "other", b"12345")

    with pytest.raises(QuotaExceeded, match="of the whole registry is exceeded"):
        await database.write(push, "team/a", b"123456")
    await database.write(push, "team/a", b"12345")  # counted in the store, new to the team
    with pytest.raises(QuotaExceeded, match="of team/ is exceeded: 5 B of 8 B used, 4 B more needed"):
        await database.write(push, "team/a", b"abcd")

    assert await database.read(used, "team/") == (5, 0)
    assert await database.read(used, "") == (5, 0)


async def test_a_mount_is_charged_where_it_goes(database: Database) -> None:
    await database.write(limit, "team/", 4)
    await database.write(push, "base", b"12345")

    with pytest.raises(QuotaExceeded):
        await database.write(mount, "base", "team/a", b"12345")

    assert await database.read(used, "team/") == (0, 0)


async def test_a_manifest_counts_with_its_own_bytes_and_is_refused_without_room(database: Database) -> None:
    await database.write(limit, "", 12)
    await database.write(push, "a", b"12345")
    image = pushed(b"image", [layer(Digest.of(b"12345"))])

    await database.write(put, "a", image, "v1")
    await database.write(put, "a", image, "v2")
    await database.write(push, "b", b"12345")
    await database.write(put, "b", image, "v1")

    assert await database.read(used, "") == (10, 2)
    with pytest.raises(QuotaExceeded):
        await database.write(put, "c", pushed(b"abc"), "v1")
    assert await database.read(used, "") == (10, 2)
    assert await database.read(repositories.page, after="", limit=9) == ["a", "b"]
    assert await database.read(differences) == []


async def test_a_deleted_image_counts_no_more_and_pushing_it_again_may_be_refused(database: Database) -> None:
    await database.write(limit, "", 30)
    await database.write(push, "a", b"shared")
    await database.write(push, "a", b"own layer")
    both = pushed(b"both", [layer(Digest.of(b"shared")), layer(Digest.of(b"own layer"))])
    await database.write(put, "a", both, "v1")
    await database.write(put, "a", pushed(b"one", [layer(Digest.of(b"shared"))]), "v2")
    assert await database.read(used, "") == (22, 1)

    await database.write(delete_manifest, "a", both.digest)
    assert await database.read(used, "") == (9, 1)
    await database.write(push, "a", b"in its place 12345")
    with pytest.raises(QuotaExceeded):
        await database.write(put, "a", both, "v1")
    assert await database.read(used, "") == (27, 1)

    await database.write(unlink, "a", b"in its place 12345")
    await database.write(put, "a", both, "v1")
    assert await database.read(used, "") == (22, 1)
    assert await database.read(differences) == []


async def test_a_blob_pushed_again_counts_again(database: Database) -> None:
    await database.write(limit, "", 100)
    await database.write(push, "a", b"layer")
    await database.write(unlink, "a", b"layer")
    assert await database.read(used, "") == (0, 0)

    for _ in range(2):
        await database.write(push, "a", b"layer")

    assert await database.read(used, "") == (5, 0)
    assert await database.read(differences) == []


async def test_there_are_no_more_repositories_than_allowed(database: Database) -> None:
    await database.write(limit, "team/", None, 2)
    for name in ("team/a", "team/b", "team/a", "other/c"):
        await database.write(put, name, pushed(b"m"), "v1")

    with pytest.raises(QuotaExceeded, match="the quota of team/ is exceeded: 2 of 2 repositories used"):
        await database.write(put, "team/c", pushed(b"m"), "v1")
    assert await database.read(used, "team/") == (1, 2)

    await database.write(delete_repository, "team/b")
    await database.write(put, "team/c", pushed(b"m"), "v1")
    assert await database.read(used, "team/") == (1, 2)
    with pytest.raises(QuotaExceeded):
        await database.write(restore_repository, "team/b")


@pytest.mark.parametrize("step", [1, 2, 3, 100])
async def test_a_new_quota_counts_what_is_there_while_others_push(database: Database, step: int) -> None:
    names = [f"r{number}" for number in range(4)]
    for name in names:
        for content in (b"shared", name.encode(), b"2" + name.encode()):
            await database.write(push, name, content)
        await database.write(put, name, pushed(b"image of " + name.encode(), [layer(Digest.of(b"shared"))]), "v1")
    await database.write(delete_repository, "r2")

    await database.write(quotas.put, prefix="r", max_bytes=None, max_repositories=None, source="api", actor=ACTOR)
    found = await database.read(quotas.find, "r")
    assert found is not None
    assert found.counting
    turn = 0
    while await database.write(counting.count, limit=step):
        name = names[turn % 4]
        await database.write(push, name, b"more %d" % (turn % 7))
        if turn % 3 == 0:
            await database.write(unlink, name, b"2" + name.encode())
        if turn % 5 == 1:
            await database.write(push, f"r-new-{turn}", b"shared")
        if turn == 2:
            await database.write(delete_repository, "r1", step=step)
        turn += 1

    while await database.write(counting.settle, limit=step):
        pass
    found = await database.read(quotas.find, "r")
    assert found is not None
    assert not found.counting
    assert found.used_bytes > 0
    assert await database.read(differences) == []


@pytest.mark.parametrize("step", [1, 3, 100])
async def test_a_deleted_repository_counts_no_more_and_restoring_counts_it_again(database: Database, step: int) -> None:
    await database.write(limit, "", 100)
    await database.write(limit, "a", 100)
    for content in (b"one", b"two", b"three"):
        await database.write(push, "a", content)
    await database.write(push, "b", b"two")
    await database.write(put, "a", pushed(b"m", [layer(Digest.of(b"one"))]), "v1")
    before = await database.read(used, "")
    assert before == (12, 1)

    await database.write(delete_repository, "a", step=step)
    assert await database.read(differences) == []
    while await database.write(counting.settle, limit=step):
        assert await database.read(differences) == []
    assert await database.read(used, "") == (3, 0)
    assert await database.read(used, "a") == (0, 0)

    while not await database.write(restore_repository, "a", step=step):
        assert await database.read(differences) == []
        assert not await database.write(counting.settle, limit=step)  # nobody works against it
    assert await database.read(used, "") == before
    assert await database.read(differences) == []


async def test_a_repository_that_does_not_fit_any_more_is_not_restored(database: Database) -> None:
    await database.write(limit, "", 10)
    for content in (b"one", b"two"):
        await database.write(push, "a", content)
    await database.write(delete_repository, "a")
    await database.write(push, "b", b"in its place"[:6])

    assert not await database.write(restore_repository, "a", step=1)
    with pytest.raises(QuotaExceeded):
        await database.write(restore_repository, "a", step=1)

    assert await database.read(used, "") == (9, 0)  # until the restore is given up for good
    await database.write(_forget_restores)
    while await database.write(counting.settle, limit=1):
        pass
    assert await database.read(used, "") == (6, 0)
    assert await database.read(differences) == []


def _forget_restores(c: Connection) -> None:
    c.execute(repository.update().values(settle_after=None))


async def test_a_repository_is_restored_under_the_quotas_of_today(database: Database) -> None:
    await database.write(limit, "", 100)
    for content in (b"one", b"two", b"three"):
        await database.write(push, "a", content)
    await database.write(delete_repository, "a", step=1)
    await database.write(quotas.remove, "")
    await database.write(limit, "a", 100)

    while not await database.write(restore_repository, "a", step=1):
        pass

    assert await database.read(used, "a") == (11, 0)
    assert await database.read(differences) == []


async def test_a_removed_quota_leaves_no_counts_and_a_new_one_none_of_its_own(database: Database) -> None:
    await database.write(limit, "", 10)
    await database.write(push, "a", b"12345")
    assert await database.write(quotas.remove, "")
    assert not await database.write(quotas.remove, "")

    await database.write(push, "a", b"more than there was room for")
    await database.write(limit, "", 1000)
    while await database.write(counting.sweep, limit=1):
        pass

    assert await database.read(used, "") == (33, 0)
    kept = await database.read(lambda c: c.execute(select(quota_digest.c.quota_id).distinct()).all())
    assert len(kept) == 1


async def test_lowering_a_limit_below_the_usage_refuses_only_more(database: Database) -> None:
    await database.write(limit, "", 100)
    await database.write(push, "a", b"12345")
    await database.write(limit, "", 3)

    assert await database.write(mount, "a", "b", b"12345")
    with pytest.raises(QuotaExceeded, match="5 B of 3 B used"):
        await database.write(put, "b", pushed(b"!"), "v1")
    with pytest.raises(QuotaExceeded, match="5 B of 3 B used; delete"):
        await database.write(push, "b", b"!")

    assert await database.read(used, "") == (5, 0)


async def test_quotas_are_listed_in_the_order_of_their_prefixes(database: Database) -> None:
    for prefix in ("b/", "", "a/"):
        await database.write(limit, prefix, 7, 8)

    found: list[Quota] = await database.read(quotas.page, limit=2)
    rest: list[Quota] = await database.read(quotas.page, after=found[-1].prefix, limit=2)

    assert [each.prefix for each in found + rest] == ["", "a/", "b/"]
    assert (found[0].max_bytes, found[0].max_repositories, found[0].updated_by) == (7, 8, ACTOR)


async def test_what_is_collected_counts_no_more(database: Database) -> None:
    await database.write(limit, "", 100)
    for content in (b"one", b"three"):
        await database.write(push, "a", content, promise=NOTHING)

    await database.write(lambda c: collection.drop_link(c, _known(c, "a"), Digest.of(b"one")))

    assert await database.read(used, "") == (5, 0)
    assert await database.read(differences) == []


async def test_a_link_collected_from_a_repository_half_off_its_quotas_is_not_counted_down_twice(
    database: Database,
) -> None:
    contents = sorted([b"one", b"three", b"fifteen"], key=Digest.of)
    await database.write(limit, "", 100)
    for content in contents:
        await database.write(push, "a", content, promise=NOTHING)
        await database.write(push, "b", content)
    await database.write(delete_repository, "a", step=1)

    for content in contents:
        await database.write(
            lambda c, content: collection.drop_link(c, _known(c, "a", True), Digest.of(content)), content
        )
        assert await database.read(differences) == []

    assert await database.read(used, "") == (15, 0)


async def test_a_repository_that_is_emptied_counts_no_more(database: Database) -> None:
    await database.write(limit, "", 100)
    for content in (b"one", b"three"):
        await database.write(push, "a", content, promise=NOTHING)
    await database.write(put, "a", pushed(b"m"), "v1", promise=NOTHING)

    await database.write(delete_repository, "a", step=1, undo=NOTHING)
    for _ in range(9):
        await database.write(lambda c: emptying.drop_repository(c, _known(c, "a", True)))
        assert await database.read(differences) == []

    assert await database.read(used, "") == (0, 0)
    assert await database.read(lambda c: c.execute(select(repository)).all()) == []


@pytest.mark.parametrize("counted", [1, 3])
@pytest.mark.parametrize("settled", [0, 1, 4])
@pytest.mark.parametrize("restored", [1, 4])
async def test_a_repository_goes_and_comes_back_while_its_first_quota_counts_it(
    database: Database, counted: int, settled: int, restored: int
) -> None:
    for content in (b"1", b"22", b"4444", b"88888888"):
        await database.write(push, "a", content)
    await database.write(quotas.put, prefix="", max_bytes=99, max_repositories=9, source="api", actor=ACTOR)
    await database.write(counting.count, limit=counted)

    await database.write(delete_repository, "a", step=1)
    for _ in range(settled):
        await database.write(counting.settle, limit=1)
    back = False
    for _ in range(restored):
        back = back or await database.write(restore_repository, "a", step=1)
    while await database.write(counting.count, limit=1):
        pass
    while not back:
        back = await database.write(restore_repository, "a", step=1)

    assert await database.read(differences) == []
    assert await database.read(used, "") == (15, 0)


async def test_what_is_purged_counts_no_more(database: Database) -> None:
    await database.write(limit, "", 100)
    for name in ("a", "b"):
        await database.write(push, name, b"layer")
        await database.write(push, name, b"alone")
    image = pushed(b"image", [layer(Digest.of(b"layer"))])
    await database.write(put, "a", image, "v1")

    await database.write(purging.purge_manifest, "a", image.digest)
    assert await database.read(used, "") == (10, 1)
    assert await database.read(differences) == []
    await database.write(purging.purge_blob, Digest.of(b"alone"))

    assert await database.read(used, "") == (5, 1)
    assert await database.read(differences) == []


async def test_restoring_an_image_charges_it_again_and_may_be_refused(database: Database) -> None:
    await database.write(limit, "", 12)
    await database.write(push, "a", b"layer")
    image = pushed(b"image", [layer(Digest.of(b"layer"))])
    await database.write(put, "a", image, "v1")
    await database.write(delete_manifest, "a", image.digest)
    await database.write(push, "a", b"other")

    with pytest.raises(QuotaExceeded, match="of 12 B used"):
        await database.write(history.restore_manifest, "a", image.digest, actor=ACTOR, promise=HOUR, undo=WEEK)
    with pytest.raises(QuotaExceeded):
        await database.write(history.restore_tag, repository="a", tag="v1", actor=ACTOR, promise=HOUR, undo=WEEK)
    await database.write(unlink, "a", b"other")
    await database.write(history.restore_manifest, "a", image.digest, actor=ACTOR, promise=HOUR, undo=WEEK)

    assert await database.read(used, "") == (10, 1)
    assert await database.read(differences) == []


async def test_a_repository_whose_first_manifests_come_together_is_counted_once(database: Database) -> None:
    await database.write(limit, "", 1000)
    await database.write(repositories.ensure_locked, "a")

    images = [pushed(b"%d" % number) for number in range(6)]
    await asyncio.gather(*(database.write(put, "a", each, "v1") for each in images))

    assert await database.read(used, "") == (6, 1)


def _known(c: Connection, name: str, deleted: bool = False) -> int:
    found = id_of(c, name, deleted=deleted)
    return -1 if found is None else found


async def test_writers_at_the_limit_never_pass_it_together(database: Database) -> None:
    """Each blob alone fits many times; together they are twice what is allowed."""
    await database.write(limit, "", 1000)
    await database.write(limit, "team/", 500)
    sizes = [37 + number for number in range(32)]

    async def writer(number: int, size: int) -> bool:
        try:
            await database.write(push, f"team/{number % 5}", bytes([number]) * size)
            await database.write(put, f"team/{number % 5}", pushed(b"image %d" % number), "v1")
        except QuotaExceeded:
            return False
        return True

    done = await asyncio.gather(*(writer(number, size) for number, size in enumerate(sizes)))

    total, _ = await database.read(used, "team/")
    assert 500 - max(sizes) < total <= 500
    assert 0 < sum(done) < len(sizes)
    assert await database.read(differences) == []


async def test_everybody_at_once_leaves_exact_counts(database: Database) -> None:
    """Few names and no spans, while a quota is being counted and repositories go and come back."""
    contents = [b"one", b"three", b"fifteen"]

    async def client(number: int) -> None:
        for step in range(8):
            name, content = f"r/{(number + step) % 3}", contents[(number * step) % 3]
            image = pushed(b"%d" % (step % 4), [layer(Digest.of(content))])
            calls: list[tuple[Any, ...]] = [
                (push, name, content),
                (put, name, image, "v1"),
                (delete_manifest, name, image.digest),
                (mount, name, f"r/{step % 3}", content),
                (unlink, name, content),
            ]
            for function, *values in calls:
                try:
                    await database.write(function, *values)
                except (QuotaExceeded, ManifestBlobUnknown, BlobVanished):
                    continue

    async def administrator() -> None:
        for prefix in ("r/", "", "r/1"):
            await database.write(
                quotas.put, prefix=prefix, max_bytes=60, max_repositories=None, source="api", actor=ACTOR
            )
            while await database.write(counting.count, limit=1):
                pass
        for name in ("r/0", "r/1"):
            await database.write(delete_repository, name, step=1)
            while await database.write(counting.settle, limit=1):
                pass

    await asyncio.gather(*(client(number) for number in range(4)), administrator())

    assert await database.read(differences) == []
    assert [each.counting for each in await database.read(recount.recount)] == [False] * 3


EmptyDatabase = Callable[[Path], Awaitable[str]]
NAMES = ["a/x", "a/y", "b", "a/x/deep"]
PREFIXES = ["", "a/", "a/x/", "c/"]
CONTENTS = [b"1", b"22", b"4444", b"88888888"]
names, prefixes, contents = st.sampled_from(NAMES), st.sampled_from(PREFIXES), st.sampled_from(CONTENTS)


class QuotaMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, each quota's counts are what counting again gives."""

    def __init__(self, empty_database: EmptyDatabase) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.database = self.run(self.open(empty_database))

    async def open(self, empty_database: EmptyDatabase) -> Database:
        return await open_database(await empty_database(self.folder))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def write(self, function: Any, *values: Any, **named: Any) -> Any:
        """Its result, or the refusal."""
        try:
            return self.run(self.database.write(function, *values, **named))
        except (RegistryError, BlobVanished) as refusal:
            return refusal

    def teardown(self) -> None:
        self.all_agree_when_the_work_is_done()
        self.run(self.database.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @initialize(prefix=prefixes)
    def first_quota(self, prefix: str) -> None:
        self.write(limit, prefix, 40, 3)

    @rule(prefix=prefixes, size=st.none() | st.integers(0, 40), number=st.none() | st.integers(0, 3))
    def put_quota(self, prefix: str, size: int | None, number: int | None) -> None:
        self.write(quotas.put, prefix=prefix, max_bytes=size, max_repositories=number, source="api", actor=ACTOR)

    @rule(prefix=prefixes)
    def remove_quota(self, prefix: str) -> None:
        self.write(quotas.remove, prefix)

    @rule(name=names, content=contents, promise=st.sampled_from([NOTHING, HOUR]))
    def push(self, name: str, content: bytes, promise: timedelta) -> None:
        before = self.run(self.database.read(usage))
        got = self.write(push, name, content, promise=promise)
        if isinstance(got, QuotaExceeded):
            assert self.run(self.database.read(usage)) == before

    @rule(source=names, into=names, content=contents)
    def mount(self, source: str, into: str, content: bytes) -> None:
        self.write(mount, source, into, content)

    @rule(name=names, content=contents)
    def unlink(self, name: str, content: bytes) -> None:
        self.write(unlink, name, content)

    @rule(name=names, layers=st.lists(contents, max_size=3, unique=True), tag=st.sampled_from(["v1", "v2"]))
    def put_image(self, name: str, layers: list[bytes], tag: str) -> None:
        self.write(put, name, _image(layers), tag, promise=NOTHING)

    @rule(name=names, layers=st.lists(contents, max_size=3, unique=True))
    def put_index(self, name: str, layers: list[bytes]) -> None:
        self.write(put, name, pushed(b"index", [child(_image(layers).digest)]), promise=NOTHING)

    @rule(name=names, layers=st.lists(contents, max_size=3, unique=True), undo=st.sampled_from([NOTHING, WEEK]))
    def delete_manifest(self, name: str, layers: list[bytes], undo: timedelta) -> None:
        self.write(manifests.delete, name, _image(layers).digest, actor=ACTOR, undo=undo)

    @rule(name=names, step=st.sampled_from([1, 100]), undo=st.sampled_from([NOTHING, WEEK]))
    def delete_repository(self, name: str, step: int, undo: timedelta) -> None:
        self.write(delete_repository, name, step=step, undo=undo)

    @rule(name=names, step=st.sampled_from([1, 100]), patience=st.sampled_from([1, 100]))
    def restore_repository(self, name: str, step: int, patience: int) -> None:
        """To its end, or given up in the middle."""
        for _ in range(patience):
            if self.write(restore_for_a_person, name, step=step):  # it is back, or was refused
                break
        self.write(_forget_restores)

    @rule(name=names, layers=st.lists(contents, max_size=3, unique=True))
    def restore_manifest(self, name: str, layers: list[bytes]) -> None:
        spans = {"promise": NOTHING, "undo": WEEK}
        self.write(history.restore_manifest, name, _image(layers).digest, actor=ACTOR, **spans)

    @rule(name=names, tag=st.sampled_from(["v1", "v2"]))
    def restore_tag(self, name: str, tag: str) -> None:
        self.write(history.restore_tag, repository=name, tag=tag, actor=ACTOR, promise=NOTHING, undo=WEEK)

    @rule(name=names, layers=st.lists(contents, max_size=3, unique=True))
    def purge_manifest(self, name: str, layers: list[bytes]) -> None:
        self.write(purging.purge_manifest, name, _image(layers).digest)

    @rule(content=contents)
    def purge_blob(self, content: bytes) -> None:
        self.write(purging.purge_blob, Digest.of(content))

    @rule(work=st.sampled_from([counting.count, counting.settle, counting.sweep]))
    def one_step(self, work: Any) -> None:
        self.write(work, limit=1)

    @rule()
    def collect(self) -> None:
        for kind, repository_id, digest in self.run(self.database.read(_looks)):
            self.write(_collect, kind, repository_id, digest)

    @invariant()
    def a_recount_agrees(self) -> None:
        assert self.run(self.database.read(differences)) == []

    @rule()
    def all_agree_when_the_work_is_done(self) -> None:
        for work in (counting.count, counting.settle):
            while self.write(work, limit=2):
                pass
        assert self.run(self.database.read(differences)) == []
        assert self.run(self.database.read(usage)) == self.run(self.database.read(seen))


def _image(layers: Sequence[bytes]) -> manifests.Pushed:
    return pushed(b"image of " + b" ".join(layers), [layer(Digest.of(each)) for each in layers])


def usage(c: Connection) -> dict[str, tuple[int, int]]:
    return {each.prefix: (each.used_bytes, each.used_repositories) for each in quotas.page(c, limit=100)}


def seen(c: Connection) -> dict[str, tuple[int, int]]:
    """The same, from what can be seen, by no code of ours."""
    live = {row.id: row for row in c.execute(select(repository)) if row.deleted_at is None}
    links = [row for row in c.execute(select(blob_link)) if row.repository_id in live and row.deleted_at is None]
    images = [row for row in c.execute(select(manifest)) if row.repository_id in live and row.deleted_at is None]
    named: dict[tuple[int, str], set[bool]] = {}
    for row in c.execute(select(manifest)):
        for digest in c.scalars(select(manifest_reference.c.digest).where(manifest_reference.c.manifest_id == row.id)):
            named.setdefault((row.repository_id, digest), set()).add(row.deleted_at is None)
    sizes = {Digest.of(content): len(content) for content in CONTENTS}
    found = {}
    for each in quotas.page(c, limit=100):
        below = {key for key, row in live.items() if row.name.startswith(each.prefix)}
        held = {row.digest: row.size for row in images if row.repository_id in below}
        held |= {row.digest: sizes[row.digest] for row in links if row.repository_id in below and row.counted}
        listed = [key for key in below if live[key].listed]
        found[each.prefix] = (sum(held.values()), len(listed))
    for row in links:
        if True in named.get((row.repository_id, row.digest), set()):
            assert row.counted, "an image that can be seen has a layer that does not count"
    return found


def _looks(c: Connection) -> list[Any]:
    looks = [tuple(row) for row in c.execute(select(due.c.kind, due.c.repository_id, due.c.digest).distinct())]
    deleted = c.scalars(select(repository.c.id).where(repository.c.deleted_at.is_not(None)))
    return looks + [("repository", each, "") for each in deleted]


def _collect(c: Connection, kind: str, repository_id: int, digest: str) -> None:
    if kind == "link":
        collection.drop_link(c, repository_id, digest)
    elif kind == "manifest":
        collection.drop_manifest(c, repository_id, digest)
    elif kind == "blob":
        look = collection.mark_blobs(c, digest, readers=NOTHING)
        collection.forget_blobs(c, look.doomed)
    elif kind == "repository":
        emptying.drop_repository(c, repository_id)


def run(empty_database: EmptyDatabase, *, examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    chosen = settings(max_examples=examples, stateful_step_count=25, suppress_health_check=checks)
    run_state_machine_as_test(partial(QuotaMachine, empty_database), settings=chosen)  # type: ignore[arg-type]


def test_counts_are_a_recount_whatever_happened(sqlite_template: Path) -> None:
    async def empty(folder: Path) -> str:
        return f"sqlite:///{shutil.copy(sqlite_template, folder / 'stackyard.db')}"

    run(empty, examples=int(os.environ.get("STACKYARD_EXAMPLES", "30")))


def test_counts_on_postgresql_are_a_recount_whatever_happened(postgresql_server: Server) -> None:
    async def empty(_: Path) -> str:
        return await postgresql_server.emptied()

    run(empty, examples=int(os.environ.get("STACKYARD_EXAMPLES", "6")))
