"""Retention and expiry at work: on real rows, undoable, recorded, and never more than was asked."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, text, update
from tests.metadata.making import ACTOR, HOUR, NOTHING, WEEK, child, pushed, put
from tests.registry.making import push_image

from stackyard.metadata import holds, leases, manifests, pulls, retention
from stackyard.metadata.database import Database
from stackyard.metadata.pulls import Pulled
from stackyard.metadata.retention import Doomed
from stackyard.metadata.schema import audit, installation, manifest, tag, tag_history
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestUnknown, NameUnknown, Unavailable
from stackyard.registry.cleanup import Outcome, Preview, Scheduled, next_time
from stackyard.registry.guards import TagGuard
from stackyard.registry.leases import Lease, Leases
from stackyard.registry.registry import Registry
from stackyard.registry.rules import IMMUTABLE, RETENTION
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore

DAY = timedelta(days=1)


@pytest.fixture
async def registry(database: Database) -> Registry:
    """What goes can be restored; pulls have been recorded for a year."""
    await database.write(lambda c: c.execute(update(installation).values(pulls_since=datetime.now(UTC) - 365 * DAY)))
    return Registry.over(MemoryStore(), database, Settings(promise=NOTHING, undo=WEEK))


async def age(database: Database, tags: dict[str, float], repository: str = "a") -> None:
    """Push images, each some days ago."""
    for name, days in tags.items():
        await database.write(put, repository, pushed(f"{repository}:{name}".encode()), name, promise=NOTHING)
        await database.write(_backdate, repository, name, days)


def _backdate(c: Connection, repository: str, name: str, days: float) -> None:
    when = datetime.now(UTC) - days * DAY
    of = text("repository_id = (SELECT id FROM repository WHERE name = :r)").bindparams(r=repository)
    c.execute(update(tag).where(tag.c.name == name, of).values(updated_at=when))


async def rule(registry: Registry, repositories: str = "**", tags: str = "*", **keep: object) -> int:
    detail = {"repositories": repositories, "tags": tags, "keep": keep}
    return (await registry.rules.add(RETENTION, detail, actor=ACTOR)).id


def shown(preview: Preview) -> dict[str, str]:
    return {
        verdict.tag.name: f"{'goes' if verdict.goes else 'stays'}: {verdict.reason}" for verdict in preview.verdicts
    }


async def names(database: Database) -> list[str]:
    return list(await database.read(lambda c: c.scalars(select(tag.c.name).order_by(tag.c.name)).all()))


async def hidden(database: Database) -> set[str]:
    query = select(manifest.c.digest).where(manifest.c.deleted_at.is_not(None))
    return set(await database.read(lambda c: c.scalars(query).all()))


async def test_what_the_preview_shows_is_what_a_run_does(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 90, "v2": 60, "v3": 30, "v4": 1, "latest": 90, "used": 90, "old": 90})
    await database.write(pulls.record, [Pulled("a", "used", 2 * DAY, ACTOR, 1)])
    id_ = await rule(registry, last=3, pulled="7d", matching=["latest"])

    preview = await registry.cleanup.preview("a")

    assert shown(preview) == {
        "latest": "stays: matches latest",
        "old": "goes: not one of the last 3 pushed, not pulled since it was pushed 90 days ago, does not match latest",
        "used": "stays: pulled 2 days ago, within 7d",
        "v1": "goes: not one of the last 3 pushed, not pulled since it was pushed 90 days ago, does not match latest",
        "v2": "stays: one of the last 3 pushed",
        "v3": "stays: one of the last 3 pushed",
        "v4": "stays: one of the last 3 pushed",
    }
    assert await registry.cleanup.run() == Outcome(repositories=1, tags=2, kept=5)
    assert await names(database) == ["latest", "used", "v2", "v3", "v4"]
    recorded = await database.read(_deletions)
    assert [(actor, detail["tag"]) for actor, detail in recorded] == [("retention", "old"), ("retention", "v1")]
    assert recorded[0][1]["reason"].endswith(f"(rule {id_})")
    assert await registry.cleanup.run() == Outcome(repositories=1, tags=0, kept=5)


async def test_what_went_comes_back_whole(registry: Registry, database: Database) -> None:
    """The images of an index and a signature of one go with it, and come back with it."""
    image = await push_image(registry, database, "a", "image", b"layer")
    index = pushed(b"index", [child(image.digest)])
    signature = pushed(b"signature", subject=image.digest)
    for one in (index, signature):
        await database.write(put, "a", one, *(["v1"] if one is index else []), promise=NOTHING)
    await database.write(lambda c: c.execute(tag.delete().where(tag.c.name == "image")))
    await age(database, {"v2": 1})
    await database.write(_backdate, "a", "v1", 90)
    await rule(registry, last=1)

    await registry.cleanup.run()

    assert await hidden(database) == {image.digest, index.digest, signature.digest}
    await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR)
    assert await hidden(database) == set()
    assert (await registry.manifests.find("a", "v1")).digest == index.digest
    assert await registry.manifests.find("a", image.digest)


async def test_it_all_goes_for_good_when_its_time_is_over(database: Database, store: MemoryStore) -> None:
    registry = Registry.over(store, database, Settings(promise=NOTHING, undo=NOTHING))
    image = await push_image(registry, database, "a", "image", b"layer")
    await database.write(put, "a", pushed(b"index", [child(image.digest)]), "v1", promise=NOTHING)
    await database.write(put, "a", pushed(b"signature", subject=image.digest), promise=NOTHING)
    await database.write(lambda c: c.execute(tag.delete().where(tag.c.name == "image")))
    await age(database, {"v2": 1})
    await database.write(_backdate, "a", "v1", 90)
    await rule(registry, last=1)
    await registry.cleanup.run()

    await registry.collection.run(readers=NOTHING)

    assert await database.read(_count) == 1
    assert {found.location async for found in store.walk("docker")} == set()


@pytest.fixture
async def promising(database: Database) -> Registry:
    """A registry whose only tag pointed to an index of two images, `again` and `once`, and was just removed by rule.

    The image `again` was pushed again; the index's own promise and that of `once` are over.
    """
    registry = Registry.over(MemoryStore(), database, Settings(promise=HOUR, undo=WEEK, linger=NOTHING))
    for payload in (b"again", b"once"):
        await database.write(put, "a", pushed(payload), promise=NOTHING)
    index = pushed(b"index", [child(Digest.of(b"again")), child(Digest.of(b"once"))])
    await database.write(put, "a", index, "v1", promise=NOTHING)
    await database.write(put, "a", pushed(b"again"), promise=HOUR)
    await age(database, {"v2": 1})
    await database.write(_backdate, "a", "v1", 90)
    await rule(registry, last=1)
    await registry.cleanup.run()
    return registry


async def test_what_is_promised_waits_for_an_index_that_names_it(promising: Registry, database: Database) -> None:
    """Whoever pushes an index asks for its images first, and skips what is there."""
    assert await hidden(database) == {Digest.of(b"once"), Digest.of(b"index")}

    other = pushed(b"other index", [child(Digest.of(b"again"))])
    await database.write(put, "a", other, "v3")
    await _pass(database, 2 * HOUR)
    await promising.collection.run(readers=NOTHING)

    assert await hidden(database) == {Digest.of(b"once"), Digest.of(b"index")}


async def test_what_was_promised_goes_afterwards_and_comes_back_with_its_index(
    promising: Registry, database: Database
) -> None:
    await _pass(database, 2 * HOUR)
    await promising.collection.run(readers=NOTHING)
    assert await hidden(database) == {Digest.of(b"once"), Digest.of(b"again"), Digest.of(b"index")}

    await promising.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR)

    assert await hidden(database) == set()


async def test_what_is_pushed_again_after_a_rule_stays(promising: Registry, database: Database) -> None:
    """It has no tag, but that is how it was pushed."""
    await database.write(put, "a", pushed(b"again"), promise=NOTHING)

    await _pass(database, 2 * HOUR)
    await promising.collection.run(readers=NOTHING)

    assert Digest.of(b"again") not in await hidden(database)


async def test_what_was_needed_when_its_promise_was_over_stays(promising: Registry, database: Database) -> None:
    await database.write(put, "a", pushed(b"other index", [child(Digest.of(b"again"))]), promise=NOTHING)
    await _pass(database, 2 * HOUR)
    await promising.collection.run(readers=NOTHING)

    await database.write(manifests.delete, "a", Digest.of(b"other index"), actor=ACTOR, undo=NOTHING)
    await _pass(database, 2 * WEEK)
    await promising.collection.run(readers=NOTHING)

    assert Digest.of(b"again") not in await hidden(database)


async def _pass(database: Database, span: timedelta) -> None:
    """Let promises and due times lie so much further back."""

    def backdate(c: Connection) -> None:
        values = {"span": span // timedelta(microseconds=1)}
        c.execute(text("UPDATE manifest SET promised_until = promised_until - :span"), values)
        c.execute(text("UPDATE due SET due_at = due_at - :span"), values)

    await database.write(backdate)


async def test_what_another_tag_or_index_holds_stays(registry: Registry, database: Database) -> None:
    shared, named = pushed(b"shared"), pushed(b"named")
    await database.write(put, "a", shared, "keep", "old1", promise=NOTHING)
    await database.write(put, "a", named, "old2", promise=NOTHING)
    await database.write(put, "a", pushed(b"index", [child(named.digest)]), "keep2", promise=NOTHING)
    for name in ("old1", "old2"):
        await database.write(_backdate, "a", name, 90)
    await rule(registry, newer="7d")

    await registry.cleanup.run()

    assert await names(database) == ["keep", "keep2"]
    assert await hidden(database) == set()


async def test_a_pull_by_digest_counts_for_each_tag_that_reaches_it(registry: Registry, database: Database) -> None:
    image = pushed(b"image")
    inner = pushed(b"inner", [child(image.digest)])
    outer = pushed(b"outer", [child(inner.digest)])
    for one, name in ((image, "image"), (inner, "inner"), (outer, "outer")):
        await database.write(put, "a", one, name, promise=NOTHING)
        await database.write(_backdate, "a", name, 90)
    await age(database, {"other": 90, "more": 90, "third": 90})
    await database.write(pulls.record, [Pulled("a", image.digest, DAY, ACTOR, 1)])
    await rule(registry, pulled="7d")

    preview = await registry.cleanup.preview("a")

    assert {verdict.tag.name for verdict in preview.doomed} == {"more", "other", "third"}
    assert shown(preview)["outer"] == "stays: pulled 1 day ago, within 7d"


async def test_pulls_that_wait_in_memory_count(registry: Registry, database: Database) -> None:
    class Someone:
        actor = ACTOR

    await age(database, {"used": 90, "v1": 90, "v2": 1})
    await rule(registry, pulled="7d")
    registry.pulls.record("a", "used", Someone())

    assert [verdict.tag.name for verdict in (await registry.cleanup.preview("a")).doomed] == ["v1"]


async def test_more_than_half_waits_for_somebody_to_look(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 90, "v2": 60, "v3": 1})
    await age(database, {"v1": 90, "v2": 1}, "b")
    await rule(registry, newer="7d")

    outcome = await registry.cleanup.run()

    assert outcome == Outcome(repositories=2, tags=1, kept=4, held_back=["a"])
    assert (await registry.cleanup.preview("a")).is_too_much
    assert await registry.cleanup.run(repository="a", force=True) == Outcome(repositories=1, tags=2, kept=1)


async def test_only_repositories_that_a_rule_is_about_are_looked_at(registry: Registry, database: Database) -> None:
    for repository in ("team/app", "team/app/deep", "other"):
        await age(database, {"v1": 90, "v2": 1}, repository)
    await rule(registry, "team/*", newer="7d")

    assert [one.repository for one in await registry.cleanup.previews(after="", limit=9)] == ["team/app"]
    assert shown(await registry.cleanup.preview("other"))["v1"] == "stays: no rule is about it"
    assert (await registry.cleanup.run()).repositories == 1
    for ask in (registry.cleanup.preview("none"), registry.cleanup.run(repository="none")):
        with pytest.raises(NameUnknown):
            await ask


async def test_an_immutable_tag_stays_also_when_it_became_so_meanwhile(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 90, "dev": 90, "new": 1, "new2": 1})
    await rule(registry, newer="7d")
    seen = await database.read(retention.page, "a", after="", limit=10)
    await registry.rules.add(IMMUTABLE, {"repositories": "a", "tags": "v*"}, actor=ACTOR)

    assert shown(await registry.cleanup.preview("a"))["v1"] == "stays: it is immutable"
    doomed = [Doomed(one, "judged before the rule came") for one in seen if one.name in ("v1", "dev")]
    guard = TagGuard(registry.rules, "a", "retention")
    gone = await database.write(retention.remove, "a", doomed, actor="retention", undo=WEEK, guard=guard)

    assert gone == ["dev"]


async def test_a_tag_that_is_not_as_it_was_seen_stays(registry: Registry, database: Database) -> None:
    await age(database, {"moved": 90, "pulled": 90, "by-digest": 90, "gone": 90, "same": 90})
    seen = await database.read(retention.page, "a", after="", limit=10)
    await database.write(put, "a", pushed(b"another"), "moved")
    await database.write(
        pulls.record,
        [Pulled("a", "pulled", NOTHING, ACTOR, 1), Pulled("a", Digest.of(b"a:by-digest"), NOTHING, ACTOR, 1)],
    )
    await database.write(lambda c: c.execute(tag.delete().where(tag.c.name == "gone")))

    guard = TagGuard(registry.rules, "a", "retention")
    doomed = [Doomed(one, "") for one in seen]
    gone = await database.write(retention.remove, "a", doomed, actor="retention", undo=WEEK, guard=guard)

    assert gone == ["same"]


async def test_a_long_list_is_read_and_removed_in_parts(registry: Registry, database: Database) -> None:
    one = pushed(b"image")
    await database.write(put, "a", one, *(f"t{number:03}" for number in range(450)), promise=NOTHING)
    for number in range(40):
        await database.write(_backdate, "a", f"t{number:03}", 90)
    await rule(registry, newer="7d")

    assert await registry.cleanup.run() == Outcome(repositories=1, tags=40, kept=410)


async def test_nothing_goes_while_the_clock_is_in_doubt(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 90, "v2": 1})
    await rule(registry, newer="7d")
    cleanup = registry.cleanup
    assert not await cleanup.is_clock_sure()  # the collector has not looked yet

    await _note(database, seen=datetime.now(UTC), paused="")
    assert await cleanup.is_clock_sure()
    await _note(database, seen=datetime.now(UTC) - DAY, paused="")
    assert not await cleanup.is_clock_sure()
    await _note(database, seen=datetime.now(UTC), paused="the clock leapt")
    assert not await cleanup.is_clock_sure()
    with pytest.raises(Unavailable, match="the clock leapt; if the clock is right, say: stackyard gc --resume"):
        await cleanup.run()


async def test_the_schedule_runs_when_its_time_has_come_and_once(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 90, "v2": 1})
    await rule(registry, newer="7d")
    await _note(database, seen=datetime.now(UTC), paused="")
    work = Scheduled(registry.cleanup, "0 3 * * *")
    assert await work.is_time()

    await Leases(database).run("retention", work.round)
    assert await names(database) == ["v1", "v2"]  # it begins to wait
    assert not await work.is_time()
    note = await _left(database)

    async def two_days_ago(lease: Lease) -> None:
        await lease.save(json.dumps(note | {"last": (datetime.now(UTC) - 2 * DAY).isoformat()}))

    await Leases(database).run("retention", two_days_ago)
    again = Scheduled(registry.cleanup, "0 3 * * *")  # another process
    await Leases(database).run("retention", again.round)

    assert await names(database) == ["v2"]
    note = await _left(database)
    assert note["outcome"] == {"repositories": 1, "tags": 1, "kept": 1, "held_back": []}
    assert not await again.is_time()
    other = Scheduled(registry.cleanup, "0 4 * * *")  # what it missed is not made up for
    await Leases(database).run("retention", two_days_ago)
    await Leases(database).run("retention", other.round)
    assert not await other.is_time()


def test_the_next_time_is_in_utc_and_later() -> None:
    at = datetime(2026, 3, 29, 3, 0, tzinfo=UTC)

    assert next_time("0 3 * * *", at) == datetime(2026, 3, 30, 3, 0, tzinfo=UTC)
    assert next_time("30 4 * * 0", at) == datetime(2026, 3, 29, 4, 30, tzinfo=UTC)


async def test_expired_tags_go_with_what_only_they_held(registry: Registry, database: Database) -> None:
    await age(database, {"soon": 1, "due": 1, "never": 1})
    for name, seconds in (("soon", 3600), ("due", -1)):
        when = datetime.now(UTC) + timedelta(seconds=seconds)
        await database.write(_expire, name, when)
    await _note(database, seen=datetime.now(UTC), paused="")

    await Leases(database).run("expiry", registry.cleanup.expire)

    assert await names(database) == ["never", "soon"]
    assert await hidden(database) == {Digest.of(b"a:due")}
    [(actor, detail)] = await database.read(_deletions)
    assert (actor, detail["tag"]) == ("expiry", "due")
    await registry.tags.restore("a", "due", digest=None, at=None, actor=ACTOR)
    await Leases(database).run("expiry", registry.cleanup.expire)
    assert await names(database) == ["due", "never", "soon"]  # who restores it wants to keep it


async def test_an_immutable_tag_does_not_expire(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 1, "dev": 1})
    await registry.rules.add(IMMUTABLE, {"repositories": "a", "tags": "v*"}, actor=ACTOR)
    for name in ("v1", "dev"):
        await database.write(_expire, name, datetime.now(UTC) - DAY)
    await _note(database, seen=datetime.now(UTC), paused="")

    await Leases(database).run("expiry", registry.cleanup.expire)

    assert await names(database) == ["v1"]
    assert not await database.read(retention.is_any_expired)


async def test_the_history_names_the_rule_as_who_ended_it(registry: Registry, database: Database) -> None:
    await age(database, {"v1": 90, "v2": 1})
    await rule(registry, newer="7d")

    await registry.cleanup.run()

    assert await database.read(lambda c: c.scalars(select(tag_history.c.ended_by)).all()) == ["retention"]
    with pytest.raises(ManifestUnknown):
        await registry.manifests.find("a", "v1")


async def _left(database: Database) -> dict[str, Any]:
    """The note of whoever ran last."""
    text = await database.read(leases.state, "retention")
    note: dict[str, Any] = json.loads(text or "{}")
    return note


def _deletions(c: Connection) -> list[tuple[str, dict[str, str]]]:
    found = c.execute(select(audit.c.actor, audit.c.detail).where(audit.c.action == "tag.delete").order_by(audit.c.id))
    return [(actor, json.loads(detail)) for actor, detail in found]


def _count(c: Connection) -> int:
    return c.scalar(select(func.count()).select_from(manifest)) or 0


def _expire(c: Connection, name: str, when: datetime) -> None:
    c.execute(update(tag).where(tag.c.name == name).values(expires_at=when))


async def _note(database: Database, *, seen: datetime, paused: str) -> None:
    """What the collector leaves behind when it looked at the clock."""

    async def save(lease: Lease) -> None:
        await lease.save(json.dumps({"seen": seen.isoformat(), "paused": paused}))

    await Leases(database).run(holds.COLLECTION, save)
