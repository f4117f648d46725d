"""The tree of every key there is: made from the sections, completed by the lists of keys that have no section."""

import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import SecretStr

from stackyard.config.lists import RULES, Rule
from stackyard.config.model import Config
from stackyard.config.section import Section

# Where environment variables go by the name of the field in Distribution's program, not by the key of the file.
_FIELD_NAMES = {
    "health.file": "filecheckers",
    "health.http": "httpcheckers",
    "health.tcp": "tcpcheckers",
    "notifications.events": "eventconfig",
    "log.hooks[].options": "mailoptions",
    "compatibility.schema1.signingkeyfile": "trustkey",
}
# Sections that are one of several: a bare word is the name of the one, and an unknown one is no slip to shrug at.
_CHOICES = ("storage", "auth")


@dataclass
class Node:
    """One place in the tree."""

    path: str
    children: dict[str, "Node"] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    is_section: bool = False
    """A map with known keys."""
    is_open: bool = False
    """A map with names of the operator's own; all values alike."""
    item: "Node | None" = None
    """What a list holds."""
    leaf: type | None = None
    rule: Rule | None = None
    """Why the key has no effect or is refused; None: honoured."""

    @property
    def is_text(self) -> bool:
        """Whether any text at all is a value."""
        return self.leaf in (str, SecretStr)

    @property
    def is_choice(self) -> bool:
        """Whether a bare word names one of its keys."""
        return self.path in _CHOICES

    @property
    def is_opaque(self) -> bool:
        """Whether nothing below it is known."""
        return self.rule is not None and not self.children

    @property
    def is_barren(self) -> bool:
        """Whether nothing in it is honoured."""
        return self.rule is None and bool(self.children) and all(child.rule for child in self.children.values())

    @property
    def is_strict(self) -> bool:
        """Whether an unknown key in it stops the start: it could decide where bytes lie or who may read them."""
        return self.is_choice or self.path.partition(".")[0] == "stackyard"

    def walk(self) -> Iterator["Node"]:
        """Itself and everything below, parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()
        if self.item is not None:
            yield from self.item.walk()


def _build() -> Node:
    root = _section_node("", Config)
    root.children["loglevel"] = Node("loglevel", leaf=str)
    for rule in RULES:
        _graft(root, rule)
    for path, alias in _FIELD_NAMES.items():
        above, _, name = path.rpartition(".")
        parent = find(root, above)
        if parent is not None:
            parent.aliases[alias] = name
    return root


def find(root: Node, path: str) -> Node | None:
    """The node at a path such as `health.http[].uri`."""
    node: Node | None = root
    for part in path.split("."):
        name, brackets, _ = part.partition("[")
        node = node.children.get(name) if node else None
        node = node.item if node and brackets else node
    return node


def _section_node(path: str, kind: type[Section]) -> Node:
    prefix = f"{path}." if path else ""
    children = {name: _node(prefix + name, field.annotation) for name, field in kind.model_fields.items()}
    return Node(path, children, is_section=True)


def _node(path: str, annotation: Any) -> Node:
    kind = bare(annotation)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return Node(path, item=_node(f"{path}[]", inner[0]))
    if origin is dict:
        return Node(path, is_open=True, item=_node(f"{path}.*", inner[1]))
    if isinstance(kind, type) and issubclass(kind, Section):
        return _section_node(path, kind)
    return Node(path, leaf=kind if kind in (bool, int, timedelta, SecretStr) else str)


def bare(annotation: Any) -> Any:
    """The type without what is written around it."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
        return bare(get_args(annotation)[0])
    return annotation


def _graft(root: Node, rule: Rule) -> None:
    node = root
    for name in rule.path.split("."):
        path = f"{node.path}.{name}" if node.path else name
        node = node.children.setdefault(name, Node(path, is_section=True))
    node.rule = rule


ROOT = _build()
