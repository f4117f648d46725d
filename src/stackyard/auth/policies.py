"""What decides once it is known who is asking: one class per way of deciding."""

from dataclasses import dataclass
from typing import Protocol

from stackyard.auth.principals import EVERYTHING, Action, Principal
from stackyard.auth.rules import Rules


class Policy(Protocol):
    """May they? What a token is limited to is asked elsewhere, except where the token is all there is."""

    def allows(self, principal: Principal, action: Action, repository: str) -> bool:
        """Whether `principal` may do this."""
        ...

    def may_list(self, principal: Principal) -> bool:
        """Whether `principal` gets a list of repositories at all."""
        ...

    def lists(self, principal: Principal, repository: str) -> bool:
        """Whether `repository` is on the list that `principal` gets."""
        ...


class Open:
    """Everybody may everything but administrate."""

    def allows(self, principal: Principal, action: Action, repository: str) -> bool:
        """Whoever it is."""
        return action in EVERYTHING

    def may_list(self, principal: Principal) -> bool:
        """Whoever it is."""
        return True

    def lists(self, principal: Principal, repository: str) -> bool:
        """All of them."""
        return True


class Users:
    """Everybody who logged in may everything but administrate, as in Distribution."""

    def allows(self, principal: Principal, action: Action, repository: str) -> bool:
        """Whoever logged in."""
        return principal.identified and action in EVERYTHING

    def may_list(self, principal: Principal) -> bool:
        """Whoever logged in."""
        return principal.identified

    def lists(self, principal: Principal, repository: str) -> bool:
        """All of them."""
        return principal.identified


@dataclass(frozen=True, slots=True)
class Ruled:
    """The rules decide, at each use, so that a right that was taken away is gone whatever a token says."""

    rules: Rules

    def allows(self, principal: Principal, action: Action, repository: str) -> bool:
        """What the most specific rule says."""
        return action in self.rules.actions(principal, repository)

    def may_list(self, principal: Principal) -> bool:
        """Who logged in, and who has a token for it. Without either the answer is a challenge, even if some rule is
        about everybody: a client that could show a password and was not asked would see too short a list."""
        if principal.grants is None:
            return principal.identified
        return principal.catalog and (principal.identified or self.rules.know_anonymous)

    def lists(self, principal: Principal, repository: str) -> bool:
        """What the caller may pull."""
        return self.allows(principal, Action.PULL, repository)


class Carried:
    """The token of an external server decides, and nothing else is known."""

    def allows(self, principal: Principal, action: Action, repository: str) -> bool:
        """What the token carries."""
        return principal.grants is not None and principal.carries(action, repository)

    def may_list(self, principal: Principal) -> bool:
        """If the token says so."""
        return principal.catalog

    def lists(self, principal: Principal, repository: str) -> bool:
        """All of them, as in Distribution: the token was given for the whole list."""
        return principal.catalog
