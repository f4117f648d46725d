"""Users and their bcrypt hashes, from a file in Apache's format that may change at any time.

One line is `name:hash`, as `htpasswd -B` writes it. As in Apache, blank lines and those starting with `#` are
nothing, what follows a second colon is ignored, and the first line of a name counts. Lines with another kind of hash
(MD5, SHA, crypt, plain text) are skipped: those users cannot log in.

The file is looked at every `LOOK` seconds, never on a request. `htpasswd` itself empties the file before it writes it,
so a file that vanished, lost all its users or ends within a line is not believed at once: the users known last stay
for `GRACE` seconds from the look that found it so. After that the file is taken at its word, so nobody gets in whose
line cannot be read. Both together stay under the two seconds in which a removed user must be refused.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import structlog

from stackyard.auth.errors import HtpasswdUnusable

Read: TypeAlias = Callable[[Path], bytes]
"""The content of a file. Raises OSError."""

LOOK = 0.5
GRACE = 0.9
MAX_COST = 17
"""The highest cost `htpasswd -C` takes; beyond it one login takes more than ten seconds."""
# A file system's clock may tick so coarsely that a second change leaves the same times.
_SETTLED_NS = 2_000_000_000
_HASH = re.compile(rb"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_log = structlog.get_logger("auth")


@dataclass(frozen=True, slots=True)
class Users:
    """What one reading of the file gave."""

    hashes: Mapping[str, bytes] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    """Numbers of the lines that let nobody in, from 1."""
    torn: bool = False
    """Whether the file ends within a line."""

    @property
    def highest_cost(self) -> int:
        """The cost of the slowest hash: what a refusal has to take, so that it tells nothing."""
        return max(map(cost, self.hashes.values()), default=10)


@dataclass(frozen=True, slots=True)
class _Observed:
    """One look at the file. `signature` changes whenever the file does; `problem` says why there is no content."""

    signature: object
    content: bytes
    problem: str = ""


def cost(stored: bytes) -> int:
    """The binary logarithm of the rounds of a bcrypt hash."""
    return int(stored[4:6])


def parse(content: bytes) -> Users:
    """Read every line that names a user with a bcrypt hash; never fails."""
    hashes: dict[str, bytes] = {}
    skipped = []
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(map(bytes.strip, lines), start=1):
        if not line or line.startswith(b"#"):
            continue
        name, stored = _entry(line)
        if name and stored:
            hashes.setdefault(name, stored)
        else:
            skipped.append(number)
    torn = bool(lines[-1].strip()) and skipped[-1:] == [len(lines)]
    return Users(hashes, tuple(skipped), torn)


def _entry(line: bytes) -> tuple[str, bytes]:
    name, _, rest = line.partition(b":")
    stored = rest.partition(b":")[0]
    match = _HASH.fullmatch(stored)
    if not match or not 4 <= int(match[1]) <= MAX_COST:
        return "", b""
    try:
        return name.decode(), stored
    except UnicodeDecodeError:
        return "", b""


class HtpasswdFile:
    """The users as of the last look. Every process has its own; `watch` keeps it fresh."""

    def __init__(
        self, path: Path, *, read: Read = Path.read_bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file once.

        Args:
            path: Where the file lies; it may be replaced there.
            read: How to read a file; after the process gave its rights away, it may need help.
            clock: Seconds that only go forward.

        Raises:
            HtpasswdUnusable: It is missing or unreadable.
        """
        self.users = Users()
        self._path = path
        self._read = read
        self._clock = clock
        self._seen: object = None
        self._doubted_since: float | None = None
        try:
            self._accept(parse(self._read(self._path)))
        except OSError as problem:
            raise HtpasswdUnusable(_advice(path, problem)) from problem

    def look(self) -> None:
        """Take over what changed in the file since the last look. Never fails; what is wrong is logged."""
        self._take(self._observe())

    def reread(self) -> None:
        """Look now, and do not trust the file's times."""
        self._seen = None
        self.look()

    async def watch(self) -> None:
        """Look again and again until cancelled.

        The file may lie on a network, so a thread reads it; what it says takes effect here, between two requests.
        """
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="htpasswd")  # never waits behind other people's slow reads
        try:
            while True:
                await asyncio.sleep(LOOK)
                try:
                    self._take(await loop.run_in_executor(thread, self._observe))
                except Exception:
                    # Whoever was removed must be refused, so whatever happens, the watch goes on.
                    _log.exception("looking at the htpasswd file failed", path=str(self._path))
        finally:
            thread.shutdown(wait=False)

    def _observe(self) -> "_Observed | None":
        """What the file holds now; None when nothing changed and nothing is in doubt."""
        try:
            seen = self._signature()
            if seen == self._seen and self._doubted_since is None:
                return None
            return _Observed(seen, self._read(self._path))
        except OSError as problem:
            return _Observed(None, b"", problem.strerror or str(problem))

    def _take(self, observed: "_Observed | None") -> None:
        if observed is None:
            return
        self._seen = observed.signature
        if observed.problem and self.users.hashes and self._doubted_since is None:
            _log.warning("the htpasswd file cannot be read", path=str(self._path), reason=observed.problem)
        self._consider(parse(observed.content))

    def _consider(self, users: Users) -> None:
        if users == self.users:
            self._doubted_since = None
            return
        if self.users.hashes and (users.torn or not users.hashes):
            now = self._clock()
            if self._doubted_since is None:
                self._doubted_since = now
                _log.warning("the htpasswd file looks half-written; its last users stay for now", path=str(self._path))
            if now - self._doubted_since < GRACE:
                return
            _log.error("the htpasswd file stays broken: only who can be read in it gets in", path=str(self._path))
        self._accept(users)

    def _accept(self, users: Users) -> None:
        self._doubted_since = None
        if users.skipped and users.skipped != self.users.skipped:
            _log.warning(
                "users of the htpasswd file without a bcrypt hash cannot log in; give them one with: htpasswd -B",
                path=str(self._path),
                lines=users.skipped[:10],
            )
        self.users = users

    def _signature(self) -> object:
        """Two equal ones mean that nothing changed in between; what may not be looked at is never equal."""
        try:
            stat = self._path.stat()
        except PermissionError:
            return object()
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < _SETTLED_NS:
            return object()
        return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _advice(path: Path, problem: OSError) -> str:
    if isinstance(problem, FileNotFoundError):
        return (
            f"there is no htpasswd file at {path}; make one with: htpasswd -Bbn USER PASSWORD > {path}\n"
            "(registry:2 would make up a user and write its password into the log, where others can read it)"
        )
    return f"the htpasswd file {path} cannot be read: {problem.strerror}"
