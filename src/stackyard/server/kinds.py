"""The long work that can be asked for."""

from functools import partial

from stackyard.jobs.collection import Tasks
from stackyard.jobs.retention import retention
from stackyard.registry.jobs import Kind
from stackyard.registry.registry import Registry


def kinds(registry: Registry) -> dict[str, Kind]:
    """The long work that can be asked for, by name."""
    return {**Tasks(registry).kinds, "retention": partial(retention, registry.cleanup)}
