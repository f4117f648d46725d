"""What administrators are shown, on both engines, and by which ways the engines find it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event
from tests.metadata.making import ACTOR, WEEK, child, layer, push, pushed, put

from stackyard.metadata import manifests, pulls, repositories, tags
from stackyard.metadata.database import Database
from stackyard.metadata.listings import manifests as shown_manifests
from stackyard.metadata.listings import repositories as shown_repositories
from stackyard.metadata.listings import tags as shown_tags
from stackyard.metadata.listings import usage
from stackyard.metadata.pulls import Pulled
from stackyard.oci.digests import Digest

LAYERS = [bytes([n]) * (10 + n) for n in range(4)]
FAR: dict[str, Any] = {"after": "", "limit": 100}


def image(
    c: Connection, repository: str, name: bytes, layers: list[int], *names: str, platform: str | None = None
) -> Digest:
    """An image of these layers."""
    for n in layers:
        push(c, repository, LAYERS[n])
    references = [layer(Digest.of(LAYERS[n])) for n in layers]
    return put(c, repository, pushed(name, references, platform=platform), *names)


def index(c: Connection, repository: str, name: bytes, children: list[Digest], *names: str) -> Digest:
    manifest = pushed(name, [child(one) for one in children])
    return put(c, repository, manifest, *names)


def fill(c: Connection) -> dict[str, Digest]:
    """team/app: an index of two platforms behind `v1`, one image behind `v0`; team/other shares a layer with it."""
    amd = image(c, "team/app", b"amd", [0, 1], platform="linux/amd64")
    arm = image(c, "team/app", b"arm", [0, 2], platform="linux/arm64")
    attestation = image(c, "team/app", b"attestation", [1], platform="unknown/unknown")
    both = index(c, "team/app", b"both", [amd, arm, attestation], "v1")
    old = image(c, "team/app", b"old", [1], "v0", platform="linux/amd64")
    other = image(c, "team/other", b"other", [0, 3], "latest")
    return {"amd": amd, "arm": arm, "both": both, "old": old, "other": other, "attestation": attestation}


def sizes(*numbers: int) -> int:
    return sum(len(LAYERS[n]) for n in numbers)


async def pull(database: Database, repository: str, reference: str, actor: str, ago: int = 0) -> None:
    await database.write(pulls.record, [Pulled(repository, reference, timedelta(seconds=ago), actor, 1)])


async def test_repositories_tell_what_they_hold(database: Database) -> None:
    made = await database.write(fill)
    await pull(database, "team/app", "v0", "user:bob", ago=60)
    await pull(database, "team/app", made["old"], "user:carol")

    app, other = await database.survey(shown_repositories.page, **FAR)
    found = await database.survey(shown_repositories.find, "team/app")

    assert (app.name, app.tags, app.manifests, app.size) == ("team/app", 2, 5, sizes(0, 1, 2))
    assert (other.name, other.tags, other.manifests, other.size) == ("team/other", 1, 1, sizes(0, 3))
    assert app.last_pushed_at is not None
    assert app.last_pulled_at is not None
    assert other.last_pulled_at is None
    assert found == app
    assert await database.survey(shown_repositories.page, after="team/app", limit=9) == [other]
    assert await database.survey(shown_repositories.page, after="", limit=1) == [app]


async def test_deleted_repositories_are_listed_apart(database: Database) -> None:
    await database.write(fill)
    for _ in range(2):
        await database.write(repositories.delete, "team/app", actor=ACTOR, undo=WEEK)
        await database.write(image, "team/app", b"new", [3], "v1")

    first, second = await database.survey(shown_repositories.deleted, after="", after_id=0, limit=9)
    alive = await database.survey(shown_repositories.page, **FAR)

    assert (first.name, first.deleted_by, first.tags, second.tags) == ("team/app", ACTOR, 2, 1)
    assert first.restorable_until is not None
    assert first.deleted_at is not None
    assert first.restorable_until - first.deleted_at == WEEK
    assert [one.name for one in alive] == ["team/app", "team/other"]
    rest = await database.survey(shown_repositories.deleted, after="team/app", after_id=first.id, limit=9)
    assert rest == [second]


async def test_tags_tell_what_they_point_to(database: Database) -> None:
    made = await database.write(fill)
    await pull(database, "team/app", "v0", "user:bob", ago=60)
    await pull(database, "team/app", made["old"], "user:carol")

    v0, v1 = await database.survey(shown_tags.page, "team/app", **FAR)

    assert (v0.name, v0.image.digest, v0.image.platforms, v0.pushed_by) == ("v0", made["old"], ("linux/amd64",), ACTOR)
    assert (v0.pulled_by, v1.pulled_by, v1.pulled_at) == ("user:carol", None, None)
    assert v1.image.platforms == ("linux/amd64", "linux/arm64")
    assert v1.image.digest == made["both"]
    assert await database.survey(shown_tags.find, "team/app", "v1") == v1
    assert await database.survey(shown_tags.find, "team/app", "v2") is None
    assert await database.survey(shown_tags.page, "team/app", after="v0", limit=9) == [v1]
    await pull(database, "team/app", "v0", "user:dave")
    assert (await database.survey(shown_tags.page, "team/app", **FAR))[0].pulled_by == "user:dave"


async def test_deleted_tags_are_listed_while_they_can_be_restored(database: Database) -> None:
    made = await database.write(fill)
    await database.write(image, "team/app", b"newer", [1], "v0")
    for tag in ("v0", "v1"):
        await database.write(tags.delete, "team/app", tag, actor="user:bob", undo=WEEK)
    await database.write(manifests.delete, "team/app", made["both"], actor=ACTOR, undo=2 * WEEK)

    v0, v1 = await database.survey(shown_tags.deleted, "team/app", **FAR)

    assert (v0.image.digest, v0.deleted_by) == (Digest.of(b"newer"), "user:bob")
    assert v0.deleted_at is not None
    assert v0.restorable_until == v0.deleted_at + WEEK
    assert v1.restorable_until is not None
    assert v1.deleted_at is not None
    assert v1.restorable_until > v1.deleted_at + WEEK
    assert await database.survey(shown_tags.page, "team/app", **FAR) == []
    await database.write(image, "team/app", b"again", [1], "v0")
    assert [one.name for one in await database.survey(shown_tags.deleted, "team/app", **FAR)] == ["v1"]


async def test_what_nothing_holds_is_listed_as_untagged(database: Database) -> None:
    made = await database.write(fill)
    await database.write(tags.delete, "team/app", "v1", actor=ACTOR, undo=WEEK)
    alone = await database.survey(shown_manifests.page, "team/app", which="untagged", **FAR)
    await database.write(manifests.delete, "team/app", made["both"], actor=ACTOR, undo=WEEK)
    after = await database.survey(shown_manifests.page, "team/app", which="untagged", **FAR)

    assert [one.image.digest for one in alone] == [made["both"]]
    assert made["amd"] in [one.image.digest for one in after]


async def test_manifests_tell_what_they_name_and_who_names_them(database: Database) -> None:
    made = await database.write(fill)

    everything = await database.survey(shown_manifests.page, "team/app", which="all", **FAR)
    untagged = await database.survey(shown_manifests.page, "team/app", which="untagged", **FAR)
    both = await database.survey(shown_manifests.find, "team/app", tag="v1")
    same = await database.survey(shown_manifests.find, "team/app", digest=made["both"])

    assert [one.image.digest for one in everything] == sorted(
        made[name] for name in ("amd", "arm", "attestation", "both", "old")
    )
    assert untagged == []  # each belongs to an image that has one
    assert both is not None
    assert same == both
    assert both.tags == ["v1"]
    assert [(one.kind, one.platform, one.missing) for one in both.references if one.digest == made["amd"]] == [
        ("child", "linux/amd64", False)
    ]
    amd = await database.survey(shown_manifests.find, "team/app", digest=made["amd"])
    assert amd is not None
    assert {one.digest: one.size for one in amd.references} == {Digest.of(LAYERS[n]): len(LAYERS[n]) for n in (0, 1)}
    assert await database.survey(shown_manifests.find, "team/app", tag="none") is None
    assert await database.survey(shown_manifests.find, "team/other", digest=made["amd"]) is None


async def test_deleted_manifests_are_listed_apart(database: Database) -> None:
    made = await database.write(fill)
    await database.write(manifests.delete, "team/app", made["old"], actor="user:bob", undo=WEEK)

    (gone,) = await database.survey(shown_manifests.page, "team/app", which="deleted", **FAR)

    assert (gone.image.digest, gone.deleted_by) == (made["old"], "user:bob")
    assert gone.restorable_until is not None


async def test_usage_counts_shared_blobs_once(database: Database) -> None:
    made = await database.write(fill)
    everything = await database.survey(usage.of_group, prefix="")
    (_, app), (last, _) = await database.survey(usage.page, prefix="team/", **FAR)
    team = await database.survey(usage.of_group, prefix="team/")
    nothing = await database.survey(usage.of_group, prefix="nobody/")
    for name in ("amd", "arm", "attestation", "both"):
        await database.write(manifests.delete, "team/app", made[name], actor=ACTOR, undo=WEEK)
    await database.write(repositories.delete, "team/other", actor=ACTOR, undo=WEEK)
    after = await database.survey(usage.of_group, prefix="")

    assert everything == team
    assert last == "team/other"
    assert (everything.repositories, everything.logical) == (2, sizes(0, 1, 2) + sizes(0, 3))
    assert (everything.stored, everything.unique, everything.reclaimable) == (sizes(0, 1, 2, 3), sizes(0, 1, 2, 3), 0)
    assert (app.repositories, app.stored, app.unique) == (1, sizes(0, 1, 2), sizes(1, 2))
    assert nothing == usage.Usage(0, 0, 0, 0, 0)
    assert (after.repositories, after.stored, after.reclaimable) == (1, sizes(0, 1, 2, 3), sizes(0, 2, 3))


# -- the ways

BIG = (
    "tag",
    "manifest",
    "manifest_reference",
    "blob_link",
    "blob",
    "tag_history",
    "tag_pull",
    "manifest_pull",
    "repository",
)
FEW: dict[str, Any] = {"after": "", "limit": 5}
PAGES: list[Callable[[Connection], Any]] = [
    lambda c: shown_repositories.page(c, **FEW),
    lambda c: shown_repositories.deleted(c, after="", after_id=0, limit=5),
    lambda c: shown_repositories.find(c, "team/app"),
    lambda c: shown_tags.page(c, "team/app", **FEW),
    lambda c: shown_tags.find(c, "team/app", "v1"),
    lambda c: shown_tags.deleted(c, "team/app", **FEW),
    lambda c: shown_manifests.page(c, "team/app", which="all", **FEW),
    lambda c: shown_manifests.page(c, "team/app", which="untagged", **FEW),
    lambda c: shown_manifests.page(c, "team/app", which="deleted", **FEW),
    lambda c: shown_manifests.find(c, "team/app", tag="v1"),
]


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_reads_a_whole_table(sqlite_url: str, page: Callable[[Connection], Any]) -> None:
    """SQLite's planner, which has no statistics here, as on most volumes."""
    from stackyard.metadata import sqlite

    connection = sqlite.connect(sqlite.path_of(sqlite_url), write=True)
    fill(connection)
    driver: Any = connection.connection.driver_connection
    statements: list[str] = []
    driver.set_trace_callback(statements.append)
    page(connection)
    driver.set_trace_callback(None)
    plans = [row[3] for sql in statements for row in driver.execute(f"EXPLAIN QUERY PLAN {sql}")]
    sqlite.disconnect(connection)

    scans = [
        plan
        for plan in plans
        if (found := re.match(r"SCAN (\w+)(?! USING (COVERING )?INDEX)", plan)) and found[1] in BIG
    ]
    assert plans
    assert not scans, plans


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_reads_a_whole_table_of_a_server(postgresql_url: str, page: Callable[[Connection], Any]) -> None:
    from stackyard.metadata.database import open_database

    database = await open_database(postgresql_url)
    await database.write(fill)
    await database.write(_multiply)
    plans = await database.survey(_plans, page)
    await database.close()

    scans = re.findall(rf"Seq Scan on ({'|'.join(BIG)})\b", "\n".join(plans))
    assert plans
    assert not scans, "\n".join(plans)


COPIES = {
    "repository (name, listed, created_at)": "'r' || n, true, 0 FROM generate_series(1, 2000) n",
    "manifest (repository_id, digest, media_type, size, total_size, created_at, created_by, promised_until, payload)": (
        "r.id, 'sha256:' || md5(r.id || '-' || n), 'x', 1, 1, 0, 'a', 0, '' FROM repository r, generate_series(1, 10) n"
    ),
    "tag (repository_id, name, manifest_id, updated_at, updated_by)": (
        "repository_id, digest, id, 0, 'a' FROM manifest WHERE media_type = 'x'"
    ),
    "blob (digest, copy, location, size, state, created_at)": (
        "name, 0, name, 1, 'live', 0 FROM tag WHERE updated_by = 'a'"
    ),
    "blob_link (repository_id, digest, created_at, created_by, promised_until)": (
        "repository_id, name, 0, 'a', 0 FROM tag WHERE updated_by = 'a'"
    ),
    "manifest_reference (repository_id, digest, manifest_id, kind, required)": (
        "repository_id, name, manifest_id, 'layer', true FROM tag WHERE updated_by = 'a'"
    ),
    "tag_pull (repository_id, name, pulled_at, pulled_by, pulls)": (
        "repository_id, name, 0, 'a', 1 FROM tag WHERE updated_by = 'a'"
    ),
    "manifest_pull (manifest_id, pulled_at, pulled_by, pulls)": (
        "manifest_id, 0, 'a', 1 FROM tag WHERE updated_by = 'a'"
    ),
    "tag_history (repository_id, name, digest, set_at, set_by, ended_at, ended_by, reason, restorable_until)": (
        "repository_id, name || 'x', name, 0, 'a', 0, 'a', 'moved', 0 FROM tag WHERE updated_by = 'a'"
    ),
}


def _multiply(c: Connection) -> None:
    """Enough rows that reading them all would be dear, and statistics that say so."""
    for columns, rows in COPIES.items():
        c.exec_driver_sql(f"INSERT INTO {columns} SELECT {rows}")
    c.exec_driver_sql("ANALYZE")


def _plans(c: Connection, page: Callable[[Connection], Any]) -> list[str]:
    """How the server does each statement of a page."""
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        statements.append((statement, parameters))

    event.listen(c, "before_cursor_execute", note)
    page(c)
    event.remove(c, "before_cursor_execute", note)
    return [row[0] for sql, values in statements for row in c.exec_driver_sql(f"EXPLAIN {sql}", values)]
