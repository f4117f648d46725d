"""Users, rules and headers, made in one line."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest

from stackyard.auth.principals import Action
from stackyard.auth.rules import Rule, Subject, SubjectKind


class Clock:
    """Seconds that a test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def line(user: str, password: str, *, cost: int = 4) -> str:
    """One line of an htpasswd file."""
    return f"{user}:{bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).decode()}"


def write(file: Path, passwords: Mapping[str, str]) -> Path:
    """An htpasswd file that is quick to check."""
    file.write_text("".join(line(user, password) + "\n" for user, password in passwords.items()))
    return file


def login(user: str, password: str) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def rule(who: str, glob: str, *actions: str) -> Rule:
    """`who` is `user:alice`, `group:devs`, `anonymous` or `authenticated`."""
    kind, _, name = who.partition(":")
    kinds: dict[str, SubjectKind] = {
        "user": "user",
        "robot": "robot",
        "group": "group",
        "anonymous": "anonymous",
        "authenticated": "authenticated",
    }
    return Rule(Subject(kinds[kind], name), glob, frozenset(map(Action, actions)))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The cost of every bcrypt computation inside the block, in order of their start."""
    costs: list[int] = []
    compute = bcrypt.hashpw

    def counting(password: bytes, salt: bytes) -> bytes:
        costs.append(int(salt[4:6]))
        return compute(password, salt)

    with monkeypatch.context() as patch:
        patch.setattr(bcrypt, "hashpw", counting)
        yield costs
