"""What was read before, for as long as nothing at all was committed since."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stackyard.metadata.database import Database

T = TypeVar("T")


@dataclass(slots=True)
class Remembered(Generic[T]):
    """Answers of the database to questions that the clock has no part in.

    A registry is read for minutes on end between two commits, most of it a few tags again and again. On PostgreSQL,
    where nobody is told of the others' commits, nothing is remembered.
    """

    database: Database
    capacity: int
    """At most so many answers."""
    _version: object = None
    _held: dict[Hashable, T] = field(default_factory=dict)

    def now(self) -> dict[Hashable, T]:
        """All that is still true. What is read after this call may be added by `keep`, however long it takes."""
        version = self.database.version()
        if version is None:
            return {}
        if version != self._version:
            self._version, self._held = version, {}  # a new one: whoever reads on from before adds to the old one
        return self._held

    def keep(self, held: dict[Hashable, T], key: Hashable, answer: T) -> T:
        """Add to what `now` returned; the answer."""
        if len(held) < self.capacity:
            held[key] = answer
        return answer
