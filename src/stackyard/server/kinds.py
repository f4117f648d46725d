"""The long work that can be asked for."""

from stackyard.registry.jobs import Kind
from stackyard.registry.registry import Registry


def kinds(registry: Registry) -> dict[str, Kind]:
    """The long work that can be asked for, by name."""
    return {}
