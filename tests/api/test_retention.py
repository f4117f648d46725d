"""`/api/v1/retention`."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from tests.http.client import Client, Got
from tests.http.content import image, push_image, put_manifest

from stackyard.http.app import App
from stackyard.jobs.runner import Runner
from stackyard.metadata.schema import installation, tag
from stackyard.server.kinds import kinds

URL = "/api/v1/retention"
LONG_AGO = datetime.now(UTC) - timedelta(days=90)


@pytest.fixture(autouse=True)
async def running(app: App) -> AsyncIterator[None]:
    """What does the jobs."""
    task = asyncio.create_task(Runner(app.registry.jobs, kinds(app.registry)).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def filled(app: App, client: Client, admin: Client) -> None:
    """Old tags and new ones, in two repositories, and a rule about both."""
    database = app.registry.manifests.database
    await database.write(lambda c: c.execute(update(installation).values(pulls_since=LONG_AGO - timedelta(days=9))))
    for repository, tags in (("a", ("v1", "v2", "old")), ("b", ("old1", "old2", "v1"))):
        await push_image(client, repository, "v1")
        for number, name in enumerate(tags):
            await put_manifest(client, repository, name, image(annotations={"n": f"{number}"}))
    old = tag.c.name.startswith("old")
    await database.write(lambda c: c.execute(update(tag).where(old).values(updated_at=LONG_AGO)))
    rule = {"kind": "retention", "repositories": "*", "keep": {"pulled": "30d"}}
    got = await admin("POST", "/api/v1/rules", json.dumps(rule).encode(), content_type="application/json")
    assert got.status == 201, got


async def run(admin: Client, **request: object) -> Got:
    got = await admin("POST", f"{URL}/run", json.dumps(request).encode(), content_type="application/json")
    assert got.status == 202
    while got.json()["finished_at"] is None:
        await asyncio.sleep(0.02)
        got = await admin("GET", f"/api/v1/jobs/{got.json()['id']}")
    return got


async def test_the_preview_says_what_goes_and_why(filled: None, client: Client, admin: Client) -> None:
    assert (await client("GET", "/v2/b/manifests/old2")).status == 200

    repositories = (await admin("GET", f"{URL}/repositories?limit=1")).json()
    rest = (await admin("GET", repositories["next"])).json()
    assert repositories["items"] + rest["items"] == [
        {"repository": "a", "tags": 3, "goes": 1, "held_back": False},
        {"repository": "b", "tags": 3, "goes": 1, "held_back": False},
    ]
    page = (await admin("GET", f"{URL}/preview?repository=b&limit=2")).json()
    more = (await admin("GET", page["next"])).json()
    verdicts = page["items"] + more["items"]
    assert [(one["tag"], one["goes"], one["reason"]) for one in verdicts] == [
        ("old1", True, "not pulled since it was pushed 90 days ago"),
        ("old2", False, "pulled 0 seconds ago, within 30d"),
        ("v1", False, "pushed 0 seconds ago, and it has 30d to be pulled"),
    ]
    assert more["next"] is None
    assert verdicts[0]["rules"] == verdicts[1]["rules"]
    assert (await admin("GET", f"{URL}/preview?repository=none")).json()["code"] == "NAME_UNKNOWN"


async def test_a_run_is_a_job(filled: None, client: Client, admin: Client) -> None:
    ended = (await run(admin)).json()

    assert ended["state"] == "done"
    assert ended["result"] == {"repositories": 2, "tags": 1, "kept": 5, "held_back": ["b"]}
    forced = (await run(admin, repository="b", force=True)).json()
    assert forced["result"] == {"repositories": 1, "tags": 2, "kept": 1, "held_back": []}
    assert json.loads((await client("GET", "/v2/b/tags/list")).body)["tags"] == ["v1"]
    failed = (await run(admin, repository="none")).json()
    assert (failed["state"], failed["result"]["code"]) == ("failed", "NAME_UNKNOWN")
