"""Sort what stands in the file onto the three lists, before anything is understood.

What is honoured goes on; what is harmless leaves one notice; what is refused, or unknown where that is dangerous,
stops the start; anything else that is unknown leaves a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from stackyard.config import durations
from stackyard.config.document import Tree
from stackyard.config.lists import Rule
from stackyard.config.nearest import hint_key
from stackyard.config.shape import ROOT, Node


@dataclass
class Sieve:
    """One pass over one tree."""

    whole: Mapping[str, Tree]
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def sift(self) -> dict[str, Tree]:
        """What is honoured; null, which means "not set", is left out."""
        kept = self._section(dict(self.whole), ROOT, "")
        self.notices = list(dict.fromkeys(self.notices))
        return kept

    def _section(self, value: Tree, node: Node, path: str) -> dict[str, Tree]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{path}: must be a map of keys")
            return {}
        kept: dict[str, Tree] = {}
        for name, item in value.items():
            child = node.children.get(name)
            where = f"{path}.{name}" if path else name
            if child is None:
                self._unknown(node, name, where)
            elif child.rule is not None:
                self._ruled(item, child, child.rule, where)
            elif child.is_barren:
                self._section(item, child, where)
            elif child.is_section or not _is_unset(item):
                kept[name] = self._value(item, child, where)
        return kept

    def _value(self, value: Tree, node: Node, path: str) -> Tree:
        if node.is_section:
            return self._section(value, node, path)
        if node.item is not None and node.item.is_section and isinstance(value, list):
            return [self._section(entry, node.item, f"{path}[{place}]") for place, entry in enumerate(value)]
        if node.is_open and isinstance(value, Mapping):
            return {name: item for name, item in value.items() if item is not None}
        if node.leaf is timedelta and isinstance(value, str) and durations.is_bare_number(value):
            self.warnings.append(f"{path}: a number without a unit is nanoseconds; write for instance 30s")
        return value

    def _ruled(self, value: Tree, node: Node, rule: Rule, path: str) -> None:
        if rule.refused:
            if rule.idle is None or not rule.idle(value, self.whole):
                self.problems.append(f"{path}: {rule.sentence}")
            else:
                self.notices.append(f"{path}: asks for nothing here and is ignored")
            return
        if node.children and self._refuses_below(value, node, path):
            return
        self.notices.append(f"{path}: {rule.sentence}; the key has no effect")

    def _refuses_below(self, value: Tree, node: Node, path: str) -> bool:
        """Look for refused keys in a harmless section, whose own notice stands for all that is harmless in it."""
        below = Sieve(self.whole)
        below._section(value, node, path)
        self.warnings += below.warnings
        self.problems += below.problems
        return bool(below.problems)

    def _unknown(self, node: Node, name: str, path: str) -> None:
        shown = path if path.isprintable() and len(path) < 120 else f"{node.path}.…"
        if node.is_strict:
            known = ", ".join(name for name, child in node.children.items() if child.rule is None)
            hint = hint_key(node, name) or f"; {node.path} knows {known}"
            self.problems.append(f"{shown}: unknown key{hint}")
        else:
            self.warnings.append(f"{shown}: unknown key, ignored{hint_key(node, name)}")


def _is_unset(value: Tree) -> bool:
    """Nothing, or an empty text, which Go cannot tell from nothing."""
    return value is None or value == ""
