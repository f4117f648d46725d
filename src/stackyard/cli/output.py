"""What verbs print: tables on a terminal, lines with tabs for other programs, JSON when asked for."""

import json
import re
import sys
from collections.abc import AsyncIterable, Callable, Mapping
from datetime import datetime
from typing import Any

Columns = Mapping[str, Callable[[dict[str, Any]], str]]
"""Heading to what of an item stands below it."""
_DIGEST = re.compile(r"(sha(?:256|512):[0-9a-f]{12})[0-9a-f]{52,}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Output:
    """Standard output."""

    def __init__(self, *, as_json: bool) -> None:
        """`as_json`: print the documents as they came."""
        self.as_json = as_json
        self.terminal = sys.stdout.isatty()

    def note(self, sentence: str) -> None:
        """A line for people. In JSON mode it goes to standard error."""
        print(printable(sentence), file=sys.stderr if self.as_json else sys.stdout)

    async def rows(self, items: AsyncIterable[dict[str, Any]], columns: Columns) -> None:
        """Many of a kind."""
        if self.as_json:
            await self._list_json(items)
        elif self.terminal:
            self._table([item async for item in items], columns)
        else:
            async for item in items:
                print("\t".join(printable(cell(item)) for cell in columns.values()))

    def show(self, item: dict[str, Any], columns: Columns) -> None:
        """One thing, a line for each of its properties."""
        if self.as_json:
            print(json.dumps(item, indent=2, ensure_ascii=False))
        elif self.terminal:
            width = max(map(len, columns))
            for heading, cell in columns.items():
                print(f"{heading.capitalize():{width}}  {printable(cell(item))}")
        else:
            for heading, cell in columns.items():
                print(f"{heading.lower()}\t{printable(cell(item))}")

    def close(self) -> None:
        """All of it is out. Raises BrokenPipeError."""
        sys.stdout.flush()

    async def _list_json(self, items: AsyncIterable[dict[str, Any]]) -> None:
        """An array, item by item, as long lists need not fit into memory."""
        before = "[\n"
        async for item in items:
            sys.stdout.write(before + json.dumps(item, ensure_ascii=False))
            before = ",\n"
        print("[]" if before == "[\n" else "\n]")

    def _table(self, items: list[dict[str, Any]], columns: Columns) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in columns:
            table.add_column(heading, overflow="fold")
        for item in items:
            table.add_row(*(Text(_short(printable(cell(item)))) for cell in columns.values()))
        Console().print(table)


def _short(text: str) -> str:
    """Digests and times at the length that eyes need. What is to be copied from is in lines and JSON."""
    return _TIME.sub(r"\1 \2", _DIGEST.sub(r"\1", text))


def size(count: int | None) -> str:
    """Bytes in a unit that fits: 1536 is 1.5 KiB."""
    if count is None:
        return "-"
    value, place = float(count), 0
    while value >= 1024 and place < len(_UNITS) - 1:
        value, place = value / 1024, place + 1
    return f"{count} B" if place == 0 else f"{value:.1f} {_UNITS[place]}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """So many of a thing: "1 blob", "1,234 blobs"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def amount(count: int, unit: str) -> str:
    """So many of a unit; bytes in one that fits."""
    return size(count) if unit == "bytes" else f"{count:,} {unit}".rstrip()


def time(text: str | None) -> str:
    """A point in time, to the second, as RFC 3339 in UTC; `-` for none."""
    if text is None:
        return "-"
    return datetime.fromisoformat(text).strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """The text without what would steer a terminal; names and messages come from clients."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
