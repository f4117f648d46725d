"""Digests: the grammar, and which algorithms this registry computes (image-spec, descriptor.md, "Digests")."""

import hashlib
import re
from typing import Self

from stackyard.oci.errors import DigestInvalid

_GRAMMAR = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}", re.ASCII)
ALGORITHMS = ("sha256", "sha512")


class Digest(str):
    """A valid digest of a supported algorithm, as text `algorithm:hex`.

    A `str`, so that it is a key, a column and a header as it stands; made only by `parse` and `of`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises DigestInvalid when `text` is not a digest this registry can verify."""
        if not _GRAMMAR.fullmatch(text):
            raise DigestInvalid("invalid or unsupported digest: sha256 or sha512 in lower-case hex is needed")
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of these bytes."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The encoded part."""
        return self.partition(":")[2]


def is_digest(text: str) -> bool:
    """Whether `text` is a digest of a supported algorithm."""
    return _GRAMMAR.fullmatch(text) is not None


class Hasher:
    """A running digest that knows how many bytes it has seen.

    `update` releases the interpreter lock for large chunks, so it belongs in the thread that writes them.
    """

    __slots__ = ("_running", "algorithm", "size")

    def __init__(self, algorithm: str = "sha256") -> None:
        """Start at no bytes."""
        self.algorithm = algorithm
        self.size = 0
        self._running = hashlib.new(algorithm)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """See these bytes."""
        self._running.update(chunk)
        self.size += len(chunk)

    def digest(self) -> Digest:
        """The digest of all bytes seen so far; more may follow."""
        return Digest(f"{self.algorithm}:{self._running.hexdigest()}")
