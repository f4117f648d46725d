"""`/api/v1/jobs`."""

from typing import Any

from tests.http.client import Client

from stackyard.http.app import App
from stackyard.registry.jobs import Work


async def test_a_job_is_followed_to_its_end(app: App, admin: Client) -> None:
    asked = await app.registry.jobs.ask("count", {"to": 2}, actor="local:root")
    url = f"/api/v1/jobs/{asked.id}"
    seen = []

    async def count(work: Work, request: Any) -> dict[str, Any]:
        await work.report("counting", 1, request["to"], unit="bytes", checkpoint=[1], at_once=True)
        seen.append((await admin("GET", url)).json())
        return {"counted": 2}

    before = (await admin("GET", url)).json()
    await app.registry.jobs.do("count", count)
    after = (await admin("GET", url)).json()

    assert (before["state"], before["progress"], before["result"]) == ("queued", None, None)
    assert seen[0]["progress"] == {"step": "counting", "done": 1, "total": 2, "unit": "bytes"}
    assert (after["state"], after["result"], after["created_by"]) == ("done", {"counted": 2}, "local:root")
    assert after["finished_at"].endswith("Z")


async def test_jobs_are_listed_and_cancelled(app: App, admin: Client) -> None:
    numbers = [(await app.registry.jobs.ask("x", {}, actor="local:root")).id for _ in range(3)]

    cancelled = await admin("DELETE", f"/api/v1/jobs/{numbers[0]}")
    posted = await admin("POST", f"/api/v1/jobs/{numbers[1]}/cancel")
    first = (await admin("GET", "/api/v1/jobs?limit=2")).json()
    rest = (await admin("GET", first["next"])).json()
    still_open = (await admin("GET", "/api/v1/jobs?only_open=true")).json()

    assert (cancelled.status, cancelled.json()["state"]) == (202, "cancelled")
    assert (posted.status, posted.json()["state"]) == (202, "cancelled")
    assert [job["id"] for job in first["items"] + rest["items"]] == numbers[::-1]
    assert rest["next"] is None
    assert [job["id"] for job in still_open["items"]] == numbers[2:]


async def test_a_job_that_is_not_there_is_a_problem(admin: Client) -> None:
    for method, url, status in (
        ("GET", "/api/v1/jobs/7", 404),
        ("DELETE", "/api/v1/jobs/7", 404),
        ("GET", f"/api/v1/jobs/{2**64}", 422),
        ("GET", f"/api/v1/jobs?after={2**64}", 422),
        ("GET", "/api/v1/jobs/0", 422),
    ):
        got = await admin(method, url)

        assert (got.status, got.headers["content-type"]) == (status, "application/problem+json")
