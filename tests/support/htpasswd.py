"""Password files, made by Apache's own tool."""

from collections.abc import Mapping
from pathlib import Path

from tests.support import tools
from tests.support.processes import run


def write(file: Path, passwords: Mapping[str, str], *, cost: int = 5) -> Path:
    """`file` with one bcrypt line per user, as `htpasswd -Bbn` prints it."""
    htpasswd = tools.path("htpasswd")
    lines = [run(htpasswd, "-nbB", "-C", str(cost), user, password).out.strip() for user, password in passwords.items()]
    file.write_text("\n".join(lines) + "\n")
    return file
