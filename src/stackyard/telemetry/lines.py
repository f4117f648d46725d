"""Whole lines to a descriptor, in one write each, so that those of several processes never mix."""

import os


def write_line(fd: int, line: bytes) -> None:
    """Write one line, its line break included. A reader that is gone or a full disk loses it, and nothing else."""
    try:
        written = os.write(fd, line)
        while written < len(line):
            line = line[written:]
            written = os.write(fd, line)
    except OSError:
        pass
