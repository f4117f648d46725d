"""A volume of Distribution's as clients see it: while it is read, and what referrers it brings."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.http.client import Client
from tests.support import trees
from tests.support.trees import CONFIG, IMAGE, INDEX, Descriptor, Tree

from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata import imports
from stackyard.metadata.database import Database
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.telemetry.access import AccessLog

SIGNATURE = "application/vnd.example.signature"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "volume")


@pytest.fixture
async def registry(tree: Tree, database: Database) -> AsyncIterator[Registry]:
    """Over the tree, to be imported."""
    async with trees.opened(tree, database, Settings(), written=True) as registry:
        await registry.imports.look()
        yield registry


@pytest.fixture
def client(registry: Registry) -> Client:
    return Client(App(registry, opening.open_access(AuthSettings()), Origins(), AccessLog(enabled=False), {}))


async def test_the_catalogue_warns_while_the_volume_is_read(
    registry: Registry, client: Client, tree: Tree, database: Database
) -> None:
    """distribution-spec, "Warnings": `299 - "…"` without a date, 4096 bytes at most."""
    tree.image("a", tag="v1")
    await database.write(imports.begin, "reading")

    during = await client("GET", "/v2/_catalog")
    await registry.imports.run(None)
    after = await client("GET", "/v2/_catalog")

    assert re.fullmatch(r'299 - "[ -!#-\[\]-~]*still being read[ -!#-\[\]-~]*"', during.headers["warning"])
    assert "warning" not in after.headers


def _signature(tree: Tree, subject: Descriptor) -> Descriptor:
    config = tree.layer("a", b"{}") | {"mediaType": CONFIG}
    body = {"schemaVersion": 2, "mediaType": IMAGE, "artifactType": SIGNATURE, "config": config, "layers": []}
    return tree.manifest("a", body | {"subject": subject}) | {"artifactType": SIGNATURE}


async def test_what_a_fallback_tag_listed_is_a_referrer(client: Client, tree: Tree) -> None:
    """distribution-spec, "Enabling the Referrers API": clients without it listed referrers under a tag.

    The tag has the digest's form, with a dash; it stays a tag like any other.
    """
    image = tree.image("a", tree.layer("a", b"layer"), tag="v1")
    signature = _signature(tree, image)
    fallback = image["digest"].replace(":", "-")
    tree.index("a", signature, tag=fallback)

    got = await client("GET", f"/v2/a/referrers/{image['digest']}")
    tag = await client("GET", f"/v2/a/manifests/{fallback}")

    assert got.json()["manifests"] == [signature]
    assert (tag.status, tag.headers["content-type"]) == (200, INDEX)
    assert tag.json()["manifests"] == [signature]


async def test_a_referrer_that_is_pushed_afterwards_stands_beside_the_imported_ones(client: Client, tree: Tree) -> None:
    image = tree.image("a", tree.layer("a", b"layer"), tag="v1")
    signature = _signature(tree, image)
    tree.index("a", signature, tag=image["digest"].replace(":", "-"))
    config = (await client("GET", f"/v2/a/manifests/{signature['digest']}")).json()["config"]
    subject = {"mediaType": IMAGE, "digest": image["digest"], "size": image["size"]}
    new = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [], "subject": subject}

    put = await client("PUT", "/v2/a/manifests/new", json.dumps(new).encode(), content_type=IMAGE)
    got = await client("GET", f"/v2/a/referrers/{image['digest']}")

    assert (put.status, put.headers["oci-subject"]) == (201, image["digest"])
    found = {each["digest"] for each in got.json()["manifests"]}
    assert found == {signature["digest"], put.headers["docker-content-digest"]}
