"""Immutable tags and forms of tags, over HTTP."""

import asyncio
import json
from base64 import b64encode
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from tests.http.client import Client
from tests.http.content import CONFIG, LAYER, image, index, push_blob, push_image, put_manifest
from tests.support import htpasswd

from stackyard.auth import opening
from stackyard.auth.principals import Kind, Principal
from stackyard.auth.settings import HtpasswdSettings
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.metadata.schema import audit
from stackyard.oci.digests import Digest
from stackyard.registry.rules import FORM, IMMUTABLE

OTHER = image(annotations={"other": "yes"})


async def add(app: App, kind: str, **detail: Any) -> int:
    return (await app.registry.rules.add(kind, {"repositories": "**"} | detail, actor="user:root")).id


def error(got: Any) -> tuple[int, str, str]:
    [entry] = json.loads(got.body)["errors"]
    return got.status, entry["code"], entry["message"]


async def test_an_immutable_tag_takes_the_same_digest_and_no_other(app: App, client: Client) -> None:
    await add(app, IMMUTABLE, tags=["v*"], excluding=["v0*"])
    first = await push_image(client, "a", "v1")

    assert (await put_manifest(client, "a", "v1", first)).status == 201
    assert error(await put_manifest(client, "a", "v1", OTHER)) == (
        409,
        "DENIED",
        "tag v1 of a is immutable: it stays with the image that it was pushed with; push this one under another tag",
    )
    assert (await client("GET", "/v2/a/manifests/v1")).body == first
    assert (await put_manifest(client, "a", "v2", OTHER)).status == 201
    for manifest in (first, OTHER):
        assert (await put_manifest(client, "a", "v0.1", manifest)).status == 201
        assert (await put_manifest(client, "a", "latest", manifest)).status == 201


async def test_a_refused_tag_beside_others_changes_nothing(app: App, client: Client) -> None:
    await add(app, IMMUTABLE, tags=["v*"])
    first = await push_image(client, "a", "v1")

    url = f"/v2/a/manifests/{Digest.of(OTHER)}?tag=new&tag=v1"
    got = await client("PUT", url, OTHER, content_type=json.loads(OTHER)["mediaType"])

    assert got.status == 409
    assert (await client("GET", "/v2/a/manifests/new")).status == 404
    assert (await client("GET", f"/v2/a/manifests/{Digest.of(OTHER)}")).status == 404
    assert (await client("GET", "/v2/a/manifests/v1")).body == first


async def test_of_two_who_set_an_immutable_tag_at_once_one_is_refused(app: App, client: Client) -> None:
    await add(app, IMMUTABLE, tags=["v*"])
    await push_image(client, "a", "latest")

    for number in range(5):
        images = [image(annotations={"number": f"{number} {side}"}) for side in "abc"]
        got = await asyncio.gather(*(put_manifest(client, "a", f"v{number}", one) for one in images))
        assert sorted(one.status for one in got) == [201, 409, 409]


async def test_it_is_deleted_neither_by_tag_nor_by_digest_nor_through_an_index(app: App, client: Client) -> None:
    child = await push_image(client, "a", "child")
    above = index(child)
    await put_manifest(client, "a", "v1", above)
    await put_manifest(client, "a", "v2", index(above))
    await add(app, IMMUTABLE, tags=["v*"])

    assert error(await client("DELETE", "/v2/a/manifests/v1")) == (
        409,
        "DENIED",
        "tag v1 of a is immutable and cannot be deleted",
    )
    for manifest in (child, above):
        assert error(await client("DELETE", f"/v2/a/manifests/{Digest.of(manifest)}")) == (
            409,
            "DENIED",
            "it belongs to immutable tags of a and cannot be deleted: v1, v2",
        )
    assert (await client("DELETE", "/v2/a/manifests/child")).status == 202
    assert (await client("GET", "/v2/a/manifests/v1")).body == above


async def test_nor_is_a_blob_of_it(app: App, client: Client) -> None:
    child = await push_image(client, "a", "child")
    await put_manifest(client, "a", "v1", index(child))
    unused = await push_blob(client, "a", b"unused")
    await add(app, IMMUTABLE, tags=["v*"])

    for content in (LAYER, CONFIG):
        got = await client("DELETE", f"/v2/a/blobs/{Digest.of(content)}")
        assert error(got) == (409, "DENIED", "it belongs to immutable tags of a and cannot be deleted: v1")
        assert (await client("HEAD", f"/v2/a/blobs/{Digest.of(content)}")).status == 200
    assert (await client("DELETE", f"/v2/a/blobs/{unused}")).status == 202
    assert (await client("DELETE", f"/v2/a/blobs/{unused}")).status == 404
    await app.registry.blobs.delete("a", Digest.of(LAYER), actor="user:root", admin=True)


async def test_a_long_list_of_tags_is_cut(app: App, client: Client) -> None:
    manifest = await push_image(client, "a", "v0")
    for number in range(1, 8):
        await put_manifest(client, "a", f"v{number}", manifest)
    await add(app, IMMUTABLE)

    got = await client("DELETE", f"/v2/a/manifests/{Digest.of(manifest)}")

    assert error(got)[2] == "it belongs to immutable tags of a and cannot be deleted: v0, v1, v2, v3, v4 and 3 more"


async def test_without_the_rule_everything_is_as_before(app: App, client: Client) -> None:
    rule = await add(app, IMMUTABLE)
    manifest = await push_image(client, "a", "v1")

    await app.registry.rules.remove(rule, actor="user:root")

    assert (await put_manifest(client, "a", "v1", OTHER)).status == 201
    assert (await client("DELETE", f"/v2/a/manifests/{Digest.of(manifest)}")).status == 202


async def test_a_form_is_asked_of_new_and_moved_tags(app: App, client: Client) -> None:
    manifest = await push_image(client, "a", "old")
    await add(app, FORM, repositories="a", pattern="version-date-commit", excluding=["latest"])

    refused = error(await put_manifest(client, "a", "1.0.0-20230229-a1b2c3d", manifest))

    assert refused == (
        400,
        "TAG_INVALID",
        "tag '1.0.0-20230229-a1b2c3d' is refused here: tags of a are VERSION-DATE-COMMIT, such as "
        "1.0.0-20230801-a1b2c3d (a real date, 7 to 40 hex digits), or one of latest",
    )
    assert (await put_manifest(client, "a", "old", OTHER)).status == 400
    assert (await put_manifest(client, "a", "old", manifest)).status == 201  # it is there already
    assert (await put_manifest(client, "a", "latest", manifest)).status == 201
    assert (await put_manifest(client, "a", "1.0.0-20240229-a1b2c3d", manifest)).status == 201
    await push_image(client, "b", "anything")


async def test_an_administrator_is_let_through_and_that_is_recorded(app: App, client: Client) -> None:
    manifest = await push_image(client, "a", "v1")
    await add(app, IMMUTABLE, tags=["v*"])
    await add(app, FORM, pattern="v*")
    manifests = app.registry.manifests
    media_type = json.loads(OTHER)["mediaType"]
    put = partial(manifests.put, content_type=media_type, actor="user:root", admin=True)
    delete = partial(manifests.delete, "a", actor="user:root", admin=True)

    await put("a", "v1", (), OTHER)
    await put("a", "other", (), OTHER)
    await delete("v1")
    await put("a", "v1", (), manifest)
    await delete(Digest.of(manifest))

    recorded = [(actor, json.loads(detail)["tags"]) for actor, detail in await manifests.database.read(_overrides)]
    assert recorded == [("user:root", [tag]) for tag in ("v1", "other", "v1", "v1")]


async def test_bringing_an_immutable_tag_back_to_something_else_is_recorded(app: App, client: Client) -> None:
    await push_image(client, "a", "v1")
    assert (await put_manifest(client, "a", "v1", OTHER)).status == 201
    await add(app, IMMUTABLE, tags=["v*"])
    restore = partial(app.registry.tags.restore, "a", "v1", at=None, actor="user:root")

    await restore(digest=Digest.of(OTHER))  # it is there
    await restore(digest=None)

    recorded = await app.registry.manifests.database.read(_overrides)
    assert [(actor, json.loads(detail)["tags"]) for actor, detail in recorded] == [("user:root", ["v1"])]


def test_only_those_on_the_list_are_administrators(app: App) -> None:
    access = app.access

    assert not access.administers(Principal(Kind.ANONYMOUS))
    assert not access.administers(Principal(Kind.USER, "alice"))


def _overrides(c: Connection) -> list[tuple[str, str]]:
    rows = c.execute(
        select(audit.c.actor, audit.c.detail).where(audit.c.action == "rule.override").order_by(audit.c.id)
    )
    return [(row[0], row[1]) for row in rows]


async def test_an_administrator_who_logs_in_may_move_an_immutable_tag(app: App, tmp_path: Path) -> None:
    passwords = htpasswd.write(tmp_path / "htpasswd", {"root": "secret", "alice": "secret"})
    settings = AuthSettings(provider=HtpasswdSettings(passwords, "x"), admins=frozenset({"root"}))
    client = Client(replace(app, access=opening.open_access(settings)))
    root, alice = (f"Basic {b64encode(f'{name}:secret'.encode()).decode()}" for name in ("root", "alice"))
    first = await push_image(Client(app), "a", "v1")
    await add(app, IMMUTABLE, tags=["v*"])

    async def push(manifest: bytes, login: str) -> int:
        how = {"content_type": json.loads(manifest)["mediaType"], "authorization": login}
        return (await client("PUT", "/v2/a/manifests/v1", manifest, **how)).status

    assert await push(OTHER, alice) == 409
    assert await push(OTHER, root) == 201
    assert (await client("DELETE", f"/v2/a/manifests/{Digest.of(OTHER)}", authorization=alice)).status == 409
    assert (await client("DELETE", f"/v2/a/manifests/{Digest.of(OTHER)}", authorization=root)).status == 202
    assert await push(first, alice) == 201
    overrides = await app.registry.manifests.database.read(_overrides)
    assert [actor for actor, _ in overrides] == ["user:root", "user:root"]
    await client.app.access.close()
