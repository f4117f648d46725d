"""The audit log: what was changed, by whom. Written in the transaction that it tells of."""

import json
from typing import Any

from sqlalchemy import Connection, bindparam

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import audit

_RECORD = Prepared(
    audit.insert().values(
        happened_at=clock.now(),
        actor=bindparam("actor"),
        action=bindparam("action"),
        repository=bindparam("repository"),
        detail=bindparam("detail"),
    )
)


def record(c: Connection, *, actor: str, action: str, repository: str | None = None, **detail: Any) -> None:
    """Remember it.

    Args:
        actor: `kind:name`, as `Principal.actor` gives it.
        action: A noun and a verb, such as `tag.restore`.
        detail: JSON values that say what exactly; nothing secret.
    """
    _RECORD.run(
        c,
        actor=actor,
        action=action,
        repository=repository,
        detail=json.dumps(detail, separators=(",", ":")) if detail else None,
    )
