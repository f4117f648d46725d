"""Pydantic's findings in the words of the file, one line per key, without a value that could be a secret."""

from collections.abc import Mapping, Sequence

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from stackyard.config.shape import ROOT, Node

_MEANINGS = {
    "missing": "is missing",
    "bool_parsing": "{shown} is neither true nor false",
    "bool_type": "must be true or false",
    "int_parsing": "{shown} is not a whole number",
    "int_parsing_size": "{shown} is too large",
    "int_from_float": "{shown} is not a whole number",
    "int_type": "must be a whole number",
    "string_type": "must be text",
    "string_pattern_mismatch": "{shown} must begin with /",
    "tuple_type": "must be a list",
    "dict_type": "must be a map of names",
    "model_type": "must be a map of keys",
    "model_attributes_type": "must be a map of keys",
    "time_delta_type": "must be a duration such as 30s, 5m or 168h",
    "is_instance_of": "must be an address or a range",
    "greater_than_equal": "{shown} is below {ge}",
    "less_than_equal": "{shown} is above {le}",
    "literal_error": "{shown} is none of {expected}",
}


def problems(error: ValidationError) -> list[str]:
    """One line per finding."""
    return [_line(detail) for detail in error.errors(include_url=False)]


def _line(detail: ErrorDetails) -> str:
    path, node = _place(detail["loc"])
    context: Mapping[str, object] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        meaning = str(context.get("error", "is not valid"))
    else:
        meaning = _MEANINGS.get(detail["type"], "is not valid")
        meaning = meaning.format(**{"ge": "", "le": "", "expected": "", **context}, shown=_shown(detail["input"], node))
    if meaning.startswith("."):
        return path + meaning  # a section's finding about one of its keys
    return f"{path}: {meaning}" if path else meaning


def _shown(value: object, node: Node | None) -> str:
    """A short text as it was written; never what was given for a password or in a place of the operator's own."""
    harmless = node is not None and node.leaf is not SecretStr and ".*" not in node.path
    return repr(value) if harmless and isinstance(value, str) and len(value) <= 60 else "the value"


def _place(location: Sequence[str | int]) -> tuple[str, Node | None]:
    path, node = "", ROOT
    known: Node | None = node
    for part in location:
        if isinstance(part, int):
            path, known = f"{path}[{part}]", known.item if known else None
        elif part != "[key]":
            path = f"{path}.{part}" if path else part
            known = (known.children.get(part) or known.item) if known else None
    return path, known
