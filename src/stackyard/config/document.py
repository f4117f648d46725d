"""YAML text as a plain tree of maps, lists and texts.

Every scalar stays the text that was written: Go decodes into typed fields, so a password of `0123` or `yes` is that
text, and would be lost if YAML's own types came first. Only null is told apart: it means "not set".
"""

import re
from collections.abc import Mapping
from typing import TypeAlias

import yaml

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree] | None"

_DEEPEST = 32
_LARGEST = 100_000  # values; a few lines of aliases can ask for billions
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class NotYaml(Exception):
    """The text cannot be read. Says where, and nothing of what stands there: it may be a secret."""


class _TextLoader(yaml.SafeLoader):
    """SafeLoader that resolves nothing but null and merge keys, and knows no tags."""

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def map_of(self, node: yaml.MappingNode) -> dict[object, object]:
        """The map, noting keys that are written twice (the last one counts, as in Distribution)."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and not key.tag.endswith(":merge"):
                self.repeated.append(f"line {key.start_mark.line + 1}: a key is given twice; the last one counts")
            seen.add(key.value)
        self.flatten_mapping(node)
        return self.construct_mapping(node, deep=True)

    def anything(self, node: yaml.Node) -> object:
        """Whatever tag it bears, by its shape."""
        if isinstance(node, yaml.MappingNode):
            return self.map_of(node)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        if "\0" in node.value:  # ends a path early in every system call
            raise yaml.constructor.ConstructorError(None, None, "found a NUL character", node.start_mark)
        return node.value


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_TextLoader.yaml_constructors = {
    "tag:yaml.org,2002:null": _TextLoader.construct_yaml_null,
    None: _TextLoader.anything,
}


def read(text: str | bytes) -> tuple[Tree, list[str]]:
    """The tree and what is odd about it. Raises NotYaml."""
    try:
        tree, odd = _load(text)
    except yaml.MarkedYAMLError as error:
        raise NotYaml(_position(error)) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise NotYaml("is not valid YAML") from None
    return _plain(tree, _DEEPEST, [_LARGEST]), odd


def _load(text: str | bytes) -> tuple[object, list[str]]:
    loader = _TextLoader(text)
    return loader.get_single_data(), loader.repeated


def _position(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = _QUOTED.sub(lambda quoted: quoted[0] if len(quoted[0]) <= 3 else "…", error.problem or "")
    return f"is not valid YAML{where}" + (f" ({problem})" if problem else "")


def _plain(value: object, depth: int, budget: list[int]) -> Tree:
    """A copy without aliases, so that no branch is shared, endless or out of proportion."""
    budget[0] -= 1
    if not depth or budget[0] < 0:
        raise NotYaml("is nested too deep or too large")
    if isinstance(value, Mapping):
        return {_name(key): _plain(item, depth - 1, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth - 1, budget) for item in value]
    return None if value is None else str(value)


def _name(key: object) -> str:
    return "null" if key is None else str(key)
