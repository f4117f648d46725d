"""Whether the registry can do its work, found out in the background and asked for free."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

log = structlog.get_logger("stackyard.health")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must work."""

    name: str
    probe: Callable[[], Awaitable[None]]
    """Raises, with the reason, when it does not."""
    interval: timedelta = timedelta(seconds=10)
    threshold: int = 1
    """Failures in a row before the registry calls itself unhealthy."""
    timeout: timedelta = timedelta(seconds=10)


@dataclass(slots=True)
class Health:
    """The checks of one worker."""

    checks: Sequence[Check] = ()
    failing: dict[str, str] = field(default_factory=dict)
    """Name of each failing check and why. Empty: healthy."""

    async def run(self) -> None:
        """Probe for ever; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            for check in self.checks:
                group.create_task(self._watch(check))

    async def _watch(self, check: Check) -> None:
        failures = 0
        while True:
            reason = await _probe(check)
            failures = failures + 1 if reason else 0
            if reason and failures >= check.threshold:
                if check.name not in self.failing:
                    log.error("health check fails", check=check.name, reason=reason)
                self.failing[check.name] = reason
            elif self.failing.pop(check.name, None):
                log.info("health check passes again", check=check.name)
            await asyncio.sleep(check.interval.total_seconds())


async def _probe(check: Check) -> str:
    try:
        async with asyncio.timeout(check.timeout.total_seconds()):
            await check.probe()
    except TimeoutError:
        return f"no answer within {check.timeout.total_seconds():g} s"
    except Exception as error:  # a probe may fail in any way its target can
        return str(error) or type(error).__name__
    return ""
