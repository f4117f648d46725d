"""Every key as a row: for docs/configuration.md, which a test keeps equal to this, and for `config show`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stackyard.config import durations, sizes
from stackyard.config.lists import RULES
from stackyard.config.model import Config
from stackyard.config.section import SIZE, Section
from stackyard.config.shape import ROOT, bare

Verdict: TypeAlias = Literal["honoured", "harmless", "refused"]

_OTHER_NAME = "storage.s3aws."  # its keys are those of storage.s3
_NAMES = {bool: "true or false", int: "number", str: "text", SecretStr: "secret", timedelta: "duration"}


@dataclass(frozen=True, slots=True)
class Row:
    """One key."""

    key: str
    type: str
    default: str
    meaning: str
    verdict: Verdict


def describe() -> list[Row]:
    """All keys: the honoured in the order of the file, then the harmless, then the refused."""
    old = Row("loglevel", "text", "", "The old name of log.level.", "honoured")
    others = (Row(rule.path, "", "", rule.sentence, "refused" if rule.refused else "harmless") for rule in RULES)
    rows = [*_rows("", Config), old, *others]
    return [row for row in rows if not row.key.startswith(_OTHER_NAME)]


def verdict_of(key: str) -> Verdict | None:
    """The list a key is on, by itself or under a key that is; None: nobody knows it.

    Items of lists are written as in `health.tcp[].addr`.
    """
    node = ROOT
    verdict: Verdict | None = None
    for part in key.split("."):
        name, brackets, _ = part.partition("[")
        child = node.children.get(name) or (node.item if node.is_open else None)
        if child is None:
            return verdict
        if child.rule is not None:
            verdict = "refused" if child.rule.refused else "harmless"
        node = (child.item or child) if brackets else child
    return verdict or "honoured"


def effective(config: Section) -> dict[str, Any]:
    """The configuration as plain values, durations as text, secrets as asterisks, what is not set left out."""
    return {name: _plain(value) for name, value in config if value is not None}


def markdown() -> str:
    """The three lists as Markdown tables."""
    rows = describe()
    honoured = [row for row in rows if row.verdict == "honoured"]
    ours = [row for row in honoured if row.key.startswith("stackyard.")]
    parts = [
        "### Honoured",
        _table(("Key", "Type", "Default", "Meaning"), [row for row in honoured if row not in ours]),
        "### Honoured: our own, under `stackyard:`",
        _table(("Key", "Type", "Default", "Meaning"), ours),
        "### Harmless: accepted with a notice",
        _table(("Key", "Why it has no effect"), [row for row in rows if row.verdict == "harmless"]),
        "### Refused",
        _table(("Key", "What to do"), [row for row in rows if row.verdict == "refused"]),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(path: str, kind: type[Section]) -> Iterator[Row]:
    for name, field in kind.model_fields.items():
        key = f"{path}.{name}" if path else name
        inner = bare(field.annotation)
        item = bare(get_args(inner)[0]) if get_origin(inner) is tuple else inner
        if isinstance(item, type) and issubclass(item, Section):
            if field.description:
                yield Row(key, "section" if item is inner else "list of maps", "", field.description, "honoured")
            yield from _rows(key if item is inner else f"{key}[]", item)
        else:
            yield Row(key, _type(inner, field), _default(field), field.description or "", "honoured")


def _type(kind: Any, field: FieldInfo | None = None) -> str:
    kind = bare(kind)
    if field is not None and SIZE in field.metadata:
        return "size"
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"map of names to {_type(get_args(kind)[1])}"
    return _NAMES.get(kind, "network")


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return ""
    if SIZE in field.metadata:
        return sizes.text_of(field.default)
    value = _plain(field.default)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else "" if value == {} else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return effective(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, timedelta):
        return durations.text_of(value)
    return value if isinstance(value, bool | int | str) else str(value)


def _table(head: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        middle = [row.type, f"`{row.default}`" if row.default else ""] if len(head) == 4 else []
        lines.append(" | ".join([f"`{row.key}`", *middle, row.meaning.replace("|", "\\|")]))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
