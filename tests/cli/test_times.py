"""Times on the command line."""

from datetime import UTC, datetime

import pytest
import typer

from stackyard.cli import times

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00",
        "2026-01-31T12:00:00Z",
        "2026-01-31 12:00",  # as tables show them
        "2026-01-31T12:00:00.000000Z",  # as --json does
        "2026-01-31T13:00:00+01:00",
    ],
)
def test_what_our_own_lists_show_can_be_given_back(text: str) -> None:
    assert times.parse(text) == NOON


def test_a_day_begins_at_midnight_in_utc() -> None:
    assert times.parse("2026-01-31") == NOON.replace(hour=0)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "31.1.2026", ""])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write 2026-01-31, 2026-01-31T12:00 or"):
        times.parse(text)
