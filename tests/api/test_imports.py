"""What was taken over, and giving it back, over HTTP."""

from tests.http.client import Client

from stackyard.http.app import App
from stackyard.metadata import imports
from stackyard.metadata.imports import Problem
from stackyard.server.kinds import kinds


async def test_the_import_and_its_problems_are_shown_page_by_page(app: App, admin: Client) -> None:
    database = app.registry.imports.database
    await database.write(imports.settle, written=False)
    await database.write(imports.add_problems, [Problem(f"a/{number}", "skipped: why") for number in range(3)])

    found = (await admin("GET", "/api/v1/import")).json()
    first = (await admin("GET", "/api/v1/import/problems?limit=2")).json()
    second = (await admin("GET", first["next"])).json()

    assert (found["state"], found["problems"]) == ("done", 3)
    assert [one["path"] for one in first["items"] + second["items"]] == ["a/0", "a/1", "a/2"]
    assert second["next"] is None


async def test_where_there_is_no_volume_none_is_given_back(app: App, admin: Client) -> None:
    asked = await admin("POST", "/api/v1/distribution", x_requested_with="test")

    await app.registry.jobs.do("distribution", kinds(app.registry)["distribution"])

    job = (await admin("GET", asked.headers["location"])).json()
    assert (asked.status, job["state"], job["result"]["code"]) == (202, "failed", "UNSUPPORTED")
