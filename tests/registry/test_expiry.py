"""What an image says of itself: when its tag expires, and what it runs on."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select
from tests.http.client import Client
from tests.http.content import LAYER, descriptor, index, push_blob, put_manifest

from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.database import Database
from stackyard.metadata.schema import manifest as manifests
from stackyard.metadata.schema import tag as tags
from stackyard.oci.configs import DOCKER_CONFIG, OCI_CONFIG, ImageConfig, parse
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_MANIFEST
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore
from stackyard.telemetry.access import AccessLog

DAY = timedelta(days=1)


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry.over(MemoryStore(), database, Settings(delete_enabled=True))


@pytest.fixture
def client(registry: Registry) -> Client:
    return Client(App(registry, opening.open_access(AuthSettings()), Origins(), AccessLog(enabled=False), {}))


def config(labels: dict[str, str] | None = None, **members: Any) -> bytes:
    return json.dumps({"os": "linux", "architecture": "amd64", "config": {"Labels": labels}} | members).encode()


async def push(
    client: Client, tag: str, content: bytes, media_type: str = OCI_CONFIG, annotations: dict[str, str] | None = None
) -> bytes:
    """An image with this configuration; its manifest."""
    for blob in (content, LAYER):
        await push_blob(client, "a", blob)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(content, media_type),
        "layers": [descriptor(LAYER)],
        "annotations": annotations or {},
    }
    payload = json.dumps(document).encode()
    assert (await put_manifest(client, "a", tag, payload)).status == 201
    return payload


async def left(registry: Registry, tag: str) -> float | None:
    """Days until the tag expires, to the nearest tenth."""

    def read(c: Connection) -> datetime | None:
        return c.scalar(select(tags.c.expires_at).where(tags.c.name == tag))

    found = await registry.manifests.database.read(read)
    return None if found is None else round((found - datetime.now(UTC)) / DAY, 1)


async def platform(registry: Registry, payload: bytes) -> str | None:
    query = select(manifests.c.platform).where(manifests.c.digest == Digest.of(payload))
    found: str | None = await registry.manifests.database.read(lambda c: c.scalar(query))
    return found


@pytest.mark.parametrize("media_type", [OCI_CONFIG, DOCKER_CONFIG])
async def test_a_label_says_when_the_tag_expires(registry: Registry, client: Client, media_type: str) -> None:
    payload = await push(client, "t", config({"quay.expires-after": "2w"}), media_type)

    assert await left(registry, "t") == 14.0
    assert await platform(registry, payload) == "linux/amd64"


async def test_an_annotation_wins_over_a_label_and_our_name_over_the_other(registry: Registry, client: Client) -> None:
    ours, theirs = {"stackyard.expires-after": "3d"}, {"quay.expires-after": "5d"}

    await push(client, "a", config(ours), annotations=theirs)
    await push(client, "b", config(theirs | ours))
    await push(client, "c", config())

    assert [await left(registry, tag) for tag in "abc"] == [5.0, 3.0, None]


@pytest.mark.parametrize("value", ["soon", "0d", "", "-1d", "1y", "\ud800", "9" * 30 + "d", "2 weeks"])
async def test_what_is_no_length_of_time_is_ignored(
    registry: Registry, client: Client, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(client, "t", config({"stackyard.expires-after": value}))

    assert await left(registry, "t") is None
    assert "no length of time such as 14d" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"no json", b"[]", b"[" * 100_000, b'{"config": [], "os": 1}', b'{"config": {"Labels": "x"}}']
)
async def test_a_configuration_that_cannot_be_read_is_no_error(
    registry: Registry, client: Client, content: bytes
) -> None:
    payload = await push(client, "t", content)

    assert await left(registry, "t") is None
    assert await platform(registry, payload) is None


async def test_other_configurations_and_large_ones_are_not_read(registry: Registry, client: Client) -> None:
    labels = {"stackyard.expires-after": "1d"}
    await push(client, "helm", config(labels), "application/vnd.cncf.helm.config.v1+json")
    await push(client, "large", config(labels, padding="x" * 1024 * 1024))
    await push(client, "small", config(labels, padding="x" * 512 * 1024))

    assert [await left(registry, tag) for tag in ("helm", "large", "small")] == [None, None, 1.0]


async def test_pushing_again_lets_it_live_longer_and_another_image_says_anew(
    registry: Registry, client: Client
) -> None:
    payload = await push(client, "t", config({"stackyard.expires-after": "1d"}))
    query = select(tags.c.expires_at)
    first = await registry.manifests.database.read(lambda c: c.scalar(query))
    await asyncio.sleep(0.01)

    await put_manifest(client, "a", "t", payload)
    second = await registry.manifests.database.read(lambda c: c.scalar(query))
    assert first is not None
    assert second is not None
    assert second > first

    await push(client, "t", config())
    assert await left(registry, "t") is None


async def test_an_index_expires_with_the_last_of_its_images_when_all_do(registry: Registry, client: Client) -> None:
    short = await push(client, "short", config({"quay.expires-after": "1d"}))
    long = await push(client, "long", config({"quay.expires-after": "3d"}, architecture="arm64", variant="v8"))
    ever = await push(client, "ever", config(architecture="s390x"))
    attestation = await push(client, "att", config(os="unknown", architecture="unknown"))

    await put_manifest(client, "a", "all", index(short, long, attestation))
    await put_manifest(client, "a", "some", index(short, ever))
    await put_manifest(client, "a", "own", index(short, annotations={"stackyard.expires-after": "9d"}))

    assert [await left(registry, tag) for tag in ("all", "some", "own")] == [3.0, None, 9.0]
    assert await platform(registry, long) == "linux/arm64/v8"


def test_a_platform_needs_both_its_parts() -> None:
    assert parse(b'{"os": "linux", "variant": "v8"}') == ImageConfig()
    assert parse(b'{"os": "linux", "architecture": "a\\u0000"}') == ImageConfig()
    assert parse(b'{"config": {"Labels": {"a": 1, "b": "c"}}}') == ImageConfig(None, {"b": "c"})
