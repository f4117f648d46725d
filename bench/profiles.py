"""How much is measured: the full sizes, and a short run that only shows that everything works."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Profile:
    """The sizes of a run."""

    name: str
    minutes: float
    """No case begins later than this."""
    rounds: int
    """How often each server takes its turn at a case; the median counts."""
    seconds: float
    """Length of one turn."""
    tags: int
    """Of one repository."""
    window: int
    """Pushes per step between the first tag and the last."""
    repositories: int
    """Of the catalogue."""
    manifests: int
    """Per repository of the catalogue."""
    layer: int
    """Bytes of a large layer."""
    layers: int
    """Large layers pushed per turn."""
    pushes: int
    """Large layers pushed at once when memory is measured."""
    pulls: int
    """Large layers pulled at once when memory is measured."""
    starts: int
    """How often the start is timed."""


FULL = Profile(
    name="full",
    minutes=22,
    rounds=5,
    seconds=3,
    tags=10_000,
    window=1_000,
    repositories=10_000,
    manifests=10,
    layer=100 * MIB,
    layers=3,
    pushes=100,
    pulls=200,
    starts=5,
)
QUICK = Profile(
    name="quick",
    minutes=2,
    rounds=1,
    seconds=0.5,
    tags=1_000,
    window=250,
    repositories=300,
    manifests=3,
    layer=16 * MIB,
    layers=2,
    pushes=20,
    pulls=40,
    starts=2,
)
