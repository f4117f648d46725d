"""The whole of access behind one object: who is calling, and may they?

Exactly one of these holds, by the settings:

- nothing: everybody may pull, push and delete.
- silly: everybody who sends an Authorization header may.
- htpasswd: Basic challenge; every user of the file may, as in Distribution.
- rules, with or without htpasswd: Bearer challenge, since clients decide by the answer to `GET /v2/` whether they
  ask for anonymous tokens at all; we issue the tokens. A name and password sent directly are accepted, too.
- token: Bearer challenge; somebody else issues the tokens, and what they carry decides.

Administration (`Action.ADMIN`) is never part of these: it takes `admins` or a rule.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from stackyard.auth import basic, challenges
from stackyard.auth.basic import Credentials, Logins
from stackyard.auth.bearers import Bearers
from stackyard.auth.challenges import InsufficientScope, InvalidToken, Needed, error_name
from stackyard.auth.issuer import Issuer, TokenAnswer, TokenRequest, mark
from stackyard.auth.policies import Policy
from stackyard.auth.principals import ANONYMOUS, EVERYTHING, Action, Grant, Kind, Principal
from stackyard.auth.scopes import Scopes
from stackyard.oci.errors import Denied, RegistryError, RouteUnknown, Unauthorized

Challenge = Callable[[str, Needed, str | None], str]
"""From the base of absolute URLs, what is needed, and an error's name, to the value of `WWW-Authenticate`."""


@dataclass(slots=True)
class Access:
    """What `http` asks. Made by `opening.open_access`; each worker has its own."""

    policy: Policy
    ask: Challenge | None = None
    """How to ask for a login; None when nobody needs one."""
    anybody: Principal | None = None
    """Whom every Authorization header stands for, where none is looked at."""
    logins: Logins | None = None
    bearers: Bearers | None = None
    issuer: Issuer | None = None
    admins: frozenset[str] = frozenset()
    reloads: tuple[Callable[[], None], ...] = ()
    _watching: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def issues_tokens(self) -> bool:
        """Whether `/auth/token` is ours."""
        return self.issuer is not None

    def start(self) -> None:
        """Begin to watch the files that may change. Needs a running event loop."""
        if self.logins and self._watching is None:
            self._watching = asyncio.create_task(self.logins.file.watch())

    def reload(self) -> None:
        """Read every file again now. One that cannot be used is logged, and what it said before still holds."""
        for each in self.reloads:
            each()

    async def close(self) -> None:
        """Stop watching and checking."""
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        if self.logins:
            self.logins.close()

    # Who is it?

    def recall(self, authorization: str | None) -> Principal | None:
        """Who is calling, if that is known without any work: no header, or one that was verified before."""
        if not authorization:
            return ANONYMOUS
        if self.anybody:
            return self.anybody
        scheme, value = _split(authorization)
        if scheme == "bearer":
            return self.bearers.recall(value) if self.bearers else None
        if scheme != "basic" or not self.logins:
            return None
        try:
            return self.logins.recall_header(value)
        except Unauthorized:
            return None

    async def identify(self, authorization: str | None, address: str) -> Principal:
        """Who is calling.

        Args:
            authorization: The header's value, None when there is none. It may hold anything.
            address: Where the request comes from; wrong logins are counted by it.

        Raises:
            Unauthorized: The header is malformed, wrong, or of a scheme that is not in use here.
            TooManyRequests: Too many wrong logins; `Retry-After` is set.
        """
        if principal := self.recall(authorization):
            return principal
        scheme, value = _split(authorization or "")
        if scheme == "bearer" and self.bearers:
            return self.bearers.verify(value)
        if scheme == "basic" and self.takes_passwords:
            return await self._log_in(basic.parse(value), address)
        raise Unauthorized() if scheme != "bearer" else InvalidToken("tokens are not in use here")

    @property
    def takes_passwords(self) -> bool:
        """Whether Basic credentials mean anything."""
        return self.logins is not None or self.issuer is not None

    async def _log_in(self, given: Credentials, address: str) -> Principal:
        if given.empty:  # some clients always send Basic, and mean nobody by it
            return ANONYMOUS
        if not self.logins:
            raise Unauthorized("incorrect user name or password")
        return await self.logins.verify(given, address)

    # May they?

    def allows(self, principal: Principal, action: Action, repository: str) -> bool:
        """Whether the caller may do this: the token carries it, and the policy, now, agrees."""
        if not principal.carries(action, repository):
            return False
        return self.administers(principal) or self.policy.allows(principal, action, repository)

    def is_admin(self, principal: Principal) -> bool:
        """Whether the caller may administrate. A token for repositories is not enough for it."""
        return principal.grants is None and self.administers(principal)

    def may_use_api(self, principal: Principal) -> bool:
        """Whether the caller may use the admin API: an admin with a password, or with a token for just that.

        The token may be of an external server, which then vouches for the name as well; the list of admins is ours.
        """
        if principal.administration:
            return principal.name in self.admins and principal.kind in (Kind.USER, Kind.TOKEN)
        return self.is_admin(principal)

    def may_list_catalog(self, principal: Principal) -> bool:
        """Whether the caller may ask for the list of repositories."""
        return self.policy.may_list(principal)

    def sees_all(self, principal: Principal) -> bool:
        """Whether the list needs no filtering for this caller."""
        return self.administers(principal) or self.issuer is None

    def lists(self, principal: Principal, repository: str) -> bool:
        """Whether this repository belongs on the caller's list. A token for the list names no repositories, so this
        is another question than whether the token lets one pull."""
        return self.administers(principal) or self.policy.lists(principal, repository)

    def admits(self, principal: Principal) -> bool:
        """Whether `GET /v2/` answers 200. Where tokens are in use an anonymous one is enough, but none is not:
        clients take 200 to mean that they never need to ask for one."""
        return self.ask is None or principal.identified or principal.grants is not None

    def check_base(self, principal: Principal) -> None:
        """Raises Unauthorized unless the caller is admitted."""
        if not self.admits(principal):
            raise Unauthorized()

    def check_catalog(self, principal: Principal) -> None:
        """Raises Unauthorized or Denied unless the caller may list repositories."""
        if not self.may_list_catalog(principal):
            raise self.refusal(principal)

    def administers(self, principal: Principal) -> bool:
        """Whether the caller is an administrator, whatever its token was given for."""
        return principal.kind is Kind.USER and principal.name in self.admins

    # What to answer?

    def refusal(self, principal: Principal) -> RegistryError:
        """What a caller is told who may not: 401 when it can come back with more, else 403."""
        if principal.grants is not None:
            return InsufficientScope()
        return Denied() if principal.identified or self.ask is None else Unauthorized()

    def challenge(self, *, realm_base: str, needed: Needed = (), error: str | None = None) -> str:
        """The value of `WWW-Authenticate`.

        Args:
            realm_base: Scheme, host and prefix under which the client reached us; the token endpoint lies there.
            needed: What the request takes; empty for `GET /v2/`.
            error: `invalid_token` or `insufficient_scope`, only in answer to a token.
        """
        return self.ask(realm_base, needed, error) if self.ask else ""

    def challenged(self, error: RegistryError, *, realm_base: str, needed: Needed = ()) -> RegistryError:
        """The same error, with the challenge it must carry if it is a 401 that has none yet."""
        if isinstance(error, Unauthorized) and self.ask and "WWW-Authenticate" not in error.headers:
            error.headers["WWW-Authenticate"] = self.ask(realm_base, needed, error_name(error))
        return error

    # Tokens of our own

    async def token(self, request: TokenRequest) -> TokenAnswer:
        """A token for what was asked and is allowed, which may be nothing.

        Raises:
            Unauthorized: Wrong credentials, or a refresh token. Asks for Basic: that is what this endpoint takes.
            TooManyRequests: Too many wrong logins.
            BadRequest: A form that cannot be understood, or more scopes than fit in a token.
            RouteUnknown: No tokens are issued here.
        """
        if self.issuer is None:
            raise RouteUnknown()
        try:
            principal = await self._token_caller(request)
        except Unauthorized as error:
            error.headers["WWW-Authenticate"] = challenges.basic(self.issuer.service)
            raise
        stored = self.logins.stored(principal.name) if self.logins and principal.identified else None
        login = mark(principal.name, stored) if stored else None
        return self.issuer.issue(
            request, subject=principal.name, login=login, access=self._allowed(principal, request.asked)
        )

    async def _token_caller(self, request: TokenRequest) -> Principal:
        if request.method == "POST":
            return await self._log_in(request.form_credentials(), request.address)
        scheme, value = _split(request.authorization or "")
        if not scheme:
            return ANONYMOUS
        if scheme != "basic":
            raise Unauthorized()
        return await self._log_in(basic.parse(value), request.address)

    def _allowed(self, principal: Principal, asked: Scopes) -> Scopes:
        grants = []
        for grant in asked.grants:
            actions = frozenset(
                each for each in EVERYTHING & grant.actions if self.allows(principal, each, grant.repository)
            )
            if actions:
                grants.append(Grant(grant.repository, actions))
        with_token = replace(principal, grants=(), catalog=asked.catalog)
        administration = asked.administration and self.administers(principal)
        return Scopes(tuple(grants), self.may_list_catalog(with_token), administration)


def _split(authorization: str) -> tuple[str, str]:
    scheme, _, value = authorization.strip().partition(" ")
    return scheme.lower(), value.strip()
