"""Pulls as they are counted: what is one, what it costs, and what happens when the database cannot be written."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, select, text
from tests.http.client import Client
from tests.http.content import image, index, push_image, put_manifest
from tests.metadata.making import ACTOR

from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.database import Database
from stackyard.metadata.schema import manifest, manifest_pull, tag_pull
from stackyard.oci.digests import Digest
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore
from stackyard.telemetry.access import AccessLog


@dataclass(frozen=True)
class Someone:
    actor: str = ACTOR


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry.over(MemoryStore(), database, Settings())


@pytest.fixture
def client(registry: Registry) -> Client:
    return Client(App(registry, opening.open_access(AuthSettings()), Origins(), AccessLog(enabled=False), {}))


async def test_what_counts_as_a_pull(registry: Registry, client: Client) -> None:
    payload = await push_image(client, "a", "v1")
    digest = Digest.of(payload)

    for method, reference in [("GET", "v1"), ("HEAD", "v1"), ("GET", digest), ("HEAD", digest)]:
        assert (await client(method, f"/v2/a/manifests/{reference}")).status == 200
    got = await client("GET", "/v2/a/manifests/v1", if_none_match=f'"{digest}"')
    assert got.status == 304
    assert (await client("GET", "/v2/a/manifests/v2")).status == 404
    await registry.pulls.flush()

    assert await registry.pulls.database.read(_counts) == ([("v1", 3)], [(digest, 1)])


async def test_two_batches_add_up(registry: Registry, client: Client) -> None:
    await push_image(client, "a", "v1")
    await put_manifest(client, "a", "all", index(image()))

    for _ in range(2):
        registry.pulls.record("a", "v1", Someone())
        registry.pulls.record("a", "all", Someone())
        registry.pulls.record("a", "v1", Someone())
        await registry.pulls.flush()
    await registry.pulls.flush()

    assert (await registry.pulls.database.read(_counts))[0] == [("all", 2), ("v1", 4)]


async def test_a_batch_that_could_not_be_written_is_written_later(registry: Registry, client: Client) -> None:
    await push_image(client, "a", "v1")
    registry.pulls.record("a", "v1", Someone())
    await registry.pulls.database.write(lambda c: c.execute(text("ALTER TABLE tag_pull RENAME TO away")))

    with pytest.raises(Exception, match="tag_pull"):
        await registry.pulls.flush()
    registry.pulls.record("a", "v1", Someone())
    await registry.pulls.close()

    await registry.pulls.database.write(lambda c: c.execute(text("ALTER TABLE away RENAME TO tag_pull")))
    await registry.pulls.flush()
    assert (await registry.pulls.database.read(_counts))[0] == [("v1", 2)]


async def test_thousands_are_written_in_short_transactions(registry: Registry, client: Client) -> None:
    payload = await push_image(client, "a", "v0")
    tags = [f"v{number}" for number in range(600)]
    for tag in tags:
        await put_manifest(client, "a", tag, payload)
        registry.pulls.record("a", tag, Someone())

    await registry.pulls.flush()

    assert (await registry.pulls.database.read(_counts))[0] == [(tag, 1) for tag in sorted(tags)]


def _counts(c: Connection) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    tags = c.execute(select(tag_pull.c.name, tag_pull.c.pulls).order_by(tag_pull.c.name))
    of_manifests = (
        select(manifest.c.digest, manifest_pull.c.pulls)
        .join(manifest_pull, manifest_pull.c.manifest_id == manifest.c.id)
        .order_by(manifest.c.digest)
    )
    return [(row[0], row[1]) for row in tags], [(row[0], row[1]) for row in c.execute(of_manifests)]
