"""The configuration for a command, or one line per problem and the exit status for it."""

import os
import sys
from pathlib import Path

from stackyard.config.errors import ConfigError
from stackyard.config.load import DEFAULT_PATHS, Loaded, load

EX_CONFIG = 78  # sysexits.h


class Unusable(Exception):
    """The configuration cannot be used; that was said already."""


def load_config(file: Path | None) -> Loaded:
    """Read what the command was given. Raises Unusable after telling why."""
    try:
        return load(str(file) if file else None, os.environ, defaults=DEFAULT_PATHS)
    except ConfigError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"stackyard: {line}\n")
        raise Unusable from None
