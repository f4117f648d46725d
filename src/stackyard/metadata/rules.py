"""Rules that an administrator made: about retention, immutable tags, forms of tags.

There are few. Whoever obeys them remembers what they read together with the policy epoch, and reads the epoch again in
each transaction that depends on them. Changing them locks the installation's row, so changes come one after the other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import audit, clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import installation, rule

Source = Literal["config", "api"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is kept."""

    id: int
    kind: str
    detail: dict[str, Any]
    """As `registry` wrote it."""
    source: Source
    """config: stands in the configuration file, and can be changed only there."""
    updated_at: datetime
    updated_by: str


_EPOCH = Prepared(select(installation.c.policy_epoch).where(installation.c.id == 1))
_RAISE_EPOCH = Prepared(
    installation.update().where(installation.c.id == 1).values(policy_epoch=installation.c.policy_epoch + 1)
)
_COLUMNS = (rule.c.id, rule.c.kind, rule.c.detail, rule.c.source, rule.c.updated_at, rule.c.updated_by)
_ALL = Prepared(select(*_COLUMNS).order_by(rule.c.id))
_INSERT = Prepared(
    rule.insert()
    .values(
        kind=bindparam("kind"),
        detail=bindparam("detail"),
        source=bindparam("source"),
        updated_at=clock.now(),
        updated_by=bindparam("actor"),
    )
    .returning(rule.c.id)
)
_CHANGE = Prepared(
    rule.update()
    .where(rule.c.id == bindparam("id_"))
    .values(detail=bindparam("detail_"), updated_at=clock.now(), updated_by=bindparam("actor"))
)
_REMOVE = Prepared(rule.delete().where(rule.c.id == bindparam("id_")))


def epoch(c: Connection) -> int:
    """Raised by every change of rules, quotas and other policy."""
    found: int = _EPOCH.scalar(c)
    return found


def lock(c: Connection) -> None:
    """Let nobody else change policy before this transaction ends, which changes it."""
    _RAISE_EPOCH.run(c)


def every(c: Connection) -> list[Rule]:
    """All rules of all kinds, oldest first."""
    return [Rule(id_, kind, json.loads(detail), *rest) for id_, kind, detail, *rest in _ALL.all(c)]


def add(c: Connection, kind: str, detail: Mapping[str, Any], *, source: Source, actor: str) -> int:
    """Add a rule, in a transaction that holds the `lock`; its id."""
    text = json.dumps(detail, separators=(",", ":"))
    found: int = _INSERT.scalar(c, kind=kind, detail=text, source=source, actor=actor)
    audit.record(c, actor=actor, action="rule.add", id=found, kind=kind, rule=detail, source=source)
    return found


def change(c: Connection, was: Rule, detail: Mapping[str, Any], *, actor: str) -> None:
    """Let the rule say something else, in a transaction that holds the `lock`."""
    _CHANGE.run(c, id_=was.id, detail_=json.dumps(detail, separators=(",", ":")), actor=actor)
    audit.record(c, actor=actor, action="rule.change", id=was.id, kind=was.kind, rule=detail, was=was.detail)


def remove(c: Connection, was: Rule, *, actor: str) -> None:
    """Remove a rule, in a transaction that holds the `lock`."""
    _REMOVE.run(c, id_=was.id)
    audit.record(c, actor=actor, action="rule.remove", id=was.id, kind=was.kind, rule=was.detail, source=was.source)


def replace_config(c: Connection, wanted: Sequence[tuple[str, Mapping[str, Any]]], *, actor: str) -> bool:
    """Make the rules of the configuration file these, as (kind, detail); whether that changed anything.

    Rules that stand there as before keep their rows.
    """
    old = [one for one in every(c) if one.source == "config"]
    if [(one.kind, one.detail) for one in old] == [(kind, dict(detail)) for kind, detail in wanted]:
        return False
    lock(c)
    old = [one for one in every(c) if one.source == "config"]
    missing = [(kind, dict(detail)) for kind, detail in wanted]
    for one in old:
        if (one.kind, one.detail) in missing:
            missing.remove((one.kind, one.detail))
        else:
            remove(c, one, actor=actor)
    for kind, detail in missing:
        add(c, kind, detail, source="config", actor=actor)
    return True
