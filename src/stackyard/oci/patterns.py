"""Patterns for names of repositories and tags, as an administrator writes them into rules.

- In a glob for repositories `*` stays within one path component, `**` crosses them, and `**/` before a component also
  stands for none.
- In a glob for tags `*` stands for anything.
- `re:` before a tag's pattern makes it a regular expression in RE2's syntax, which has to match the whole tag.

No pattern takes long, whatever it is matched with. An expression made from a glob never goes back behind a piece that
it found once (`(?>…)`), which loses nothing: what the next wildcard could have taken from there, it can also take from
the first place. RE2 needs time in proportion to the text by design.
"""

import re
from functools import lru_cache
from typing import Protocol

REGEX = "re:"
_REPOSITORY_GLOB = re.compile(r"[a-z0-9._*-]+(?:/[a-z0-9._*-]+)*", re.ASCII)
_TAG_GLOB = re.compile(r"[A-Za-z0-9._*-]+", re.ASCII)
WILDCARD = r"(?:\A|(?<=/))\*\*/|\*\*|\*"
_WILDCARD = re.compile(f"({WILDCARD})")
_LONGEST = 512
"""Characters of a tag's pattern."""


class Pattern(Protocol):
    """What a name is matched with."""

    def fullmatch(self, text: str, /) -> object | None:
        """Something true when all of the text matches."""
        ...


def check_repository_glob(glob: str) -> str:
    """Return `glob`. Raises ValueError, with the reason, when it is none."""
    if not _REPOSITORY_GLOB.fullmatch(glob) or "***" in glob:
        raise ValueError(
            f"{glob[:60]!r} is not a repository name with * or ** in it: components of a-z, 0-9, '.', '_' and '-', "
            "with '/' between them"
        )
    return glob


def check_tag_pattern(pattern: str) -> str:
    """Return `pattern`. Raises ValueError, with the reason, when it is none."""
    if len(pattern) > _LONGEST:
        raise ValueError(f"a tag pattern is longer than {_LONGEST} characters")
    if pattern.startswith(REGEX):
        compile_tag_pattern(pattern)
    elif not _TAG_GLOB.fullmatch(pattern) or "**" in pattern:
        raise ValueError(f"{pattern[:60]!r} is neither a tag with * in it nor re: and a regular expression")
    return pattern


@lru_cache(maxsize=1024)
def compile_repository_glob(glob: str) -> re.Pattern[str]:
    """The expression that matches, in full, the repositories `glob` stands for."""
    pieces = _WILDCARD.split(glob)
    # Text, then wildcard and text, and so on. Between two `**` a piece holds texts and single stars.
    chunks: list[tuple[str, list[str]]] = [("", [pieces[0]])]
    for wildcard, text in zip(pieces[1::2], pieces[2::2], strict=True):
        if wildcard == "*":
            chunks[-1][1].append(text)
        else:
            chunks.append((wildcard, [text]))
    last = len(chunks) - 1
    expression = "".join(
        _chunk(wildcard, texts, is_last=number == last) for number, (wildcard, texts) in enumerate(chunks)
    )
    return re.compile(expression, re.ASCII | re.DOTALL)


def _chunk(wildcard: str, texts: list[str], *, is_last: bool) -> str:
    jump = {"": "", "**": ".*?", "**/": "(?:.*?/)??"}[wildcard]
    first, *rest = map(re.escape, texts)
    if not is_last:
        stars = "".join(f"(?>[^/]*?{text})" for text in rest[:-1]) + "".join(f"[^/]*?{text}" for text in rest[-1:])
        return f"(?>{jump}{first}{stars})"
    stars = "".join(f"(?>[^/]*?{text})" for text in rest[:-1]) + "".join(f"[^/]*{text}" for text in rest[-1:])
    return rf"{jump}{first}{stars}\Z"


@lru_cache(maxsize=1024)
def compile_tag_pattern(pattern: str) -> Pattern:
    """The expression that matches, in full, the tags `pattern` stands for. Raises ValueError for a bad `re:`."""
    if pattern.startswith(REGEX):
        return _compile_regex(pattern.removeprefix(REGEX))
    first, *rest = map(re.escape, pattern.split("*"))
    stars = "".join(f"(?>.*?{text})" for text in rest[:-1]) + "".join(f".*{text}" for text in rest[-1:])
    return re.compile(rf"{first}{stars}\Z", re.ASCII | re.DOTALL)


def _compile_regex(text: str) -> Pattern:
    import re2  # type: ignore[import-untyped]  # 3 MB that most installations need not load

    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "no regular expression"
        raise ValueError(f"{text[:60]!r} is not a regular expression: {reason}") from None
    return compiled
