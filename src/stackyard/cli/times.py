"""Points in time as people write them on the command line."""

from datetime import UTC, datetime

import typer


def parse(text: str) -> datetime:
    """What RFC 3339 and ISO 8601 allow, and whatever our own lists show. Without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
