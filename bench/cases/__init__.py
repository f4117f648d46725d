"""The cases, in sets: each set is a run and a page of its own."""

from bench.cases import blobs, collecting, life, listings, moving, pushes, reads, scale
from bench.cases.case import Case

CORE: tuple[Case, ...] = (*reads.CASES, *blobs.CASES, *pushes.CASES, *listings.CASES, *life.CASES)
LIFECYCLE: tuple[Case, ...] = (*collecting.CASES, *moving.CASES)
SCALE: tuple[Case, ...] = scale.CASES
