"""`REGISTRY_*` and `STACKYARD_*`: the environment's say over the file.

The name after the prefix is the path of a key, its parts joined by `_`; the value is YAML. As in Distribution,
variables count in the order of their names: `REGISTRY_STORAGE=inmemory`, which replaces the section, comes before
`REGISTRY_STORAGE_DELETE_ENABLED`. Unlike Distribution, keys that are missing from the file can be set, list items go
by number everywhere, and the variables Kubernetes makes for a service called `registry` are not taken for ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from stackyard.config import document
from stackyard.config.document import NotYaml, Tree
from stackyard.config.nearest import hint_variable, resembles
from stackyard.config.shape import ROOT, Node

# Read elsewhere, or put there by images that say which version they hold.
_NOT_KEYS = ("REGISTRY_CONFIGURATION_PATH", "REGISTRY_VERSION")
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_\d{1,5}_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?", re.ASCII
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.ASCII)
_INDEX = re.compile(r"\d{1,4}", re.ASCII)
_NULLS = ("", "~", "null", "Null", "NULL")


class _UnknownKey(Exception):
    """No key has this path. Carries the last place that is known."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.node = node


class _Misplaced(Exception):
    """The value cannot go there; the text says why."""


@dataclass
class Environment:
    """What the variables made of the file's tree."""

    tree: dict[str, Tree]
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """Names of variables that are not about us; worth a debug line at most."""


def override(tree: dict[str, Tree], environ: Mapping[str, str]) -> Environment:
    """`tree` with every variable of ours applied; the tree itself stays as it is."""
    result = Environment(dict(tree))
    for name in sorted((name for name in environ if _prefix(name)), key=_order):
        if name in _NOT_KEYS or _is_service(name, environ[name]):
            result.ignored.append(name)
        else:
            _apply(result, name, environ[name])
    return result


def _prefix(name: str) -> str | None:
    prefix = name.partition("_")[0]
    return prefix if prefix in ("REGISTRY", "STACKYARD") and "_" in name else None


def _segments(name: str) -> list[str]:
    first, *rest = name.split("_")
    return ["stackyard", *rest] if first == "STACKYARD" else rest


def _order(name: str) -> list[tuple[int, str]]:
    """By name, shorter first, and item 10 after item 2."""
    return [(int(part) if _INDEX.fullmatch(part) else -1, part) for part in name.split("_")]


def _is_service(name: str, value: str) -> bool:
    rest = name[len(_prefix(name) or "") :]
    if rest.endswith("_PORT") and _SERVICE_ADDRESS.match(value):
        return True
    return any(_SERVICE.fullmatch(rest, place) for place, letter in enumerate(rest) if letter == "_")


def _apply(result: Environment, name: str, value: str) -> None:
    segments = _segments(name)
    if segments == ["AUTH"] and not value.strip():
        result.warnings.append(f"{name}: is empty and ignored; REGISTRY_AUTH=none lets everybody in")
        return
    try:
        merged = _merged(result.tree, ROOT, segments, value)
    except _UnknownKey as unknown:
        _report_unknown(result, name, unknown.node)
    except _Misplaced as error:
        result.problems.append(f"{name}: {error}")
    except NotYaml:
        result.problems.append(f"{name}: is not valid YAML; quote the value")
    else:
        assert isinstance(merged, dict)
        result.tree = merged


def _report_unknown(result: Environment, name: str, node: Node) -> None:
    shown = name if name.isprintable() and len(name) < 160 else f"{name[:80]!r}…"
    if _is_foreign(name, node):
        result.warnings.append(f"{shown}: unknown key, ignored")
    elif node.is_strict:
        result.problems.append(f"{shown}: unknown key{hint_variable(name)}")
    else:
        result.warnings.append(f"{shown}: unknown key, ignored{hint_variable(name)}")


def _is_foreign(name: str, node: Node) -> bool:
    """Whether STACKYARD_… resembles no key at all: scripts and tests have variables with our name in front, too."""
    return node.path == "stackyard" and not resembles(node, name.split("_")[1])


def _merged(current: Tree, node: Node, segments: list[str], text: str) -> Tree:
    """`current`, the value at `node`, with the value at the end of `segments` replaced."""
    if not segments:
        return _parsed(node, text)
    if _is_list(current, node, segments[0]):
        return _merged_list(current, node, segments, text)
    if not (node.is_section or node.is_open or node.is_opaque):
        raise _UnknownKey(node)
    if current is not None and not isinstance(current, dict):
        raise _Misplaced(f"{node.path} is no map in the file")
    below = current or {}
    key, child, rest = _step(below, node, segments)
    return below | {key: _merged(below.get(key), child, rest, text)}


def _is_list(current: Tree, node: Node, segment: str) -> bool:
    if node.is_opaque:
        return isinstance(current, list) or (not current and _INDEX.fullmatch(segment) is not None)
    return node.item is not None and not node.is_open


def _merged_list(current: Tree, node: Node, segments: list[str], text: str) -> Tree:
    if not _INDEX.fullmatch(segments[0]):
        raise _UnknownKey(node)
    items = [current] if isinstance(current, str) else current or []
    index = int(segments[0])
    if not isinstance(items, list):
        raise _Misplaced(f"{node.path} is no list in the file")
    if index > len(items):
        raise _Misplaced(f"item {index} would leave a gap; {node.path} has {len(items)} items, counted from 0")
    item = items[index] if index < len(items) else None
    return [*items[:index], _merged(item, node.item or node, segments[1:], text), *items[index + 1 :]]


def _step(below: Mapping[str, Tree], node: Node, segments: list[str]) -> tuple[str, Node, list[str]]:
    """The key that the first segments mean, its node, and the segments left over."""
    name = segments[0].lower()
    if node.is_open and node.item is not None:
        rest = segments[-1:] if len(segments) > 1 and node.item.item and _INDEX.fullmatch(segments[-1]) else []
        return _own_name(below, node, "_".join(segments[: len(segments) - len(rest)])), node.item, rest
    if node.is_opaque:
        return _own_name(below, node, segments[0]), node, segments[1:]
    name = node.aliases.get(name, name)
    if name not in node.children:
        raise _UnknownKey(node)
    return name, node.children[name], segments[1:]


def _own_name(below: Mapping[str, Tree], node: Node, name: str) -> str:
    """A key of the operator's own: as the file spells it, else in lower case; headers as they are."""
    spelt = next((key for key in below if key.lower() == name.lower()), None)
    return spelt or (name if node.path.endswith("headers") else name.lower())


def _parsed(node: Node, text: str) -> Tree:
    try:
        value, _ = document.read(text)
    except NotYaml:
        if node.is_text:
            return text  # a password such as @secret is no YAML, and means itself
        raise
    if node.is_text and not isinstance(value, str) and (value is not None or text.strip() not in _NULLS):
        return text  # "#secret" would be a comment, "a: b" a map
    return {value: {}} if node.is_choice and isinstance(value, str) else value
