"""Finite automata over the characters of names: what a glob or a regular expression becomes to be compared."""

import string
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

State = frozenset[int]
Characters = frozenset[str]
When = Literal["always", "at the start", "at the end"]

TAG_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._-")
CHARACTERS = TAG_CHARACTERS | {"/"}
"""All that a name can have in it."""
_REMEMBERED = 10_000  # states in what was walked, half a megabyte at most
_MOST = 20_000  # states of one automaton; patterns that a person writes have some dozens


class Undecided(Exception):
    """Nobody can tell, or not within a bounded time."""


class TooEntangled(Undecided):
    """The question would take too long to answer."""


class Automaton:
    """It stands in several of its states, which are numbers, at once. It begins in state 0.

    Building it raises TooEntangled when it becomes too large.
    """

    def __init__(self) -> None:
        """Have one state, which is the final one until another is."""
        self.final = 0
        self._moves: list[list[tuple[Characters, int]]] = [[]]
        self._skips: list[list[tuple[When, int]]] = [[]]
        self._walked: dict[tuple[State, str], State] = {}
        self._remembered = 0

    @property
    def reads(self) -> set[Characters]:
        """The sets of characters that it tells from others."""
        return {characters for moves in self._moves for characters, _ in moves}

    def add(self) -> int:
        """Add a state; its number."""
        if len(self._moves) >= _MOST:
            raise TooEntangled
        self._moves.append([])
        self._skips.append([])
        return len(self._moves) - 1

    def move(self, here: int, characters: Characters, there: int) -> None:
        """Let any of these characters lead from one state to the other."""
        self._moves[here].append((characters, there))

    def skip(self, here: int, there: int, when: When = "always") -> None:
        """Lead from one state to the other without a character."""
        self._skips[here].append((when, there))

    def start(self) -> State:
        """See `Language`."""
        return self._closure({0}, "at the start")

    def step(self, state: State, character: str) -> State:
        """See `Language`."""
        known = self._walked.get((state, character))
        if known is None:
            read = {to for one in state for characters, to in self._moves[one] if character in characters}
            known = self._closure(read, "always")
            self._remembered += 1 + len(known)
            if self._remembered > _REMEMBERED:
                self._walked.clear()
                self._remembered = 0
            self._walked[state, character] = known
        return known

    def accepts(self, state: State) -> bool:
        """See `Language`. Of the empty name it may not know, which no name is."""
        return self.final in self._closure(set(state), "at the end")

    def _closure(self, states: set[int], when: When) -> State:
        """These states, and those that skips lead to there."""
        found, todo = set(states), list(states)
        while todo:
            for needs, to in self._skips[todo.pop()]:
                if to not in found and needs in ("always", when):
                    found.add(to)
                    todo.append(to)
        return frozenset(found)


def representatives(characters: Characters, reads: set[Characters]) -> list[str]:
    """One character for all that are in the same of the sets."""
    alike: dict[tuple[bool, ...], list[str]] = defaultdict(list)
    for one in sorted(characters):
        alike[tuple(one in each for each in reads)].append(one)
    return [first for first, *_ in alike.values()]


Piece = Callable[[Automaton, int], int]
"""Adds part of a pattern to an automaton, from a state on; the state where it ends."""
