"""Asking before what cannot be undone."""

import signal
import sys

from stackyard.cli.client import Problem


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the person wants it. Raises Problem when nobody can be asked.

    `yes`: said so before. Ctrl-C ends it at once, although an event loop runs, which would wait for the answer.
    """
    if yes:
        return True
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
    if not answer:
        raise Problem("nobody is there to answer: say --yes")
    return answer.strip().lower() in ("y", "yes")
