"""`/api/v1/audit`."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from tests.http.client import Client

from stackyard.http.app import App
from stackyard.metadata import audit


async def test_what_was_changed_is_listed(app: App, admin: Client) -> None:
    database = app.registry.audit.database
    for n in range(3):
        await database.write(audit.record, actor="user:alice", action="tag.delete", repository="a", tag=f"v{n}")
    await database.write(audit.record, actor="local:root", action="gc.start")
    tomorrow = quote((datetime.now(UTC) + timedelta(days=1)).isoformat())

    page = (await admin("GET", "/api/v1/audit?actor=user:alice&repository=a&limit=2")).json()
    rest = (await admin("GET", page["next"])).json()

    assert [one["detail"] for one in page["items"] + rest["items"]] == [{"tag": "v2"}, {"tag": "v1"}, {"tag": "v0"}]
    assert page["items"][0]["happened_at"].endswith("Z")
    assert (await admin("GET", f"/api/v1/audit?since={tomorrow}")).json()["items"] == []
    assert len((await admin("GET", f"/api/v1/audit?until={tomorrow}")).json()["items"]) == 4


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=yesterday", 422),
        ("since=2026-01-01T00:00:00", 422),
        ("actor=%00", 422),
        ("after=0", 422),
        ("after=x", 422),
        ("until=0001-01-01T00:00:00%2B14:00", 200),
        ("since=9999-12-31T23:59:59-14:00", 200),
    ],
)
async def test_filters_that_mean_nothing_are_refused(admin: Client, query: str, status: int) -> None:
    got = await admin("GET", f"/api/v1/audit?{query}")

    assert got.status == status
