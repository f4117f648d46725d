"""The long work that can be asked for."""

from functools import partial

from stackyard.jobs.retention import retention
from stackyard.registry.jobs import Kind
from stackyard.registry.registry import Registry


def kinds(registry: Registry) -> dict[str, Kind]:
    """The long work that can be asked for, by name."""
    return {"retention": partial(retention, registry.cleanup)}
