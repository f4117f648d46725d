"""What a case is."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.field import Field
from bench.results import Goal, Measurement


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    title: str
    unit: str
    """Of the values."""
    cost_unit: str
    """Of what the CPU seconds are counted per."""
    goals: Sequence[Goal]
    run: Callable[[Field], Awaitable[dict[str, Measurement]]]
