"""How much is measured: the full sizes, and a short run that only shows that everything works."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Profile:
    """The sizes of a run."""

    name: str
    share: float
    """Of the time that a page's run may take."""
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
    garbage: int
    """Blobs of the store that both registries collect, a tenth of it garbage."""
    large: int
    """Blobs of the store that only Stackyard collects."""
    collections: int
    """How often the whole garbage is collected."""
    pairs: int
    """Turns with and without something, where the quotient counts."""
    imported: int
    """Manifests of a volume that is imported."""
    quota_pushes: int
    """Images pushed per turn where quotas are compared."""


FULL = Profile(
    name="full",
    share=1,
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
    garbage=100_000,
    large=1_000_000,
    collections=3,
    pairs=9,
    imported=100_000,
    quota_pushes=150,
)
QUICK = Profile(
    name="quick",
    share=0.1,
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
    garbage=5_000,
    large=20_000,
    collections=1,
    pairs=2,
    imported=2_000,
    quota_pushes=40,
)
