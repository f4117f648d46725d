"""The grammar of locations: what every driver takes for a name, and nothing that could mean anything else."""

import re

_LOCATION = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*", re.ASCII)


def is_location(text: str) -> bool:
    """Whether `text` is a relative path of plain components, none of them `.` or `..`."""
    return _LOCATION.fullmatch(text) is not None and not {".", ".."}.intersection(text.split("/"))


def check_location(text: str) -> str:
    """Return `text`. Raises ValueError: a location comes from our own code, so another form is our mistake."""
    if not is_location(text):
        raise ValueError(f"not a location: {text!r}")
    return text
