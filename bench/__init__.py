"""Measures Stackyard beside Debian's docker-registry, with nginx serving static files as the ceiling.

`python -m bench` from the root of the checkout; see docs/benchmarks.md.
"""
