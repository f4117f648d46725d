"""Who the process runs as, and how it still reads the few files that only root may read.

The container image starts as root, as registry:2 does, because keys and htpasswd files lie there with mode 0600. From
`step_down` on, the process is the owner of the volume, so that whatever it writes belongs to whoever owned the volume
before: root for a volume that registry:2 wrote as root, the image's own account for a new one.

Keys and htpasswd files are read again when they change. For that a keeper stays behind: a child process, still root,
that opens for reading the files it was told of before the step, and does nothing else. It ends when the last process
that may ask it has ended.
"""

import contextlib
import errno
import os
import pwd
import signal
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_ANSWER_SECONDS = 5.0
_MAX_QUESTION = 4096
_MAX_ANSWER = 16

ACCOUNT = "stackyard"
"""The account that a new volume is given to. Where the system has none of this name, nobody steps down."""

Opener = Callable[[str, int], int]
"""As `open(…, opener=…)` takes it: path and flags in, a descriptor out. Raises OSError."""

_opener: Opener = os.open  # belongs to the process, as its user does


class CannotStepDown(Exception):
    """The process may not become the owner of the volume. The text says what to allow."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group, by number."""

    uid: int
    gid: int


def read_secret(path: Path) -> bytes:
    """The content of a file, also of one that only root may read if it was named to `step_down`. Raises OSError."""
    with open(path, "rb", opener=_opener) as file:
        return file.read()


def step_down(root: Path, secrets: Collection[Path] = (), account: str = ACCOUNT) -> None:
    """Make this process, and all that it forks, the owner of the volume at `root` for good.

    A folder that is new or empty and belongs to root is given to `account` first; one with content never changes
    hands. Without root's rights, or without such an account, nothing changes. `secrets` stay readable through
    `read_secret`, also when they are replaced later.

    To be called while the process has one thread, after the ports are open and the config is read, and before
    anything touches the volume or another process is forked.

    Raises:
        CannotStepDown: The kernel forbids it; a container needs CAP_CHOWN, CAP_SETGID and CAP_SETUID for it.
    """
    global _opener
    owner = _owner_of(root, account)
    if owner is None:
        return
    if secrets:
        _opener = _start_keeper(frozenset(map(str, secrets)))
    try:
        os.setgroups([])
        os.setgid(owner.gid)
        os.setuid(owner.uid)
    except PermissionError as error:
        raise CannotStepDown(
            f"{root} belongs to uid {owner.uid}, and this process may not become it: allow CAP_SETUID and CAP_SETGID, "
            f"or start as that user (--user {owner.uid}:{owner.gid})"
        ) from error


def _owner_of(root: Path, account: str) -> Owner | None:
    """Who to become, or None to stay who we are."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        return None
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    if folder.stat().st_uid == 0 and (folder != root or _is_empty(root)):
        root.mkdir(parents=True, exist_ok=True)
        _give(root, Owner(entry.pw_uid, entry.pw_gid))
        folder = root
    found = folder.stat()
    return Owner(found.st_uid, found.st_gid) if found.st_uid != 0 else None


def _is_empty(folder: Path) -> bool:
    """A fresh ext4 volume holds lost+found, and is still new."""
    return all(entry.name == "lost+found" for entry in os.scandir(folder))


def _give(root: Path, owner: Owner) -> None:
    try:
        os.chown(root, owner.uid, owner.gid)
    except PermissionError as error:
        raise CannotStepDown(
            f"{root} is new and belongs to root, and this process may not give it to uid {owner.uid}: allow CAP_CHOWN, "
            f"or run `chown {owner.uid}:{owner.gid}` on the folder, or start with --user as its owner"
        ) from error


def _start_keeper(secrets: frozenset[str]) -> Opener:
    """Fork the keeper and return an opener that asks it for what the caller may not open itself."""
    asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking.settimeout(_ANSWER_SECONDS)
    if os.fork() == 0:
        _keep(answering, secrets)
    answering.close()

    def opener(path: str, flags: int) -> int:
        try:
            return os.open(path, flags)
        except PermissionError:
            if path not in secrets:
                raise
        return _ask(asking, path)

    return opener


def _ask(keeper: socket.socket, path: str) -> int:
    """Every question brings the socket for its own answer, so workers that ask at once cannot mix theirs up."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        mine.settimeout(_ANSWER_SECONDS)
        socket.send_fds(keeper, [os.fsencode(path)], [theirs.fileno()])
        theirs.close()  # so that a keeper that dies now is seen at once
        answer, descriptors, _, _ = socket.recv_fds(mine, _MAX_ANSWER, 1)
    if descriptors:
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]
    code = int(answer or errno.EACCES)
    raise OSError(code, os.strerror(code), path)


def _keep(questions: socket.socket, secrets: frozenset[str]) -> NoReturn:
    """The keeper's whole life. Only `os._exit` leaves it: it must never return into a copy of the server."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # it ends after the server, not with its terminal
        _let_go_of_all_but(questions.fileno())
        while True:
            path, descriptors, _, _ = socket.recv_fds(questions, _MAX_QUESTION, 1)
            if not path:
                break
            if not descriptors:
                continue
            with socket.socket(fileno=descriptors[0]) as answer:
                _answer(answer, os.fsdecode(path), secrets)
    finally:
        os._exit(0)


def _answer(answer: socket.socket, path: str, secrets: frozenset[str]) -> None:
    try:
        if path not in secrets:
            raise PermissionError(errno.EACCES, "not one of the secrets")
        found = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _send(answer, str(error.errno).encode(), [])
        return
    _send(answer, b"0", [found])
    os.close(found)


def _send(answer: socket.socket, data: bytes, descriptors: list[int]) -> None:
    with contextlib.suppress(OSError):  # who asked has ended
        socket.send_fds(answer, [data], descriptors)


def _let_go_of_all_but(kept: int) -> None:
    """Hold no port, log pipe or terminal of the server open after it has ended."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))
