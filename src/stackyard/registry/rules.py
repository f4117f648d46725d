"""The rules of this installation: read, remembered while they hold, and changed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from stackyard.metadata import rules as rows
from stackyard.metadata.database import Database
from stackyard.metadata.rules import Rule as Row
from stackyard.oci.errors import RuleDeclared, RuleRefused, RuleUnknown
from stackyard.registry import retention, spans, tagrules
from stackyard.registry.retention import Keep, Rule
from stackyard.registry.selections import ALL, Selection
from stackyard.registry.tagrules import Form, Immutable

log = structlog.get_logger("stackyard.rules")

RETENTION, IMMUTABLE, FORM = "retention", "immutable", "form"
MOST = 200
"""Rules: they are compared with one another, and nobody understands more."""
_MEMBERS = {
    RETENTION: {"repositories", "tags", "excluding", "keep"},
    IMMUTABLE: {"repositories", "tags", "excluding"},
    FORM: {"repositories", "excluding", "pattern"},
}
_KEEP = {"last", "pulled", "newer", "matching"}


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, ready for use."""

    epoch: int = -1
    """Of the policy: while it is that of the database, these are all."""
    retention: tuple[Rule, ...] = ()
    immutable: tuple[Immutable, ...] = ()
    forms: tuple[Form, ...] = ()

    def check(self) -> None:
        """Raises RuleRefused for rules that cannot hold together."""
        tagrules.check(self.immutable, self.forms)
        retention.check(self.retention, [(one.name, one.selection) for one in self.immutable])


class _Stale(Exception):
    """The rules changed while they were compared."""


@dataclass(slots=True)
class Rules:
    """The rules. A process remembers them, and looks in each transaction whether they still hold."""

    database: Database
    _policy: Policy = field(default_factory=Policy)

    def current(self, c: Connection) -> Policy:
        """The rules as this transaction sees them: one cheap read while they stay the same."""
        epoch = rows.epoch(c)
        if self._policy.epoch != epoch:
            self._policy = _compile(epoch, rows.every(c))
        return self._policy

    async def policy(self) -> Policy:
        """The rules now."""
        return await self.database.read(self.current)

    async def list(self) -> Sequence[Row]:
        """Every rule, oldest first."""
        return await self.database.read(rows.every)

    async def find(self, id_: int) -> Row:
        """One rule. Raises RuleUnknown."""
        return _find(await self.list(), id_)

    async def add(self, kind: str, detail: Mapping[str, Any], *, actor: str) -> Row:
        """Add a rule. Raises RuleRefused, with the reason."""

        def write(c: Connection) -> int:
            return rows.add(c, kind, detail, source="api", actor=actor)

        def check(others: Sequence[Row]) -> None:
            if len(others) >= MOST:
                raise RuleRefused(f"there are {MOST} rules already, the most that can be")
            _check(others, read(kind, detail, "the new rule"))

        return await self.find(await self._change(check, write))

    async def change(self, id_: int, kind: str, detail: Mapping[str, Any], *, actor: str) -> Row:
        """Let a rule say something else. Raises RuleRefused, RuleDeclared and RuleUnknown."""

        def write(c: Connection) -> int:
            rows.change(c, _own(rows.every(c), id_), detail, actor=actor)
            return id_

        def check(found: Sequence[Row]) -> None:
            if _own(found, id_).kind != kind:
                raise RuleRefused(f"rule {id_} is not about {kind}: remove it and add another one")
            _check([one for one in found if one.id != id_], read(kind, detail, f"rule {id_}"))

        return await self.find(await self._change(check, write))

    async def remove(self, id_: int, *, actor: str) -> None:
        """Remove a rule. Raises RuleDeclared for one of the configuration file, and RuleUnknown."""

        def write(c: Connection) -> int:
            rows.remove(c, _own(rows.every(c), id_), actor=actor)
            return id_

        await self._change(lambda found: None, write)

    async def _change(self, check: Callable[[Sequence[Row]], None], write: Callable[[Connection], int]) -> int:
        """Check against the other rules, which takes its time, and write if they are still the same then."""
        while True:
            epoch, found = await self.database.read(_with_epoch)
            await asyncio.to_thread(check, found)
            with suppress(_Stale):
                return await self.database.write(_write_if_same, epoch, write)

    async def adopt(self, wanted: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Make the rules of the configuration file, as (kind, detail), those that stand in it now."""
        if await self.database.write(rows.replace_config, wanted, actor="config"):
            log.info("the rules of the configuration file have changed", rules=len(wanted))
        try:
            (await self.policy()).check()
        except RuleRefused as refused:
            log.warning(f"a rule that was made by the API does not go with the configuration file: {refused}")


def read(kind: str, detail: Mapping[str, Any], name: str) -> Rule | Immutable | Form:
    """A rule as it is written in JSON: `{"repositories": "team/**", "tags": ["*"], "keep": {"last": 10}}`.

    Raises RuleRefused, with the reason.
    """
    if kind not in _MEMBERS:
        raise RuleRefused(f"{name}: {kind!r} is none of {', '.join(_MEMBERS)}")
    try:
        _only(detail, _MEMBERS[kind])
        repositories = detail.get("repositories")
        if not isinstance(repositories, str):
            raise RuleRefused("repositories is missing: a repository name with * or ** in it")
        selection = Selection(repositories, _texts(detail, "tags", ALL), _texts(detail, "excluding"))
        if kind == IMMUTABLE:
            return Immutable(selection, name)
        if kind == FORM:
            pattern = detail.get("pattern")
            if not isinstance(pattern, str):
                raise RuleRefused("pattern is missing")
            return Form(selection, pattern, name)
        return Rule(selection, _keep(detail.get("keep", {})), name)
    except ValueError as error:
        raise RuleRefused(f"{name}: {error}") from None


def check_all(written: Sequence[tuple[str, Mapping[str, Any], str]]) -> None:
    """Raises RuleRefused unless these, as (kind, detail, name), can hold together."""
    _gather(-1, [read(*one) for one in written]).check()


def _keep(detail: object) -> Keep:
    if not isinstance(detail, Mapping):
        raise RuleRefused("keep is no object")
    _only(detail, _KEEP, "keep.")
    last = detail.get("last", 0)
    if not isinstance(last, int) or isinstance(last, bool):
        raise RuleRefused("keep.last is no number")
    return Keep(last, _span(detail, "pulled"), _span(detail, "newer"), _texts(detail, "matching"))


def _only(detail: Mapping[str, Any], members: set[str], prefix: str = "") -> None:
    if unknown := sorted(set(detail) - members):
        raise RuleRefused(f"{prefix}{unknown[0]} is unknown here; there are {', '.join(sorted(members))}")


def _texts(detail: Mapping[str, Any], member: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    value = detail.get(member, default)
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise RuleRefused(f"{member} is no list of texts")
    return tuple(value)


def _span(detail: Mapping[str, Any], member: str) -> timedelta | None:
    value = detail.get(member)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RuleRefused(f"keep.{member} is no length of time such as 30d")
    return spans.parse(value)


def _gather(epoch: int, found: Sequence[Rule | Immutable | Form]) -> Policy:
    return Policy(
        epoch,
        tuple(one for one in found if isinstance(one, Rule)),
        tuple(one for one in found if isinstance(one, Immutable)),
        tuple(one for one in found if isinstance(one, Form)),
    )


def _compile(epoch: int, found: Sequence[Row]) -> Policy:
    readable = []
    for one in found:
        try:
            readable.append(read(one.kind, one.detail, f"rule {one.id}"))
        except RuleRefused as refused:  # of another version; the others hold all the same
            log.error("a rule cannot be understood and is left out", rule=one.id, reason=str(refused))
    return _gather(epoch, readable)


def _check(others: Sequence[Row], new: Rule | Immutable | Form) -> None:
    """Raises RuleRefused. Others that do not go together keep nobody from adding one that does."""
    _gather(-1, [new]).check()
    before = _compile(-1, others)
    found: list[Rule | Immutable | Form] = [*before.retention, *before.immutable, *before.forms]
    for one in found:
        _gather(-1, [one, new]).check()


def _with_epoch(c: Connection) -> tuple[int, list[Row]]:
    # In this order: rules that are younger than the epoch make the write begin again, older ones could slip through.
    return rows.epoch(c), rows.every(c)


def _write_if_same(c: Connection, epoch: int, write: Callable[[Connection], int]) -> int:
    rows.lock(c)
    if rows.epoch(c) != epoch + 1:
        raise _Stale
    return write(c)


def _own(found: Sequence[Row], id_: int) -> Row:
    one = _find(found, id_)
    if one.source == "config":
        raise RuleDeclared(f"rule {id_} stands in the configuration file; change it there")
    return one


def _find(found: Sequence[Row], id_: int) -> Row:
    one = next((one for one in found if one.id == id_), None)
    if one is None:
        raise RuleUnknown(rule=id_)
    return one
