"""Tags that go by rule: shown before, removed on a schedule or on demand, and those whose images said when."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from stackyard.metadata import holds, leases, repositories
from stackyard.metadata import pulls as pull_rows
from stackyard.metadata import retention as rows
from stackyard.metadata.database import Database
from stackyard.metadata.retention import Doomed, Seen
from stackyard.oci.errors import NameUnknown, Unavailable
from stackyard.registry import retention, tagrules
from stackyard.registry.guards import TagGuard
from stackyard.registry.leases import Lease, Leases
from stackyard.registry.pulls import Pulls
from stackyard.registry.retention import Tag, Verdict
from stackyard.registry.rules import Policy, Rules
from stackyard.registry.settings import Settings

log = structlog.get_logger("stackyard.retention")

RETENTION, EXPIRY = "retention", "expiry"
"""Names of the leases, and who acts."""
_TAGS_PER_READ, _TAGS_PER_WRITE, _REPOSITORIES_PER_READ = 200, 10, 100
_LARGE = 2_000  # tags that are judged in a thread, lest others wait
_LOOK = timedelta(seconds=5)  # one small read
_PATIENCE = timedelta(seconds=30)
_READ_ON = 30  # seconds
_LATELY = timedelta(hours=2)  # the collector looks every hour at least
_SHARE = 0.2  # of its time that the background takes at most, so that whoever pushes finds the way free


@dataclass(frozen=True, slots=True)
class Preview:
    """What retention would do with one repository."""

    repository: str
    verdicts: Sequence[Verdict]

    @property
    def doomed(self) -> list[Verdict]:
        """What goes."""
        return [verdict for verdict in self.verdicts if verdict.goes]

    @property
    def is_too_much(self) -> bool:
        """More than half would go: a run asks first."""
        return retention.is_too_much(self.verdicts)


@dataclass(slots=True)
class Outcome:
    """What a run did."""

    repositories: int = 0
    """Looked at, because a rule is about them."""
    tags: int = 0
    """Removed."""
    kept: int = 0
    held_back: list[str] = field(default_factory=list)
    """Repositories of which more than half would have gone, and nothing was removed."""


Tell = Callable[[Outcome, str], Awaitable[None]]


async def _silent(outcome: Outcome, repository: str) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Cleanup:
    """Retention and expiry of this registry."""

    database: Database
    settings: Settings
    leases: Leases
    rules: Rules
    pulls: Pulls
    _shown: dict[str, Preview] = field(default_factory=dict, init=False)
    _said: str = field(default="", init=False)

    async def preview(self, repository: str) -> Preview:
        """What would go of one repository and why, and why the rest is kept. Raises NameUnknown."""
        if not await self.database.read(repositories.exists, repository):
            raise NameUnknown(name=repository)
        await self.pulls.flush()
        return await self._judge(await self.rules.policy(), repository)

    async def verdicts(self, repository: str, *, after: str, limit: int) -> list[Verdict]:
        """A page of a preview, strictly after `after` ('': from the first tag). Raises NameUnknown.

        Who reads on shortly afterwards reads on in the same preview, since each has to judge all tags.
        """
        found = self._shown.get(repository) if after else None
        if found is None:
            found = await self.preview(repository)
            self._shown = {repository: found}
            asyncio.get_running_loop().call_later(_READ_ON, self._forget, found)
        return [one for one in found.verdicts if one.tag.name > after][:limit]

    def _forget(self, shown: Preview) -> None:
        if self._shown.get(shown.repository) is shown:
            self._shown = {}

    async def previews(self, *, after: str, limit: int) -> list[Preview]:
        """Of repositories that a rule is about, in the order of their names, strictly after `after`."""
        await self.pulls.flush()
        policy = await self.rules.policy()
        found: list[Preview] = []
        async for name in self._repositories(policy, after):
            found.append(await self._judge(policy, name))
            if len(found) == limit:
                break
        return found

    async def run(
        self, *, repository: str | None = None, force: bool = False, tell: Tell = _silent, share: float = 1.0
    ) -> Outcome:
        """Remove what the rules let go, of one repository or of all. What goes can be restored.

        Args:
            force: Also where more than half of a repository's tags go.
            tell: Called before each repository. What it raises ends the run.
            share: Of its time that the run works.

        Raises:
            NameUnknown: There is no such repository.
            Unavailable: Another process is at it and does not end, or the clock is not to be believed.
        """

        async def work(lease: Lease) -> Outcome:
            return await self._run(lease, repository=repository, force=force, tell=tell, share=share)

        return await self.leases.insist(f"{RETENTION}.run", work, patience=_PATIENCE)

    async def keep(self, schedule: str) -> None:
        """Remove on a schedule what the rules let go, and expired tags when their time has come; cancel to stop.

        `schedule` is as in cron, in UTC; empty: only expired tags.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.leases.keep_running(EXPIRY, self.expire, every=_LOOK, when=self._is_any_expired))
            if schedule:
                work = Scheduled(self, schedule)
                group.create_task(self.leases.keep_running(RETENTION, work.round, every=_LOOK, when=work.is_time))

    # -- retention

    async def _run(self, lease: Lease, *, repository: str | None, force: bool, tell: Tell, share: float) -> Outcome:
        outcome = Outcome()
        if reason := await self._paused():
            raise Unavailable(f"{reason}; if the clock is right, say: stackyard gc --resume")
        if repository and not await self.database.read(repositories.exists, repository):
            raise NameUnknown(name=repository)
        await self.pulls.flush()
        policy = await self.rules.policy()
        async for name in self._repositories(policy):
            if repository not in (None, name):
                continue
            await tell(outcome, name)
            preview = await self._judge(policy, name)
            outcome.repositories += 1
            if preview.is_too_much and not force:
                outcome.held_back.append(name)
                outcome.kept += len(preview.verdicts)
                log.warning(
                    "retention would remove more than half of a repository's tags and leaves it as it is; look at "
                    f"'stackyard retention preview {name}', then say 'stackyard retention run {name} --force'",
                    repository=name,
                    tags=len(preview.verdicts),
                    doomed=len(preview.doomed),
                )
                continue
            gone = await self._remove(lease, preview, share)
            outcome.tags += gone
            outcome.kept += len(preview.verdicts) - gone
        return outcome

    async def _remove(self, lease: Lease, preview: Preview, share: float) -> int:
        name, count = preview.repository, 0
        doomed = [
            Doomed(Seen(one.tag.name, one.tag.digest, one.tag.pushed, one.tag.pulled), _reason(one))
            for one in preview.doomed
        ]
        guard = TagGuard(self.rules, name, RETENTION)
        for start in range(0, len(doomed), _TAGS_PER_WRITE):
            some = doomed[start : start + _TAGS_PER_WRITE]
            began = asyncio.get_running_loop().time()
            gone = await lease.write(rows.remove, name, some, actor=RETENTION, undo=self.settings.undo, guard=guard)
            count += len(gone)
            await asyncio.sleep((asyncio.get_running_loop().time() - began) * (1 / share - 1))
        if count:
            log.info("retention removed tags", repository=name, tags=count)
        return count

    async def _repositories(self, policy: Policy, after: str = "") -> AsyncIterator[str]:
        while policy.retention:
            names = await self.database.read(repositories.page, after=after, limit=_REPOSITORIES_PER_READ)
            for name in names:
                if any(rule.selection.has_repository(name) for rule in policy.retention):
                    yield name
            if len(names) < _REPOSITORIES_PER_READ:
                return
            after = names[-1]

    async def _judge(self, policy: Policy, name: str) -> Preview:
        tags = [Tag(one.name, one.digest, one.pushed, one.pulled) async for one in self._tags(name)]
        now = await self.database.read(rows.now)
        since = await self.database.read(pull_rows.since)
        rules = [rule for rule in policy.retention if rule.selection.has_repository(name)]
        immutable = [rule for rule in policy.immutable if rule.selection.has_repository(name)]

        def judge() -> list[Verdict]:
            return retention.evaluate(
                tags,
                rules,
                now=now,
                pulls_since=since,
                immutable=lambda tag: tagrules.immutable_by(immutable, tag),
            )

        return Preview(name, await asyncio.to_thread(judge) if len(tags) > _LARGE else judge())

    async def _tags(self, name: str) -> AsyncIterator[Seen]:
        after = ""
        while page := await self.database.read(rows.page, name, after=after, limit=_TAGS_PER_READ):
            for one in page:
                yield one
            after = page[-1].name

    # -- the clock, which the collector watches

    async def is_clock_sure(self) -> bool:
        """Whether the collector saw the clock lately, and found it right: what counts days may act by itself."""
        note = await self._note()
        paused = note.get("paused", "")
        if paused and paused != self._said:
            log.warning(
                "retention and expiry are paused; if the clock is right, say: stackyard gc --resume", reason=paused
            )
        self._said = paused
        now = await self.database.read(rows.now)
        return not paused and "seen" in note and abs(now - datetime.fromisoformat(note["seen"])) < _LATELY

    async def _paused(self) -> str:
        return (await self._note()).get("paused", "")

    async def _note(self) -> dict[str, str]:
        text = await self.database.read(leases.state, holds.COLLECTION)
        note: dict[str, str] = json.loads(text or "{}")
        return note

    # -- expiry

    async def _is_any_expired(self) -> bool:
        return await self.database.read(rows.is_any_expired)

    async def expire(self, lease: Lease) -> None:
        """Remove the tags whose time has come."""
        while await self.is_clock_sure():
            began = asyncio.get_running_loop().time()
            gone, looked_at = await lease.write(
                rows.remove_expired,
                limit=_TAGS_PER_WRITE,
                undo=self.settings.undo,
                guard=lambda name: TagGuard(self.rules, name, EXPIRY),
            )
            for name, tag in gone:
                log.info("a tag expired", repository=name, tag=tag)
            if not looked_at:
                return
            await asyncio.sleep((asyncio.get_running_loop().time() - began) * (1 / _SHARE - 1))


@dataclass(slots=True)
class Scheduled:
    """Retention at the times of a schedule. When it last ran stands in the note of its lease."""

    cleanup: Cleanup
    schedule: str
    _next: datetime | None = None

    async def is_time(self) -> bool:
        """Whether the next time has come; asked often, so that it costs a read."""
        now = await self.cleanup.database.read(rows.now)
        return self._next is None or now >= self._next

    async def round(self, lease: Lease) -> None:
        """Run when it is time. The first time ever it only notes when it began to wait."""
        now = await self.cleanup.database.read(rows.now)
        note: dict[str, Any] = json.loads(lease.state or "{}")
        last = datetime.fromisoformat(note["last"]) if "last" in note else now
        if note.get("schedule") != self.schedule:
            last = now  # what another schedule missed is not made up for
        due = next_time(self.schedule, last)
        if now >= due and await self.cleanup.is_clock_sure():
            outcome = await self.cleanup.run(share=_SHARE)
            note["outcome"] = asdict(outcome)
            log.info("retention ran", **{**asdict(outcome), "held_back": len(outcome.held_back)})
            last, due = now, next_time(self.schedule, now)
        await lease.save(json.dumps(note | {"last": last.isoformat(), "schedule": self.schedule}))
        self._next = due


def next_time(schedule: str, after: datetime) -> datetime:
    """The first time of the schedule that is later, in UTC."""
    from cronsim import CronSim  # only the process of the background work needs it

    found: datetime = next(CronSim(schedule, after.astimezone(UTC)))
    return found


def _reason(verdict: Verdict) -> str:
    return f"{verdict.reason} ({', '.join(verdict.rules)})"
