"""Who is asking, and the four things one can be allowed to do."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What a rule or a token allows on a repository. None implies another: a docker push needs pull and push."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    ADMIN = "admin"


EVERYTHING = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
"""What `*` in the scope of a repository means; administration is asked for by a scope of its own."""
NOTHING: frozenset[Action] = frozenset()


class Kind(StrEnum):
    """Where a name comes from; names of two kinds are never the same principal."""

    ANONYMOUS = "anonymous"
    USER = "user"
    ROBOT = "robot"
    TOKEN = "token"  # noqa: S105  # a kind of name, not a secret
    LOCAL = "local"
    """A user of the machine, at the local socket or at the command line of a stopped server."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One repository and the actions a token carries for it."""

    repository: str
    actions: frozenset[Action]


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request."""

    kind: Kind
    name: str = ""
    groups: frozenset[str] = frozenset()
    grants: tuple[Grant, ...] | None = None
    """What the bearer token is limited to; None when the caller showed no token."""
    catalog: bool = False
    """Whether the token was given for the list of all repositories (`registry:catalog:*`)."""
    administration: bool = False
    """Whether the token was given for the admin API (`registry:administration:*`)."""

    @property
    def actor(self) -> str:
        """`user:alice`: how rows, logs and upload sessions name the caller. `anonymous` has no name."""
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    @property
    def identified(self) -> bool:
        """Whether anybody vouched for the caller."""
        return self.kind is not Kind.ANONYMOUS

    def carries(self, action: Action, repository: str) -> bool:
        """Whether the token, if there is one, was given for this."""
        if self.grants is None:
            return True
        return any(grant.repository == repository and action in grant.actions for grant in self.grants)


ANONYMOUS = Principal(Kind.ANONYMOUS)
