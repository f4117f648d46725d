"""Why the server could not start."""


class StartError(Exception):
    """The server cannot start as it was told to. The message is one line for the person who started it."""
