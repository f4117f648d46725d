"""The key that was probably meant."""

import difflib
from collections.abc import Iterable

from stackyard.config.shape import ROOT, Node

_LONGEST = 128  # comparing costs the square of the length, and no key is longer
_ALIKE = 0.6
_SLIP = 0.75


def hint_key(parent: Node, name: str) -> str:
    """`; did you mean …?` for an unknown key in `parent`, or nothing."""
    close = _closest(name.lower(), parent.children, _ALIKE)
    if close:
        return f"; did you mean {parent.children[close].path}?"
    elsewhere = [node.path for node in ROOT.walk() if node.path.rpartition(".")[2] == name.lower()]
    return f"; did you mean {elsewhere[0]}?" if len(elsewhere) == 1 else ""


def hint_variable(name: str) -> str:
    """The same for a variable of the environment."""
    prefix, _, rest = name.upper().partition("_")
    known = (variable_of(node.path).partition("_") for node in ROOT.walk() if node.path and "*" not in node.path)
    close = _closest(rest, (tail for head, _, tail in known if head == prefix), _ALIKE)
    return f"; did you mean {prefix}_{close}?" if close else ""


def resembles(parent: Node, name: str) -> bool:
    """Whether `name` could be a slip for a key in `parent`."""
    return _closest(name.lower(), parent.children, _SLIP) is not None


def variable_of(path: str) -> str:
    """The variable that sets the key at `path`."""
    name = path.replace("[]", ".0").replace(".", "_").upper()
    return name if path.partition(".")[0] == "stackyard" else f"REGISTRY_{name}"


def _closest(name: str, known: Iterable[str], least: float) -> str | None:
    scored = [(_likeness(name[:_LONGEST], candidate), candidate) for candidate in known if candidate]
    score, candidate = max(scored, default=(0.0, ""))
    return candidate if score >= least else None


def _likeness(one: str, other: str) -> float:
    """0 to 1; beginnings count more than ends, as people get them right."""
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    same = next((place for place in range(4) if one[place : place + 1] != other[place : place + 1]), 4)
    return ratio + same * 0.1 * (1 - ratio)
