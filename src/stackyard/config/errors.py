"""What stops a start before it begins."""

from collections.abc import Sequence


class ConfigError(Exception):
    """The configuration cannot be used; one line per key says what to change. Holds no secret.

    Attributes:
        problems: `<key>: <what is wrong>; <what to do>`, in the order of the file.
        path: The file they are about, or None when there is none.
    """

    def __init__(self, problems: Sequence[str], *, path: str | None = None) -> None:
        self.problems = tuple(problems)
        self.path = path
        where = f"{path}: " if path else ""
        super().__init__("\n".join(where + problem for problem in self.problems))
