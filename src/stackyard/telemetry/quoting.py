"""Foreign text inside a log line: it may look odd there, but never end the line or the quotes it stands in."""

import json

LONGEST = 1024  # characters of one value
LONGEST_ODD = 256  # characters of a value that has to be escaped: one may become six


def quoted(text: str) -> str:
    """The text for a place between double quotes: printable ASCII as it is, all else escaped as in JSON."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text if len(text) <= LONGEST else text[:LONGEST]
    return json.dumps(text[:LONGEST_ODD])[1:-1].replace("\x7f", "\\u007f")


def word(text: str) -> str:
    """The text as one word: as it is where that is plain, else between double quotes (logfmt)."""
    escaped = quoted(text)
    return escaped if escaped == text and text and " " not in text and "=" not in text else f'"{escaped}"'
