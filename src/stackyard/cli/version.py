"""Which version this is."""

from importlib.metadata import version as installed


def version() -> str:
    """Name and version, as one line."""
    return f"stackyard {installed('stackyard')}"
