"""Retention as a job that somebody asked for."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stackyard.registry.cleanup import Cleanup, Outcome
from stackyard.registry.jobs import Work


async def retention(cleanup: Cleanup, work: Work, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove what the rules let go, of one repository or of all. Begun again, it finds what is left to do."""

    async def tell(outcome: Outcome, repository: str) -> None:
        await work.report(f"looking at {repository}", outcome.tags, unit="tags removed")

    outcome = await cleanup.run(repository=request.get("repository"), force=bool(request.get("force")), tell=tell)
    return asdict(outcome)
