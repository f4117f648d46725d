"""What must hold of the rows, whatever happened."""

from sqlalchemy import Connection, text

_RULES = {
    "a manifest names a blob or child that is not here": """
        SELECT r.digest FROM manifest_reference r WHERE r.required
        AND NOT EXISTS (SELECT 1 FROM blob_link l JOIN blob b ON b.digest = l.digest AND b.state = 'live'
                        WHERE l.repository_id = r.repository_id AND l.digest = r.digest)
        AND NOT EXISTS (SELECT 1 FROM manifest m
                        WHERE m.repository_id = r.repository_id AND m.digest = r.digest)""",
    "a link shows no live blob": """
        SELECT l.digest FROM blob_link l
        WHERE NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = l.digest AND b.state = 'live')""",
    "a tag points nowhere": """
        SELECT t.name FROM tag t
        WHERE NOT EXISTS (SELECT 1 FROM manifest m WHERE m.id = t.manifest_id AND m.deleted_at IS NULL
                          AND m.repository_id = t.repository_id)""",
    "a reference belongs to no manifest": """
        SELECT r.digest FROM manifest_reference r
        WHERE NOT EXISTS (SELECT 1 FROM manifest m WHERE m.id = r.manifest_id)""",
}


def broken_promises(c: Connection) -> list[tuple[str, str]]:
    """Every rule that does not hold, with what breaks it."""
    return [(rule, found) for rule, sql in _RULES.items() for found in c.scalars(text(sql))]
