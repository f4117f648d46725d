"""The cases: every line of the issue's list."""

from bench.cases import blobs, life, listings, pushes, reads
from bench.cases.case import Case

ALL: tuple[Case, ...] = (*reads.CASES, *blobs.CASES, *pushes.CASES, *listings.CASES, *life.CASES)
