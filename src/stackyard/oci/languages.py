"""What sets of globs have in common: whether they can match any name at all, the same one, or all of another's.

Decided exactly, by walking through all of them at once, character by character, as automata. Regular expressions are
not walked through: nothing is known of them but that equal ones are equal.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from stackyard.oci.patterns import REGEX

State = frozenset[int]
_ANY, _IN_COMPONENT = "any", "in component"  # no characters, so no literals
_FAR = 3_000  # states, a second at most; rules that a person writes need some hundreds


class TooEntangled(Exception):
    """The question would take too long to answer."""


class Language(Protocol):
    """An automaton."""

    def start(self) -> State:
        """Where it stands before the first character."""
        ...

    def step(self, state: State, character: str) -> State:
        """Where it stands after one more; the empty state when there is no way on."""
        ...

    def accepts(self, state: State) -> bool:
        """Whether what was read so far is in the language."""
        ...


class Glob:
    """A glob, for repositories or (with `tags`) for tags."""

    def __init__(self, glob: str, *, tags: bool = False) -> None:
        """Make its automaton. State n stands before the nth of `_moves`; each is what it reads, and where it leads."""
        self.literals = set(glob) - {"*"}
        self._moves: list[list[tuple[str, int]]] = [[]]
        self._skips: list[list[int]] = [[]]
        position = 0
        while position < len(glob):
            position += self._add(glob[position : position + 3], tags=tags)

    def _add(self, ahead: str, *, tags: bool) -> int:
        """Add the next token; how many characters it has."""
        here, there = len(self._moves) - 1, len(self._moves)
        if ahead == "**/":
            self._moves += [[(_ANY, there), ("/", there + 1)], []]
            self._skips[here] += [there, there + 1]
            self._skips += [[], []]
            return 3
        self._moves.append([])
        self._skips.append([])
        if not ahead.startswith("*"):
            self._moves[here].append((ahead[0], there))
            return 1
        crosses = ahead.startswith("**")
        self._moves[here].append((_ANY if crosses or tags else _IN_COMPONENT, here))
        self._skips[here].append(there)
        return 2 if crosses else 1

    def start(self) -> State:
        """See `Language`."""
        return self._closure({0})

    def step(self, state: State, character: str) -> State:
        """See `Language`."""
        return self._closure(
            {to for one in state for reads, to in self._moves[one] if reads == character or _wild(reads, character)}
        )

    def accepts(self, state: State) -> bool:
        """See `Language`."""
        return len(self._moves) - 1 in state

    def _closure(self, states: set[int]) -> State:
        found, todo = set(states), list(states)
        while todo:
            for skip in self._skips[todo.pop()]:
                if skip not in found:
                    found.add(skip)
                    todo.append(skip)
        return frozenset(found)


def _wild(reads: str, character: str) -> bool:
    return reads == _ANY or (reads == _IN_COMPONENT and character != "/")


class RepositoryNames:
    """Every name in the grammar of repositories. States: between what has to be what next."""

    # From → (letters, ".", "_", "-", "/"); 0 nowhere, 1 before a component, 2 after a letter, 3 after ".", 4 after
    # "_", 5 after "__", 6 after "-".
    _NEXT = {1: (2, 0, 0, 0, 0), 2: (2, 3, 4, 6, 1), 3: (2, 0, 0, 0, 0), 4: (2, 0, 5, 0, 0)} | {
        5: (2, 0, 0, 0, 0),
        6: (2, 0, 0, 6, 0),
    }

    def start(self) -> State:
        """See `Language`."""
        return frozenset({1})

    def step(self, state: State, character: str) -> State:
        """See `Language`."""
        column = 1 + "._-/".find(character)
        return frozenset({to for one in state if (to := self._NEXT[one][column])})

    def accepts(self, state: State) -> bool:
        """See `Language`."""
        return 2 in state


class TagNames:
    """Every name in the grammar of tags, their greatest length left out."""

    def start(self) -> State:
        """See `Language`."""
        return frozenset({0})

    def step(self, state: State, character: str) -> State:
        """See `Language`."""
        return frozenset() if not state or (0 in state and character in ".-") else frozenset({1})

    def accepts(self, state: State) -> bool:
        """See `Language`."""
        return 1 in state


def exists(globs: Sequence[str], wanted: Callable[[Sequence[bool]], bool], *, tags: bool = False) -> bool:
    """Whether there is a name of a repository (or tag) of which `wanted` is true.

    Args:
        globs: No regular expressions.
        wanted: Takes for each glob whether it matches the name.
        tags: Whether this is about tags.

    Raises:
        TooEntangled: Not found out within a bounded time.
    """
    assert not any(one.startswith(REGEX) for one in globs)
    automata = [Glob(one, tags=tags) for one in globs]
    languages: list[Language] = [TagNames() if tags else RepositoryNames(), *automata]
    # Of all letters that no glob names, one stands for the others.
    named = set("._-" if tags else "._-/").union(*(one.literals for one in automata))
    other = next((letter for letter in "abcdefghijklmnopqrstuvwxyz0123456789" if letter not in named), None)
    alphabet = sorted(named | ({other} if other else set()))
    first = tuple(one.start() for one in languages)
    seen, todo = {first}, [first]
    while todo:
        states = todo.pop()
        valid, *matched = (one.accepts(state) for one, state in zip(languages, states, strict=True))
        if valid and wanted(matched):
            return True
        for letter in alphabet:
            after = tuple(one.step(state, letter) for one, state in zip(languages, states, strict=True))
            if after[0] and after not in seen:
                seen.add(after)
                todo.append(after)
        if len(seen) > _FAR:
            raise TooEntangled
    return False
