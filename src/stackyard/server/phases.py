"""What a connection does."""

from enum import IntEnum


class Phase(IntEnum):
    """What a connection is waiting for."""

    HEADER = 0
    """The rest of a header, or a new connection's first byte."""
    IDLE = 1
    BUSY = 2
    """A request is being answered."""
    SKIPPING = 3
    """Answered; the rest of the body is swallowed and the connection kept."""
    LINGERING = 4
    """Answered and to be closed; what still arrives is swallowed, or the kernel would reset the answer away."""
    CLOSING = 5
