"""From a bearer token to a principal: tokens of our own, and those of an external server."""

import time
from collections.abc import Callable
from dataclasses import replace

from stackyard.auth.basic import Logins
from stackyard.auth.challenges import InvalidToken
from stackyard.auth.issuer import mark
from stackyard.auth.principals import ANONYMOUS, Kind, Principal
from stackyard.auth.tokens import Claims, Recalled, TokenMemory, Verifier

# A subject goes into rows and logs as part of the actor.
_MAX_SUBJECT = 255


class Bearers:
    """Recognises tokens. `owned` ones are those we issued, whose subjects are users of our file."""

    def __init__(
        self,
        verifier: Verifier,
        *,
        owned: bool,
        logins: Logins | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds since the epoch."""
        self._verifier = verifier
        self._owned = owned
        self._logins = logins
        self._clock = clock
        self._memory = TokenMemory()

    def replace(self, verifier: Verifier) -> None:
        """Trust other keys from now on, and nothing that the former ones vouched for."""
        self._verifier, self._memory = verifier, TokenMemory()

    def recall(self, token: str) -> Principal | None:
        """The principal of a token that was verified before, has not ended, and whose login still stands."""
        found = self._memory.find(token)
        if found is None or found.expires <= self._clock():
            return None
        stands = found.user is None or self._stored(found.user) == found.stored
        return found.principal if stands else None

    def verify(self, token: str) -> Principal:
        """The principal of any valid token. Raises InvalidToken."""
        memory = self._memory  # not the one of keys that may come while this goes on
        claims = self._verifier.verify(token)
        recalled = self._own(claims) if self._owned else self._foreign(claims)
        memory.keep(token, recalled)
        return recalled.principal

    def _own(self, claims: Claims) -> Recalled:
        access = claims.access
        if not claims.subject:
            principal = replace(ANONYMOUS, grants=access.grants, catalog=access.catalog)
            return Recalled(principal, claims.expires)
        stored = self._stored(claims.subject)
        if self._logins is None or stored is None or mark(claims.subject, stored) != claims.login:
            raise InvalidToken("the login this token came from is no longer valid")
        principal = replace(
            self._logins.principal(claims.subject),
            grants=access.grants,
            catalog=access.catalog,
            administration=access.administration,
        )
        return Recalled(principal, claims.expires, claims.subject, stored)

    def _foreign(self, claims: Claims) -> Recalled:
        subject, access = claims.subject, claims.access
        if len(subject) > _MAX_SUBJECT or not (subject.isprintable() or not subject):
            raise InvalidToken("the token's subject is malformed")
        principal = Principal(
            Kind.TOKEN, subject, frozenset(), access.grants, access.catalog, administration=access.administration
        )
        return Recalled(principal, claims.expires)

    def _stored(self, user: str) -> bytes | None:
        return self._logins.stored(user) if self._logins else None
