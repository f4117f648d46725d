"""What every registry client of these tests can do."""

from typing import Protocol

from tests.support.images import Image
from tests.support.processes import Done


class Client(Protocol):
    """One client with a storage of its own, away from the machine's.

    References are whole: `host:port/repository:tag` or `…@digest`. A command
    that the client refuses raises `processes.Failed` with what it printed.
    """

    name: str

    def load(self, image: Image, reference: str) -> None:
        """Have `image` at hand under `reference`, ready to be pushed."""
        ...

    def push(self, reference: str) -> Done: ...

    def pull(self, reference: str) -> str:
        """Fetch it, every layer verified, and return the digest of its config."""
        ...

    def forget(self, reference: str) -> None:
        """Keep nothing of it, so that the next pull fetches every byte."""
        ...

    def login(self, address: str, user: str, password: str) -> Done:
        """Remember the password; all clients here but ctr ask the registry whether it is right."""
        ...

    def logout(self, address: str) -> Done: ...
