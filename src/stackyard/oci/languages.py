"""What sets of patterns have in common: whether they can match any name at all, the same one, or all of another's.

Decided exactly, by walking through all of them at once, character by character, as automata.
"""

import re
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from stackyard.oci import names, regexes
from stackyard.oci.automata import CHARACTERS, TAG_CHARACTERS, Automaton, Piece, State, TooEntangled, representatives
from stackyard.oci.patterns import REGEX, WILDCARD

_FAR = 1_000_000  # steps, a second at most; rules that a person writes need some thousands


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


class AnyOf(Automaton):
    """The names that one of these patterns stands for, for repositories or (with `tags`) for tags.

    Making it raises Undecided where a regular expression is not understood, or very large.
    """

    def __init__(self, patterns: Sequence[str], *, tags: bool = False) -> None:
        """Make the automaton of all of them."""
        super().__init__()
        self.final = self.add()
        for pattern in patterns:
            regex = pattern.startswith(REGEX)
            piece = regexes.read(pattern.removeprefix(REGEX)) if regex else _glob(pattern, tags=tags)
            first = self.add()  # of its own: a glob may stay there
            self.skip(0, first)
            self.skip(piece(self, first), self.final)


def _glob(glob: str, *, tags: bool) -> Piece:
    def add(automaton: Automaton, here: int) -> int:
        for part in re.findall(rf"{WILDCARD}|.", glob):
            before, here = here, automaton.add()
            if part == "**/":
                within = automaton.add()
                automaton.skip(before, here)
                automaton.skip(before, within)
                automaton.move(within, CHARACTERS, within)
                automaton.move(within, frozenset("/"), here)
            elif part.startswith("*"):
                automaton.skip(before, here)
                automaton.move(before, CHARACTERS if part == "**" or tags else CHARACTERS - {"/"}, before)
            else:
                automaton.move(before, frozenset(part), here)
        return here

    return add


class RepositoryNames:
    """Every name in the grammar of repositories. States: between what has to be what next."""

    characters = CHARACTERS - frozenset(string.ascii_uppercase)
    longest = names.MAX_REPOSITORY_LENGTH
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
    """Every name in the grammar of tags, which `longest` is a part of."""

    characters = TAG_CHARACTERS
    longest = names.MAX_TAG_LENGTH

    def start(self) -> State:
        """See `Language`."""
        return frozenset({0})

    def step(self, state: State, character: str) -> State:
        """See `Language`."""
        return frozenset() if not state or (0 in state and character in ".-") else frozenset({1})

    def accepts(self, state: State) -> bool:
        """See `Language`."""
        return 1 in state


def exists(each: Sequence[Sequence[str]], none: Sequence[Sequence[str]] = (), *, tags: bool = False) -> bool:
    """Whether there is a name of a repository (or tag) that one pattern of each list in `each` stands for.

    Args:
        each: Patterns, as `check_repository_glob` (or `check_tag_pattern`) takes them.
        none: Lists of patterns as well, none of which may stand for the name.
        tags: Whether this is about tags.

    Raises:
        Undecided: A regular expression is not understood, or it is not found out within a bounded time.
    """
    grammar = TagNames() if tags else RepositoryNames()
    automata = [_any_of(tuple(patterns), tags) for patterns in (*each, *none)]
    languages: list[Language] = [grammar, *automata]
    alphabet = representatives(grammar.characters, set(map(frozenset, "._-/")).union(*(one.reads for one in automata)))
    needed = 1 + len(each)
    shortest = tuple(one.start() for one in languages)
    seen, now, steps = {shortest}, [shortest], 0
    for _ in range(grammar.longest + 1):
        longer = []
        for states in now:
            accepted = [one.accepts(state) for one, state in zip(languages, states, strict=True)]
            if all(accepted[:needed]) and not any(accepted[needed:]):
                return True
            steps += sum(map(len, states)) * len(alphabet)
            if steps > _FAR:
                raise TooEntangled
            for letter in alphabet:
                after = tuple(one.step(state, letter) for one, state in zip(languages, states, strict=True))
                if all(after[:needed]) and after not in seen:
                    seen.add(after)
                    longer.append(after)
        now = longer
    return False


@lru_cache(maxsize=1024)
def _any_of(patterns: tuple[str, ...], tags: bool) -> AnyOf:
    return AnyOf(patterns, tags=tags)
