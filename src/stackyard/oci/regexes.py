"""Regular expressions as automata, as far as people use RE2's syntax in rules about tags."""

import re
import string
from collections.abc import Sequence

from stackyard.oci.automata import TAG_CHARACTERS, Automaton, Characters, Piece, Undecided, When

_DIGITS, _LETTERS = frozenset(string.digits), frozenset(string.ascii_letters)
_LOWER, _UPPER = frozenset(string.ascii_lowercase), frozenset(string.ascii_uppercase)
_NAMED: dict[str, Characters] = {
    "alnum": _LETTERS | _DIGITS,
    "alpha": _LETTERS,
    "ascii": TAG_CHARACTERS,
    "blank": frozenset(),
    "cntrl": frozenset(),
    "digit": _DIGITS,
    "graph": TAG_CHARACTERS,
    "lower": _LOWER,
    "print": TAG_CHARACTERS,
    "punct": frozenset("._-"),
    "space": frozenset(),
    "upper": _UPPER,
    "word": _LETTERS | _DIGITS | {"_"},
    "xdigit": frozenset(string.hexdigits),
}
_SHORT = {"d": "digit", "w": "word", "s": "space"}
_ANCHORS: dict[str, When] = {"^": "at the start", r"\A": "at the start", "$": "at the end", r"\z": "at the end"}

_NUMBER = "(?:0|[1-9][0-9]*)"  # what begins with another 0 is text
_REPEATED = re.compile(rf"(?:([*+?])|\{{({_NUMBER})(,({_NUMBER})?)?\}})\??")
_ANCHOR = re.compile(r"\^|\$|\\A|\\z")
_GROUP = re.compile(r"\((?:(?!\?)|\?P?<\w+>|\?([imsU]*)(-[imsU]+)?([:)]))")
_SHORT_CLASS = re.compile(r"\\([dDsSwW])")
_NAMED_CLASS = re.compile(r"\[:(\^?)([a-z]+):\]")
_CHARACTER = re.compile(r"\\([afnrtv])|\\([^A-Za-z0-9])|[^\\]", re.DOTALL)
_DEEPEST = 40  # groups within groups: this reads them by recursion


def read(text: str) -> Piece:
    """Read an expression for tags, without `re:`, which RE2 takes.

    Raises:
        Undecided: It says something that is not understood here.
    """
    return _Reader(text).whole()


class _Reader:
    """Goes through the text of an expression once.

    Lazy repetitions find something else first, and match the same. A tag holds no newline, so that of the flags only
    `i` matters.
    """

    def __init__(self, text: str) -> None:
        self._text, self._at, self._folds = text, 0, False

    def whole(self) -> Piece:
        piece = self._alternatives(0)
        if self._at < len(self._text):
            raise Undecided
        return piece

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match

    def _sees(self, characters: str) -> bool:
        return self._text[self._at : self._at + 1] in set(characters)

    def _alternatives(self, depth: int) -> Piece:
        """Up to the end of the group."""
        if depth > _DEEPEST:
            raise Undecided
        branches = [self._sequence(depth)]
        while self._sees("|"):
            self._at += 1
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else _one_of(branches)

    def _sequence(self, depth: int) -> Piece:
        pieces: list[Piece] = []
        while self._at < len(self._text) and not self._sees("|)"):
            pieces.append(self._piece(depth))
            if repeated := self._take(_REPEATED):
                pieces[-1] = _repeat(pieces[-1], *_bounds(repeated))
        return _one_after_the_other(pieces)

    def _piece(self, depth: int) -> Piece:
        if anchor := self._take(_ANCHOR):
            return _anchor(_ANCHORS[anchor[0]])
        if group := self._take(_GROUP):
            return self._group(group, depth)
        if self._sees("("):
            raise Undecided
        return _one_character(self._characters())

    def _group(self, group: re.Match[str], depth: int) -> Piece:
        before = self._folds
        on, off, end = group.groups(default="")
        self._folds = (self._folds or "i" in on) and "i" not in off
        if end == ")":  # flags for the rest of the group around it
            if _REPEATED.match(self._text, self._at):
                raise Undecided  # RE2 repeats what stands before the flags
            return _one_after_the_other([])
        inside = self._alternatives(depth + 1)
        self._at += 1
        self._folds = before
        return inside

    def _characters(self) -> Characters:
        """What stands here for one character."""
        if self._sees("["):
            return self._class()
        if self._sees("."):
            self._at += 1
            return TAG_CHARACTERS
        short = self._short_class()
        return self._range(self._character()) if short is None else short

    def _class(self) -> Characters:
        """`[…]`."""
        self._at += 1
        negated = self._sees("^")
        self._at += negated
        found, first = set[str](), True
        while first or not self._sees("]"):
            first = False
            found |= self._class_item()
        self._at += 1
        return TAG_CHARACTERS - found if negated else frozenset(found)

    def _class_item(self) -> Characters:
        if named := self._take(_NAMED_CLASS):
            characters = self._folded(_NAMED[named[2]])
            return TAG_CHARACTERS - characters if named[1] else characters
        short = self._short_class()
        if short is not None:
            return short
        low = self._character()
        if not self._sees("-") or self._text[self._at + 1 : self._at + 2] == "]":
            return self._range(low)
        self._at += 1
        return self._range(low, self._character())

    def _short_class(self) -> Characters | None:
        r"""`\d` and the like, where one stands here."""
        short = self._take(_SHORT_CLASS)
        if not short:
            return None
        characters = _NAMED[_SHORT[short[1].lower()]]
        return characters if short[1].islower() else TAG_CHARACTERS - characters

    def _character(self) -> str:
        character = self._take(_CHARACTER)
        if not character:
            raise Undecided
        return "\n" if character[1] else character[2] or character[0]  # any that no tag has, in place of \t

    def _range(self, low: str, high: str | None = None) -> Characters:
        high = high or low
        if self._folds and high > "\x7f":
            raise Undecided  # there are signs whose other case is a letter of tags
        return self._folded(frozenset(one for one in TAG_CHARACTERS if low <= one <= high))

    def _folded(self, characters: Characters) -> Characters:
        return frozenset({*characters, *"".join(characters).swapcase()}) if self._folds else characters


def _bounds(repeated: re.Match[str]) -> tuple[int, int | None]:
    sign, least, several, most = repeated.groups()
    if sign:
        return int(sign == "+"), 1 if sign == "?" else None
    if several:
        return int(least), int(most) if most else None
    return int(least), int(least)


def _one_character(characters: Characters) -> Piece:
    def add(automaton: Automaton, here: int) -> int:
        there = automaton.add()
        automaton.move(here, characters, there)
        return there

    return add


def _anchor(when: When) -> Piece:
    def add(automaton: Automaton, here: int) -> int:
        there = automaton.add()
        automaton.skip(here, there, when)
        return there

    return add


def _one_after_the_other(pieces: Sequence[Piece]) -> Piece:
    def add(automaton: Automaton, here: int) -> int:
        for piece in pieces:
            here = piece(automaton, here)
        return here

    return add


def _one_of(branches: Sequence[Piece]) -> Piece:
    def add(automaton: Automaton, here: int) -> int:
        ends = [branch(automaton, here) for branch in branches]
        there = automaton.add()
        for end in ends:
            automaton.skip(end, there)
        return there

    return add


def _repeat(piece: Piece, least: int, most: int | None) -> Piece:
    """From `least` times to `most`, or without end."""

    def add(automaton: Automaton, here: int) -> int:
        for _ in range(least):
            here = piece(automaton, here)
        there = automaton.add()
        automaton.skip(here, there)
        if most is None:
            automaton.skip(piece(automaton, there), there)
            return there
        for _ in range(most - least):
            here = piece(automaton, here)
            automaton.skip(here, there)
        return there

    return add
